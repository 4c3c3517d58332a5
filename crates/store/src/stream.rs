//! The producer of the stream: events that are still to be appended, and which of them have which publishing ids.

use std::time::Duration;

use tokio_postgres::Row;
use uuid::Uuid;

use crate::outbox::finish;
use crate::pool::{ConnectionGuard, Pool};
use crate::sql::{named, query};
use settled_pipeline::outbox::{Advance, Given, Held, StreamStore};
use settled_pipeline::store::{EventBatch, StoreError, Unrouted};

pub struct PostgresStream {
    pool: Pool,
    /// This process, as the holder of the lease.
    holder: Uuid,
}

impl PostgresStream {
    /// Creates it on `pool`, as a holder of its own.
    pub fn new(pool: Pool) -> Self {
        Self { pool, holder: Uuid::now_v7() }
    }
}

query! {
    /// One statement, so that what is done goes, and who has which ids is known, in one transaction. Whoever has not the
    /// last version changes nothing.
    Change(advance: &Advance<'_>, holder: Uuid) {
        version = advance.version,
        holder = holder,
        lease = advance.lease.as_secs_f64(),
        done = advance.kept.done,
        kept = advance.kept.rows,
        kept_events = advance.kept.events,
        first_id = advance.kept.first_id.cast_signed(),
        confirmed_id = advance.kept.confirmed_id.cast_signed(),
        most_rows = bigint(advance.most_rows),
        most_events = bigint(advance.most_events),
        most_bytes = bigint(advance.most_bytes),
    }
    "WITH mine AS (
         SELECT FROM stream_producer WHERE version = {version} AND holder = {holder} FOR UPDATE),
     gone AS (
         DELETE FROM stream_outbox WHERE id = ANY({done}) AND EXISTS (SELECT FROM mine)),
     oldest AS (
         SELECT id, events, octet_length(body) AS bytes FROM stream_outbox
          WHERE id <> ALL({done}) AND id <> ALL({kept}) ORDER BY id LIMIT {most_rows}),
     given AS (
         SELECT id, events
           FROM (SELECT id, events, bytes, sum(events) OVER by_id AS all_events, sum(bytes) OVER by_id AS all_bytes
                   FROM oldest WINDOW by_id AS (ORDER BY id)) AS counted
          WHERE all_events - events < {most_events} AND all_bytes - bytes < {most_bytes}),
     changed AS (
         UPDATE stream_producer
            SET version = version + 1, leased_until = clock_timestamp() + make_interval(secs => {lease}),
                first_id = {first_id}, confirmed_id = {confirmed_id},
                rows = {kept} || ARRAY(SELECT id FROM given ORDER BY id),
                events = {kept_events} || ARRAY(SELECT events FROM given ORDER BY id)
          WHERE version = {version} AND EXISTS (SELECT FROM mine) RETURNING 1)
     SELECT EXISTS (SELECT FROM changed) AS is_mine, ARRAY(SELECT id FROM given ORDER BY id) AS rows,
            ARRAY(SELECT events FROM given ORDER BY id) AS events"
}

query! {
    More(given: &[i64]) {
        given = given,
    }
    "SELECT EXISTS (SELECT FROM stream_outbox WHERE id <> ALL({given})) AS has_more"
}

query! {
    Bodies(wanted: &[i64]) {
        wanted = wanted,
    }
    "SELECT id, body, events FROM stream_outbox WHERE id = ANY({wanted}) ORDER BY id"
}

impl StreamStore for PostgresStream {
    async fn producer(&self) -> Result<String, StoreError> {
        let client = ConnectionGuard::take(&self.pool).await?;
        let found = named!(client.query_one("SELECT 'settled/' || incarnation::text AS name FROM ledger"));
        Ok(finish(client, found)?.get("name"))
    }

    async fn take(&self, lease: Duration) -> Result<Option<Held>, StoreError> {
        let client = ConnectionGuard::take(&self.pool).await?;
        let taken = named!(client.query_opt(
            "UPDATE stream_producer
                SET version = version + 1, holder = {holder},
                    leased_until = clock_timestamp() + make_interval(secs => {lease})
              WHERE holder = {holder} OR leased_until < clock_timestamp()
             RETURNING version, first_id, confirmed_id, rows, events",
            holder = self.holder,
            lease = lease.as_secs_f64(),
        ));
        Ok(finish(client, taken)?.as_ref().map(held))
    }

    async fn advance(&self, advance: &Advance<'_>) -> Result<Option<Vec<Given>>, StoreError> {
        let client = ConnectionGuard::take(&self.pool).await?;
        let changed = async { Change::prepare(&client).await?.query(&client, advance, self.holder).await };
        let changed = changed.await;
        let rows = finish(client, changed)?;
        Ok(rows.first().filter(|row| row.get("is_mine")).map(given))
    }

    async fn read(&self, rows: &[i64]) -> Result<Vec<EventBatch>, StoreError> {
        let client = ConnectionGuard::take(&self.pool).await?;
        let found = async { Bodies::prepare(&client).await?.query(&client, rows).await };
        let found = found.await;
        Ok(finish(client, found)?.iter().map(event_batch).collect())
    }

    async fn has_more(&self, given: &[i64]) -> Result<bool, StoreError> {
        let client = ConnectionGuard::take(&self.pool).await?;
        let found = async { More::prepare(&client).await?.query(&client, given).await };
        let found = found.await;
        Ok(finish(client, found)?.first().is_some_and(|row| row.get("has_more")))
    }

    /// They are not tried again by themselves: to the exchange, they would go as a surprise.
    async fn set_aside(&self, row: i64, held: &[Unrouted]) -> Result<(), StoreError> {
        for Unrouted { key, reason, lines, events } in held {
            let client = ConnectionGuard::take(&self.pool).await?;
            let inserted = named!(client.execute(
                "INSERT INTO outbox (created_at, held_key, held_reason, body, events, leased_until)
                 SELECT created_at, {key}, {reason}, {lines}, {events}, clock_timestamp() + interval '100 years'
                   FROM stream_outbox WHERE id = {row}",
                row = row,
                key = key,
                reason = reason,
                lines = lines,
                events = events,
            ));
            finish(client, inserted)?;
        }
        Ok(())
    }

    async fn give_back(&self) -> Result<(), StoreError> {
        let client = ConnectionGuard::take(&self.pool).await?;
        let given_back = named!(client.execute(
            "UPDATE stream_producer SET leased_until = '-infinity' WHERE holder = {holder}",
            holder = self.holder,
        ));
        finish(client, given_back).map(drop)
    }
}

fn held(row: &Row) -> Held {
    let (first_id, confirmed_id): (i64, i64) = (row.get("first_id"), row.get("confirmed_id"));
    Held {
        version: row.get("version"),
        first_id: first_id.cast_unsigned(),
        confirmed_id: confirmed_id.cast_unsigned(),
        rows: given(row),
    }
}

fn given(row: &Row) -> Vec<Given> {
    let (rows, events): (Vec<i64>, Vec<i32>) = (row.get("rows"), row.get("events"));
    rows.into_iter().zip(events).map(|(row, events)| Given { row, events: events.unsigned_abs() }).collect()
}

fn event_batch(row: &Row) -> EventBatch {
    let events: i32 = row.get("events");
    EventBatch {
        id: row.get("id"),
        body: row.get("body"),
        events: events.unsigned_abs(),
        held_key: None,
        held_reason: None,
    }
}

fn bigint(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
