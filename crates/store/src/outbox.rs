//! The outbox: events that are still to be published. Rows are taken by lease; a cursor over the ids would skip a row
//! that commits late.

use std::time::Duration;

use tokio_postgres::{Error, Row};

use crate::error;
use crate::pool::{ConnectionGuard, Pool};
use crate::sql::named;
use settled_pipeline::store::{EventBatch, OutboxStore, RowSize, StoreError, Unrouted};

pub struct PostgresOutbox {
    pool: Pool,
}

impl PostgresOutbox {
    pub const fn new(pool: Pool) -> Self {
        Self { pool }
    }
}

impl OutboxStore for PostgresOutbox {
    /// Deletes published rows. The commit is asynchronous, so that it does not compete with payments for the disk: if a
    /// crash of the server undoes it, the events are published again, which is allowed.
    async fn delete(&self, ids: &[i64]) -> Result<(), StoreError> {
        let mut client = ConnectionGuard::take(&self.pool).await?;
        let deleted = async {
            let transaction = client.transaction().await?;
            transaction.batch_execute("SET LOCAL synchronous_commit = off").await?;
            named!(transaction.execute("DELETE FROM outbox WHERE id = ANY({ids})", ids = ids))?;
            transaction.commit().await
        };
        let deleted = deleted.await;
        finish(client, deleted)
    }

    async fn hold(&self, id: i64, unrouted: &[Unrouted], retry: Duration) -> Result<(), StoreError> {
        let mut client = ConnectionGuard::take(&self.pool).await?;
        let held = hold(&mut client, id, unrouted, retry).await;
        finish(client, held)
    }

    async fn renew(&self, ids: &[i64], lease: Duration) -> Result<(), StoreError> {
        let client = ConnectionGuard::take(&self.pool).await?;
        let renewed = named!(client.execute(
            "UPDATE outbox SET leased_until = clock_timestamp() + make_interval(secs => {lease}) WHERE id = ANY({ids})",
            ids = ids,
            lease = lease.as_secs_f64(),
        ));
        finish(client, renewed).map(drop)
    }

    /// Returns the oldest rows whose lease has run out and that are not held: those of a daemon that has crashed, or
    /// those for which there was no room in memory.
    async fn abandoned(&self, most: usize) -> Result<Vec<RowSize>, StoreError> {
        let client = ConnectionGuard::take(&self.pool).await?;
        let found = named!(client.query(
            "SELECT id, events, octet_length(body) AS bytes FROM outbox
              WHERE held_key IS NULL AND leased_until < statement_timestamp() ORDER BY id LIMIT {most}",
            most = limit(most),
        ));
        finish(client, found).map(sizes)
    }

    /// Returns the oldest due rows that are held for a routing key: those that the broker refused, or those for which
    /// there was no queue. The order is that of the index on the keys.
    async fn held_of(&self, key: &str, refused: bool, most: usize) -> Result<Vec<RowSize>, StoreError> {
        let client = ConnectionGuard::take(&self.pool).await?;
        let found = named!(client.query(
            "SELECT id, events, octet_length(body) AS bytes FROM outbox
              WHERE held_key BETWEEN {key} AND {key} AND (held_reason IS NOT NULL) = {refused}
                AND leased_until < statement_timestamp()
              ORDER BY held_key, id LIMIT {most}",
            key = key,
            refused = refused,
            most = limit(most),
        ));
        finish(client, found).map(sizes)
    }

    /// Returns the rows to try again: for each routing key without a queue its oldest row, if it is due, and at most
    /// `most` of the refused rows, those first that have waited longest. Looks up one key after the other, since there
    /// can be many rows of each; the refused rows are all read. The key is compared with >= and is part of the order, as
    /// PostgreSQL would else look through the rows of all keys in the order of their ids.
    async fn probes(&self, most: usize) -> Result<Vec<RowSize>, StoreError> {
        let client = ConnectionGuard::take(&self.pool).await?;
        let found = named!(client.query(
            "WITH RECURSIVE keys AS (
                 (SELECT held_key FROM outbox WHERE held_key IS NOT NULL ORDER BY held_key LIMIT 1)
                 UNION ALL
                 SELECT (SELECT held_key FROM outbox WHERE held_key > keys.held_key ORDER BY held_key LIMIT 1)
                   FROM keys WHERE held_key IS NOT NULL)
             SELECT oldest.id, oldest.events, oldest.bytes FROM keys
              CROSS JOIN LATERAL (
                  SELECT id, held_key, events, octet_length(body) AS bytes, leased_until FROM outbox
                   WHERE held_key >= keys.held_key AND held_reason IS NULL ORDER BY held_key, id LIMIT 1) AS oldest
              WHERE oldest.held_key = keys.held_key AND oldest.leased_until < statement_timestamp()
             UNION ALL
            (SELECT id, events, octet_length(body) FROM outbox
              WHERE held_reason IS NOT NULL AND leased_until < statement_timestamp()
              ORDER BY leased_until, id LIMIT {most})",
            most = limit(most),
        ));
        finish(client, found).map(sizes)
    }

    /// Leases those of the rows that nobody else has leased meanwhile. Returns them in the order of their ids.
    async fn take(&self, ids: &[i64], lease: Duration) -> Result<Vec<EventBatch>, StoreError> {
        let client = ConnectionGuard::take(&self.pool).await?;
        let taken = named!(client.query(
            "UPDATE outbox SET leased_until = clock_timestamp() + make_interval(secs => {lease})
              WHERE id IN (SELECT id FROM outbox
                            WHERE id = ANY({ids}) AND leased_until < clock_timestamp()
                            ORDER BY id FOR UPDATE SKIP LOCKED)
             RETURNING id, body, events, held_key, held_reason",
            ids = ids,
            lease = lease.as_secs_f64(),
        ));
        let mut event_batches: Vec<EventBatch> = finish(client, taken)?.iter().map(event_batch).collect();
        event_batches.sort_unstable_by_key(|event_batch| event_batch.id);
        Ok(event_batches)
    }

    /// Moves at most a few hundred rows, in their order. The stream's producer is given time to come back.
    async fn adopt(&self) -> Result<(), StoreError> {
        let client = ConnectionGuard::take(&self.pool).await?;
        let moved = named!(client.execute(
            "WITH moved AS (
                 DELETE FROM stream_outbox
                  WHERE id IN (SELECT id FROM stream_outbox
                                WHERE EXISTS (SELECT FROM stream_producer
                                               WHERE leased_until < clock_timestamp() - interval '10 s')
                                ORDER BY id LIMIT 500)
                 RETURNING id, created_at, events, body)
             INSERT INTO outbox (created_at, events, body, leased_until)
             SELECT created_at, events, body, '-infinity' FROM moved ORDER BY id",
        ));
        finish(client, moved).map(drop)
    }

    async fn drop_held_replies(&self, limit: Duration) -> Result<i64, StoreError> {
        let client = ConnectionGuard::take(&self.pool).await?;
        let dropped = named!(client.query_one(
            "WITH gone AS (
                 DELETE FROM outbox
                  WHERE (held_key = 'reply' OR held_key LIKE 'reply:%') AND leased_until < statement_timestamp()
                    AND created_at < statement_timestamp() - make_interval(secs => {limit})
                 RETURNING events)
             SELECT coalesce(sum(events), 0)::bigint AS events FROM gone",
            limit = limit.as_secs_f64(),
        ));
        Ok(finish(client, dropped)?.get("events"))
    }
}

/// Returns the connection to the pool if the statements on it have succeeded.
pub(crate) fn finish<T>(client: ConnectionGuard, answered: Result<T, Error>) -> Result<T, StoreError> {
    client.keep_if_well(answered.map_err(error::before_commit))
}

/// Replaces a row by held rows for its events that could not be published, one for each routing key and reason, due
/// after `retry`. The row's other events were published. The time of creation stays.
async fn hold(client: &mut ConnectionGuard, id: i64, unrouted: &[Unrouted], retry: Duration) -> Result<(), Error> {
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

fn limit(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

fn sizes(rows: Vec<Row>) -> Vec<RowSize> {
    let size = |row: &Row| {
        let (events, bytes): (i32, i32) = (row.get("events"), row.get("bytes"));
        RowSize { id: row.get("id"), events: events.unsigned_abs() as usize, bytes: bytes.unsigned_abs() as usize }
    };
    rows.iter().map(size).collect()
}

fn event_batch(row: &Row) -> EventBatch {
    let events: i32 = row.get("events");
    let (held_key, held_reason) = (row.get("held_key"), row.get("held_reason"));
    EventBatch { id: row.get("id"), body: row.get("body"), events: events.unsigned_abs(), held_key, held_reason }
}
