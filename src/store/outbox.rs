//! What is still to be published, as rows: taken by lease, never followed by a cursor (an id
//! that commits late would be passed over).

mod keeping;

use std::time::Duration;

use tokio_postgres::{GenericClient, Row};

pub use self::keeping::{OutboxStore, PostgresOutbox};
use super::Parcel;

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// Events that no queue took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unrouted {
    /// Their routing key.
    pub key: String,
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

/// The oldest rows whose lease ran out, and how many events each has: a crashed daemon's, or
/// those that found no room in memory. Not the ones held for want of a queue.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn abandoned(client: &impl GenericClient, most: i64) -> Result<Vec<(i64, usize)>> {
    const ABANDONED: &str = "
        SELECT id, events FROM outbox WHERE held_key IS NULL AND leased_until < clock_timestamp()
         ORDER BY id LIMIT $1";
    Ok(client.query(ABANDONED, &[&most]).await?.iter().map(size).collect())
}

/// The oldest rows of a routing key that are held for want of a queue and due, and how many events
/// each has.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn held_of(client: &impl GenericClient, key: &str, most: i64) -> Result<Vec<(i64, usize)>> {
    const HELD: &str = "
        SELECT id, events FROM outbox WHERE held_key = $1 AND leased_until < clock_timestamp()
         ORDER BY id LIMIT $2";
    Ok(client.query(HELD, &[&key, &most]).await?.iter().map(size).collect())
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
        RETURNING id, body, events, held_key";
    let mut parcels: Vec<Parcel> =
        client.query(TAKE, &[&ids, &lease.as_secs_f64()]).await?.iter().map(parcel).collect();
    parcels.sort_unstable_by_key(|parcel| parcel.id);
    Ok(parcels)
}

/// Takes, of each routing key that no queue took, the oldest row that is due: a probe.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn take_held(client: &impl GenericClient, lease: Duration) -> Result<Vec<Parcel>> {
    const TAKE: &str = "
        UPDATE outbox SET leased_until = clock_timestamp() + make_interval(secs => $1)
         WHERE leased_until < clock_timestamp()
           AND id IN (SELECT min(id) FROM outbox WHERE held_key IS NOT NULL GROUP BY held_key)
        RETURNING id, body, events, held_key";
    Ok(client.query(TAKE, &[&lease.as_secs_f64()]).await?.iter().map(parcel).collect())
}

/// Keeps the events of a row that no queue took, by routing key, until `retry`; the row's
/// other events were published.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn hold(client: &mut impl GenericClient, id: i64, unrouted: &[Unrouted], retry: Duration) -> Result<()> {
    const INSERT: &str = "
        INSERT INTO outbox (held_key, body, events, leased_until)
        VALUES ($1, $2, $3, clock_timestamp() + make_interval(secs => $4))";
    let transaction = client.transaction().await?;
    let mine = transaction.execute("DELETE FROM outbox WHERE id = $1", &[&id]).await?;
    // A row that is gone was published, or is held, by whoever took it when its lease ran out.
    for Unrouted { key, lines, events } in unrouted.iter().filter(|_| mine > 0) {
        transaction.execute(INSERT, &[key, lines, events, &retry.as_secs_f64()]).await?;
    }
    transaction.commit().await
}

/// The state of the outbox: for the gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Depth {
    /// Rows, each the events of one batch.
    pub rows: i64,
    /// Events in them.
    pub events: i64,
    /// Events held because no queue takes them.
    pub held: i64,
    /// The age of the oldest row, in seconds.
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
               coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8
          FROM outbox";
    let row = client.query_one(DEPTH, &[]).await?;
    Ok(Depth { rows: row.get(0), events: row.get(1), held: row.get(2), oldest_seconds: row.get(3) })
}

/// How many dead letters wait for a person.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn open_dead_letters(client: &impl GenericClient) -> Result<i64> {
    Ok(client.query_one("SELECT count(*) FROM dead_letter WHERE resolution IS NULL", &[]).await?.get(0))
}

/// An id, and how many events it has.
fn size(row: &Row) -> (i64, usize) {
    (row.get(0), row.get::<_, i32>(1).unsigned_abs() as usize)
}

fn parcel(row: &Row) -> Parcel {
    let events: i32 = row.get(2);
    Parcel { id: row.get(0), body: row.get(1), events: events.unsigned_abs(), held_key: row.get(3) }
}
