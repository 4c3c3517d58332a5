//! What is still to be published, as rows: taken by lease, never followed by a cursor (an id
//! that commits late would be passed over).

mod keeping;

use std::time::Duration;

use tokio_postgres::types::ToSql;
use tokio_postgres::{GenericClient, Row};

pub use self::keeping::{OutboxStore, PostgresOutbox};
use super::Parcel;

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// Events that no queue took, or that the broker refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unrouted {
    /// Their routing key; of replies, `reply`, and the queue if it is the queue that doesn't take them.
    pub key: String,
    /// The broker's words if it refused them.
    pub reason: Option<String>,
    /// One a line.
    pub lines: Vec<u8>,
    /// How many.
    pub events: i32,
}

/// Deletes what was published. Not durable at once: a deletion that a crash of the server takes
/// back has its events published again, which they may be; and the batches that are being
/// committed meanwhile needn't share the disk with it.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn delete(client: &mut impl GenericClient, ids: &[i64]) -> Result<u64> {
    let transaction = client.transaction().await?;
    transaction.batch_execute("SET LOCAL synchronous_commit = off").await?;
    let deleted = transaction.execute("DELETE FROM outbox WHERE id = ANY($1)", &[&ids]).await?;
    transaction.commit().await?;
    Ok(deleted)
}

/// Prolongs the lease on rows that are still being published.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn renew(client: &impl GenericClient, ids: &[i64], lease: Duration) -> Result<u64> {
    const RENEW: &str =
        "UPDATE outbox SET leased_until = clock_timestamp() + make_interval(secs => $2) WHERE id = ANY($1)";
    client.execute(RENEW, &[&ids, &lease.as_secs_f64()]).await
}

/// How much room a row takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowSize {
    /// Its id.
    pub id: i64,
    /// How many events it has.
    pub events: usize,
    /// How long they are.
    pub bytes: usize,
}

/// The oldest rows whose lease ran out: a crashed daemon's, or those that found no room in memory.
/// Not the ones that are held.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn abandoned(client: &impl GenericClient, most: i64) -> Result<Vec<RowSize>> {
    const ABANDONED: &str = "
        SELECT id, events, octet_length(body) FROM outbox WHERE held_key IS NULL AND leased_until < clock_timestamp()
         ORDER BY id LIMIT $1";
    Ok(client.query(ABANDONED, &[&most]).await?.iter().map(size).collect())
}

/// The oldest rows of a routing key that are held and due: those that the broker refused, or those
/// that no queue took.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn held_of(client: &impl GenericClient, key: &str, refused: bool, most: i64) -> Result<Vec<RowSize>> {
    const HELD: &str = "
        SELECT id, events, octet_length(body) FROM outbox
         WHERE held_key = $1 AND (held_reason IS NOT NULL) = $2 AND leased_until < clock_timestamp()
         ORDER BY id LIMIT $3";
    Ok(client.query(HELD, &[&key, &refused, &most]).await?.iter().map(size).collect())
}

/// Takes those of the rows whose lease nobody has taken meanwhile.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn take(client: &impl GenericClient, ids: &[i64], lease: Duration) -> Result<Vec<Parcel>> {
    const TAKE: &str = "
        UPDATE outbox SET leased_until = clock_timestamp() + make_interval(secs => $2)
         WHERE id IN (SELECT id FROM outbox
                       WHERE id = ANY($1) AND leased_until < clock_timestamp()
                       ORDER BY id FOR UPDATE SKIP LOCKED)
        RETURNING id, body, events, held_key, held_reason";
    let mut parcels: Vec<Parcel> =
        client.query(TAKE, &[&ids, &lease.as_secs_f64()]).await?.iter().map(parcel).collect();
    parcels.sort_unstable_by_key(|parcel| parcel.id);
    Ok(parcels)
}

/// What is tried again, to see whether it is taken now: of each routing key that no queue took the
/// oldest row, if it is due, and those of the refused rows that have waited longest, at most `most`.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn probes(client: &impl GenericClient, most: i64) -> Result<Vec<RowSize>> {
    const PROBES: &str = "
        SELECT id, events, octet_length(body) FROM outbox
         WHERE leased_until < clock_timestamp()
           AND id IN (SELECT min(id) FROM outbox WHERE held_key IS NOT NULL AND held_reason IS NULL
                       GROUP BY held_key)
        UNION ALL
       (SELECT id, events, octet_length(body) FROM outbox
         WHERE held_reason IS NOT NULL AND leased_until < clock_timestamp()
         ORDER BY leased_until, id LIMIT $1)";
    Ok(client.query(PROBES, &[&most]).await?.iter().map(size).collect())
}

/// Keeps the events of a row that no queue took or the broker refused, by routing key and reason,
/// until `retry`; the row's other events were published. They are as old as they were.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn hold(client: &mut impl GenericClient, id: i64, unrouted: &[Unrouted], retry: Duration) -> Result<()> {
    const AGAIN: &str = "
        UPDATE outbox SET held_reason = $3, body = $4, events = $5,
                          leased_until = clock_timestamp() + make_interval(secs => $6)
         WHERE id = $1 AND held_key = $2";
    const INSERT: &str = "
        INSERT INTO outbox (created_at, held_key, held_reason, body, events, leased_until)
        VALUES ($1, $2, $3, $4, $5, clock_timestamp() + make_interval(secs => $6))";
    // What goes on being held keeps its id, by which people know it.
    if let [Unrouted { key, reason, lines, events }] = unrouted {
        let values: [&(dyn ToSql + Sync); 6] = [&id, key, reason, lines, events, &retry.as_secs_f64()];
        if client.execute(AGAIN, &values).await? > 0 {
            return Ok(());
        }
    }
    let transaction = client.transaction().await?;
    let mine = transaction.query_opt("DELETE FROM outbox WHERE id = $1 RETURNING created_at", &[&id]).await?;
    // A row that is gone was published, or is held, by whoever took it when its lease ran out.
    if let Some(row) = mine {
        let created_at: jiff::Timestamp = row.get(0);
        for Unrouted { key, reason, lines, events } in unrouted {
            let values: [&(dyn ToSql + Sync); 6] = [&created_at, key, reason, lines, events, &retry.as_secs_f64()];
            transaction.execute(INSERT, &values).await?;
        }
    }
    transaction.commit().await
}

/// Deletes replies that have been held for longer than `limit`; returns how many there were.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn drop_held_replies(client: &impl GenericClient, limit: Duration) -> Result<i64> {
    const DROP: &str = "
        WITH gone AS (
            DELETE FROM outbox
             WHERE (held_key = 'reply' OR held_key LIKE 'reply:%') AND leased_until < clock_timestamp()
               AND created_at < clock_timestamp() - make_interval(secs => $1)
            RETURNING events)
        SELECT coalesce(sum(events), 0)::bigint FROM gone";
    Ok(client.query_one(DROP, &[&limit.as_secs_f64()]).await?.get(0))
}

/// The state of the outbox: for the gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Depth {
    /// Rows, each the events of one batch.
    pub rows: i64,
    /// Events in them.
    pub events: i64,
    /// Events that are held.
    pub held: i64,
    /// Those of them that the broker refused.
    pub refused: i64,
    /// The age of the oldest row that is not held, in seconds.
    pub oldest_seconds: f64,
}

/// Measures the outbox.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn depth(client: &impl GenericClient) -> Result<Depth> {
    const DEPTH: &str = "
        SELECT count(*), coalesce(sum(events), 0)::bigint,
               coalesce(sum(events) FILTER (WHERE held_key IS NOT NULL), 0)::bigint,
               coalesce(sum(events) FILTER (WHERE held_reason IS NOT NULL), 0)::bigint,
               coalesce(extract(epoch FROM clock_timestamp()
                                           - min(created_at) FILTER (WHERE held_key IS NULL)), 0)::float8
          FROM outbox";
    let row = client.query_one(DEPTH, &[]).await?;
    Ok(Depth {
        rows: row.get(0),
        events: row.get(1),
        held: row.get(2),
        refused: row.get(3),
        oldest_seconds: row.get(4),
    })
}

/// How many dead letters wait for a person.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn open_dead_letters(client: &impl GenericClient) -> Result<i64> {
    Ok(client.query_one("SELECT count(*) FROM dead_letter WHERE resolution IS NULL", &[]).await?.get(0))
}

fn size(row: &Row) -> RowSize {
    let (events, bytes): (i32, i32) = (row.get(1), row.get(2));
    RowSize { id: row.get(0), events: events.unsigned_abs() as usize, bytes: bytes.unsigned_abs() as usize }
}

fn parcel(row: &Row) -> Parcel {
    let events: i32 = row.get(2);
    let (held_key, held_reason) = (row.get(3), row.get(4));
    Parcel { id: row.get(0), body: row.get(1), events: events.unsigned_abs(), held_key, held_reason }
}
