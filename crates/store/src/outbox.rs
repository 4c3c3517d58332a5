//! The outbox: events that are still to be published. Rows are taken by lease; a cursor over the ids would skip a row
//! that commits late.

mod keeping;

use std::time::Duration;

use tokio_postgres::{GenericClient, Row};

pub use self::keeping::PostgresOutbox;
use super::sql::named;
use settled_pipeline::store::{Depth, EventBatch, RowSize, Unrouted};

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// Deletes published rows. The commit is asynchronous, so that it does not compete with payments for the disk: if a
/// crash of the server undoes it, the events are published again, which is allowed.
pub async fn delete(client: &mut impl GenericClient, ids: &[i64]) -> Result<u64> {
    let transaction = client.transaction().await?;
    transaction.batch_execute("SET LOCAL synchronous_commit = off").await?;
    let deleted = named!(transaction.execute("DELETE FROM outbox WHERE id = ANY({ids})", ids = ids))?;
    transaction.commit().await?;
    Ok(deleted)
}

/// Renews the lease on rows that are still being published.
pub async fn renew(client: &impl GenericClient, ids: &[i64], lease: Duration) -> Result<u64> {
    named!(client.execute(
        "UPDATE outbox SET leased_until = clock_timestamp() + make_interval(secs => {lease}) WHERE id = ANY({ids})",
        ids = ids,
        lease = lease.as_secs_f64(),
    ))
}

/// Returns the oldest rows whose lease has run out and that are not held: those of a daemon that has crashed, or those
/// for which there was no room in memory.
pub async fn abandoned(client: &impl GenericClient, most: i64) -> Result<Vec<RowSize>> {
    let rows = named!(client.query(
        "SELECT id, events, octet_length(body) AS bytes FROM outbox
          WHERE held_key IS NULL AND leased_until < clock_timestamp() ORDER BY id LIMIT {most}",
        most = most,
    ));
    Ok(rows?.iter().map(size).collect())
}

/// Returns the oldest due rows that are held for a routing key: those that the broker refused, or those for which there
/// was no queue.
pub async fn held_of(client: &impl GenericClient, key: &str, refused: bool, most: i64) -> Result<Vec<RowSize>> {
    let rows = named!(client.query(
        "SELECT id, events, octet_length(body) AS bytes FROM outbox
          WHERE held_key = {key} AND (held_reason IS NOT NULL) = {refused} AND leased_until < clock_timestamp()
          ORDER BY id LIMIT {most}",
        key = key,
        refused = refused,
        most = most,
    ));
    Ok(rows?.iter().map(size).collect())
}

/// Leases those of the rows that nobody else has leased meanwhile. Returns them in the order of their ids.
pub async fn take(client: &impl GenericClient, ids: &[i64], lease: Duration) -> Result<Vec<EventBatch>> {
    let rows = named!(client.query(
        "UPDATE outbox SET leased_until = clock_timestamp() + make_interval(secs => {lease})
          WHERE id IN (SELECT id FROM outbox
                        WHERE id = ANY({ids}) AND leased_until < clock_timestamp()
                        ORDER BY id FOR UPDATE SKIP LOCKED)
         RETURNING id, body, events, held_key, held_reason",
        ids = ids,
        lease = lease.as_secs_f64(),
    ));
    let mut event_batches: Vec<EventBatch> = rows?.iter().map(event_batch).collect();
    event_batches.sort_unstable_by_key(|event_batch| event_batch.id);
    Ok(event_batches)
}

/// Returns the rows to try again: for each routing key without a queue its oldest row, if it is due, and at most `most`
/// of the refused rows, those first that have waited longest.
pub async fn probes(client: &impl GenericClient, most: i64) -> Result<Vec<RowSize>> {
    let rows = named!(client.query(
        "SELECT id, events, octet_length(body) AS bytes FROM outbox
          WHERE leased_until < clock_timestamp()
            AND id IN (SELECT min(id) FROM outbox WHERE held_key IS NOT NULL AND held_reason IS NULL
                        GROUP BY held_key)
         UNION ALL
        (SELECT id, events, octet_length(body) FROM outbox
          WHERE held_reason IS NOT NULL AND leased_until < clock_timestamp()
          ORDER BY leased_until, id LIMIT {most})",
        most = most,
    ));
    Ok(rows?.iter().map(size).collect())
}

/// Replaces a row by held rows for its events that could not be published, one for each routing key and reason, due
/// after `retry`. The row's other events were published. The time of creation stays.
pub async fn hold(client: &mut impl GenericClient, id: i64, unrouted: &[Unrouted], retry: Duration) -> Result<()> {
    // A row that stays held keeps its id: operators refer to it.
    if let [Unrouted { key, reason, lines, events }] = unrouted {
        let kept = named!(client.execute(
            "UPDATE outbox SET held_reason = {reason}, body = {lines}, events = {events},
                               leased_until = clock_timestamp() + make_interval(secs => {retry})
              WHERE id = {id} AND held_key = {key}",
            id = id,
            key = key,
            reason = reason,
            lines = lines,
            events = events,
            retry = retry.as_secs_f64(),
        ));
        if kept? > 0 {
            return Ok(());
        }
    }
    let transaction = client.transaction().await?;
    let mine = named!(transaction.query_opt("DELETE FROM outbox WHERE id = {id} RETURNING created_at", id = id))?;
    // If the row is gone, its lease had run out, and another daemon has published or held it.
    if let Some(row) = mine {
        let created_at: jiff::Timestamp = row.get("created_at");
        for Unrouted { key, reason, lines, events } in unrouted {
            let inserted = named!(transaction.execute(
                "INSERT INTO outbox (created_at, held_key, held_reason, body, events, leased_until)
                 VALUES ({created_at}, {key}, {reason}, {lines}, {events},
                         clock_timestamp() + make_interval(secs => {retry}))",
                created_at = created_at,
                key = key,
                reason = reason,
                lines = lines,
                events = events,
                retry = retry.as_secs_f64(),
            ));
            inserted?;
        }
    }
    transaction.commit().await
}

/// Deletes replies that have been held for longer than `limit`. Returns their number.
pub async fn drop_held_replies(client: &impl GenericClient, limit: Duration) -> Result<i64> {
    let dropped = named!(client.query_one(
        "WITH gone AS (
             DELETE FROM outbox
              WHERE (held_key = 'reply' OR held_key LIKE 'reply:%') AND leased_until < clock_timestamp()
                AND created_at < clock_timestamp() - make_interval(secs => {limit})
             RETURNING events)
         SELECT coalesce(sum(events), 0)::bigint AS events FROM gone",
        limit = limit.as_secs_f64(),
    ));
    Ok(dropped?.get("events"))
}

pub async fn depth(client: &impl GenericClient) -> Result<Depth> {
    const DEPTH: &str = "
        SELECT count(*) AS rows, coalesce(sum(events), 0)::bigint AS events,
               coalesce(sum(events) FILTER (WHERE held_key IS NOT NULL), 0)::bigint AS held,
               coalesce(sum(events) FILTER (WHERE held_reason IS NOT NULL), 0)::bigint AS refused,
               coalesce(extract(epoch FROM clock_timestamp()
                                           - min(created_at) FILTER (WHERE held_key IS NULL)), 0)::float8
               AS oldest_seconds
          FROM outbox";
    let row = client.query_one(DEPTH, &[]).await?;
    Ok(Depth {
        rows: row.get("rows"),
        events: row.get("events"),
        held: row.get("held"),
        refused: row.get("refused"),
        oldest_seconds: row.get("oldest_seconds"),
    })
}

/// Returns the number of open dead letters.
pub async fn open_dead_letters(client: &impl GenericClient) -> Result<i64> {
    let query = "SELECT count(*) AS open FROM dead_letter WHERE resolution IS NULL";
    Ok(client.query_one(query, &[]).await?.get("open"))
}

fn size(row: &Row) -> RowSize {
    let (events, bytes): (i32, i32) = (row.get("events"), row.get("bytes"));
    RowSize { id: row.get("id"), events: events.unsigned_abs() as usize, bytes: bytes.unsigned_abs() as usize }
}

fn event_batch(row: &Row) -> EventBatch {
    let events: i32 = row.get("events");
    let (held_key, held_reason) = (row.get("held_key"), row.get("held_reason"));
    EventBatch { id: row.get("id"), body: row.get("body"), events: events.unsigned_abs(), held_key, held_reason }
}
