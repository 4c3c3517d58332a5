//! Events that are held: found, read, tried again at once, and given up.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::{GenericClient, Row};

use super::Error;

/// A row of the outbox that is held.
#[derive(Clone, Debug, Serialize)]
pub struct HeldRow {
    /// Its number, which stays as long as it is held.
    pub id: i64,
    /// The routing key of its events; of replies, `reply`, and the queue if that is full.
    pub key: String,
    /// The broker's words if it refused them; none if no queue takes them.
    pub reason: Option<String>,
    /// How many events.
    pub events: i32,
    /// How long they are together.
    pub bytes: i32,
    /// When they were committed.
    pub created_at: Timestamp,
    /// When they are tried again.
    pub retry_at: Timestamp,
}

const COLUMNS: &str = "id, held_key, held_reason, events, octet_length(body), created_at, leased_until";

/// The rows that are held, the oldest first, at most `limit`.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn list(client: &impl GenericClient, limit: i64) -> Result<Vec<HeldRow>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM outbox WHERE held_key IS NOT NULL ORDER BY id LIMIT $1");
    Ok(client.query(&sql, &[&limit]).await?.iter().map(held).collect())
}

/// A row that is held, and its events, one a line.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn load(client: &impl GenericClient, id: i64) -> Result<Option<(HeldRow, Vec<u8>)>, Error> {
    let sql = format!("SELECT {COLUMNS}, body FROM outbox WHERE held_key IS NOT NULL AND id = $1");
    Ok(client.query_opt(&sql, &[&id]).await?.map(|row| (held(&row), row.get(7))))
}

/// Makes rows due that are held, all of them or these; returns their numbers.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn retry(client: &impl GenericClient, ids: Option<&[i64]>) -> Result<Vec<i64>, Error> {
    const RETRY: &str = "
        UPDATE outbox SET leased_until = clock_timestamp()
         WHERE held_key IS NOT NULL AND ($1::bigint[] IS NULL OR id = ANY($1))
        RETURNING id";
    Ok(client.query(RETRY, &[&ids]).await?.iter().map(|row| row.get(0)).collect())
}

/// Gives up rows that are held, for a reason that is kept with them in `outbox_discarded`; returns
/// their numbers.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn discard(client: &impl GenericClient, ids: &[i64], reason: &str) -> Result<Vec<i64>, Error> {
    const DISCARD: &str = "
        WITH gone AS (
            DELETE FROM outbox WHERE id = ANY($1) AND held_key IS NOT NULL
            RETURNING id, created_at, events, held_key, held_reason, body)
        INSERT INTO outbox_discarded (id, created_at, events, held_key, held_reason, body, reason)
        SELECT id, created_at, events, held_key, held_reason, body, $2 FROM gone
        RETURNING id";
    Ok(client.query(DISCARD, &[&ids, &reason]).await?.iter().map(|row| row.get(0)).collect())
}

fn held(row: &Row) -> HeldRow {
    HeldRow {
        id: row.get(0),
        key: row.get(1),
        reason: row.get(2),
        events: row.get(3),
        bytes: row.get(4),
        created_at: row.get(5),
        retry_at: row.get(6),
    }
}
