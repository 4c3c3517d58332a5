//! Held events: listed, read, retried and discarded.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::GenericClient;

use super::Error;
use crate::sql::{named, row};

row! {
    /// A held row of the outbox.
    #[derive(Clone, Debug, Serialize)]
    pub struct HeldRow {
        /// The row's id, which stays as long as it is held.
        pub id: i64,
        /// The routing key of its events. For replies it is `reply`, or `reply:` and the queue if that queue is full.
        pub key: String = "held_key",
        /// The broker's message if it refused them; `None` if no queue is bound.
        pub reason: Option<String> = "held_reason",
        pub events: i32,
        /// Size of the events, in bytes.
        pub bytes: i32,
        /// Time of the commit.
        pub created_at: Timestamp,
        /// Time of the next attempt.
        pub retry_at: Timestamp = "leased_until",
    }
}

macro_rules! columns {
    () => {
        "id, held_key, held_reason, events, octet_length(body) AS bytes, created_at, leased_until"
    };
}

/// Returns the oldest held rows with an id above `after`, at most `limit`.
pub async fn list(client: &impl GenericClient, after: i64, limit: i64) -> Result<Vec<HeldRow>, Error> {
    let rows = named!(client.query(
        concat!(
            "SELECT ",
            columns!(),
            " FROM outbox WHERE held_key IS NOT NULL AND id > {after} ORDER BY id LIMIT {limit}"
        ),
        after = after,
        limit = limit,
    ));
    Ok(rows?.iter().map(HeldRow::from).collect())
}

/// Returns a held row and its events, one per line.
pub async fn load(client: &impl GenericClient, id: i64) -> Result<Option<(HeldRow, Vec<u8>)>, Error> {
    let row = named!(client.query_opt(
        concat!("SELECT ", columns!(), ", body FROM outbox WHERE held_key IS NOT NULL AND id = {id}"),
        id = id,
    ));
    Ok(row?.map(|row| (HeldRow::from(&row), row.get("body"))))
}

/// Makes held rows due: those with these ids, or all. Returns their ids.
pub async fn retry(client: &impl GenericClient, ids: Option<&[i64]>) -> Result<Vec<i64>, Error> {
    let rows = named!(client.query(
        "UPDATE outbox SET leased_until = clock_timestamp()
          WHERE held_key IS NOT NULL AND ({ids}::bigint[] IS NULL OR id = ANY({ids}))
         RETURNING id",
        ids = ids,
    ));
    Ok(rows?.iter().map(|row| row.get("id")).collect())
}

/// Moves held rows to `outbox_discarded`, with the reason. Returns their ids.
pub async fn discard(client: &impl GenericClient, ids: &[i64], reason: &str) -> Result<Vec<i64>, Error> {
    let rows = named!(client.query(
        "WITH gone AS (
             DELETE FROM outbox WHERE id = ANY({ids}) AND held_key IS NOT NULL
             RETURNING id, created_at, events, held_key, held_reason, body)
         INSERT INTO outbox_discarded (id, created_at, events, held_key, held_reason, body, reason)
         SELECT id, created_at, events, held_key, held_reason, body, {reason} FROM gone
         RETURNING id",
        ids = ids,
        reason = reason,
    ));
    Ok(rows?.iter().map(|row| row.get("id")).collect())
}
