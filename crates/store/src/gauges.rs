//! Measurements of the tables, for the gauges.

use jiff::Timestamp;
use tokio_postgres::Error;
use tokio_postgres::types::ToSql;

use crate::outbox::finish;
use crate::pool::{ConnectionGuard, Pool, PoolSetUpError, sized_pool};
use crate::{PostgresSettings, sql::named};
use settled_core::contract::DeadReason;
use settled_pipeline::settings::Live;
use settled_pipeline::store::{Depth, GaugeStore, StoreError, Unresolved, Waiting};

/// The counts are folded when they have more parts than this.
const MOST_PARTS: i64 = 100;

/// Measures the tables, on a connection of its own: payments that take all others do not keep it from measuring, and it
/// takes none from them.
#[derive(Debug)]
pub struct PostgresGauges {
    pool: Pool,
}

impl PostgresGauges {
    /// Creates it. It connects when it first measures.
    ///
    /// # Errors
    ///
    /// If a file that the settings name cannot be read.
    pub fn new(settings: impl Into<Live<PostgresSettings>>) -> Result<Self, PoolSetUpError> {
        Ok(Self { pool: sized_pool(settings.into(), 1)? })
    }

    pub(crate) const fn pool(&self) -> &Pool {
        &self.pool
    }
}

impl GaugeStore for PostgresGauges {
    async fn waiting(&self) -> Result<Waiting, StoreError> {
        let mut client = ConnectionGuard::take(&self.pool).await?;
        let measured = waiting(&mut client).await;
        finish(client, measured)
    }

    async fn holds_expiring(&self) -> Result<i64, StoreError> {
        self.count("SELECT count(*) FROM hold WHERE expires_at < statement_timestamp() + interval '1 hour'").await
    }

    async fn outbox(&self) -> Result<Depth, StoreError> {
        const DEPTH: &str = "
            SELECT count(*) AS rows, coalesce(sum(events), 0)::bigint AS events,
                   coalesce(sum(events) FILTER (WHERE held_key IS NOT NULL), 0)::bigint AS held,
                   coalesce(sum(events) FILTER (WHERE held_reason IS NOT NULL), 0)::bigint AS refused
              FROM (SELECT events, held_key, held_reason FROM outbox
                    UNION ALL SELECT events, NULL, NULL FROM stream_outbox) AS waiting";
        let client = ConnectionGuard::take(&self.pool).await?;
        let measured = client.query_one(DEPTH, &[]).await;
        let row = finish(client, measured)?;
        Ok(Depth {
            rows: row.get("rows"),
            events: row.get("events"),
            held: row.get("held"),
            refused: row.get("refused"),
        })
    }

    /// The row with the lowest id is the oldest: those that were created earlier and inserted later are held.
    async fn outbox_oldest_seconds(&self) -> Result<f64, StoreError> {
        const OLDEST: &str = "
            SELECT greatest(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8 AS seconds
              FROM ((SELECT created_at FROM outbox WHERE held_key IS NULL ORDER BY id LIMIT 1)
                    UNION ALL (SELECT created_at FROM stream_outbox ORDER BY id LIMIT 1)) AS oldest";
        let client = ConnectionGuard::take(&self.pool).await?;
        let measured = client.query_one(OLDEST, &[]).await;
        Ok(finish(client, measured)?.get("seconds"))
    }

    async fn dead_letters_open(&self) -> Result<Unresolved, StoreError> {
        const COUNT: &str = "SELECT count(*) FROM dead_letter WHERE resolution IS NULL";
        // The first of each reason, so that the index serves it.
        const OLDEST: &str = "
            SELECT greatest(coalesce(extract(epoch FROM clock_timestamp() - min(first.first_seen)), 0), 0)::float8
              FROM unnest($1::text[]) AS of (reason),
                   LATERAL (SELECT first_seen FROM dead_letter
                             WHERE resolution IS NULL AND dead_letter.reason = of.reason COLLATE \"C\"
                             ORDER BY id LIMIT 1) AS first";
        let client = ConnectionGuard::take(&self.pool).await?;
        let reasons = DeadReason::ALL.map(DeadReason::name);
        let reasons = reasons.as_slice();
        let oldest: &[&(dyn ToSql + Sync)] = &[&reasons];
        let measured =
            async { futures_util::try_join!(client.query_one(COUNT, &[]), client.query_one(OLDEST, oldest)) }.await;
        let (count, oldest) = finish(client, measured)?;
        Ok(Unresolved { count: count.get(0), oldest_seconds: oldest.get(0) })
    }

    async fn clock(&self) -> Result<Timestamp, StoreError> {
        let client = ConnectionGuard::take(&self.pool).await?;
        let read = client.query_one("SELECT clock_timestamp()", &[]).await;
        Ok(finish(client, read)?.get(0))
    }

    async fn unprocessable_open(&self) -> Result<i64, StoreError> {
        const OPEN: &str = "
            SELECT count(*) FROM (
                SELECT FROM dead_letter WHERE resolution IS NULL AND reason = 'unprocessable' LIMIT 1000) AS open";
        self.count(OPEN).await
    }
}

impl PostgresGauges {
    async fn count(&self, query: &str) -> Result<i64, StoreError> {
        let client = ConnectionGuard::take(&self.pool).await?;
        let counted = client.query_one(query, &[]).await;
        Ok(finish(client, counted)?.get(0))
    }
}

/// Adds up the counts that the triggers keep, and looks up the oldest tasks. All ages are by the database's clock.
async fn waiting(client: &mut ConnectionGuard) -> Result<Waiting, Error> {
    const COUNTS: &str = "
        SELECT what, coalesce(currency, '') AS currency, sum(rows)::bigint AS rows, sum(amount)::float8 AS amount,
               count(*) AS parts
          FROM waiting_count GROUP BY 1, 2";
    const OLDEST: &str = "
        SELECT greatest(coalesce(extract(epoch FROM clock_timestamp() - least(
                   (SELECT due_at FROM agenda ORDER BY due_at LIMIT 1),
                   (SELECT expires_at FROM hold ORDER BY expires_at LIMIT 1))), 0), 0)::float8 AS overdue,
               coalesce(extract(epoch FROM clock_timestamp() - (
                   SELECT since FROM agenda WHERE waits_for IS NULL ORDER BY since LIMIT 1)), 0)::float8 AS scheduled,
               coalesce(extract(epoch FROM clock_timestamp() - (
                   SELECT since FROM agenda WHERE waits_for IS NOT NULL ORDER BY since LIMIT 1)), 0)::float8 AS parked";
    let (counts, oldest) = futures_util::try_join!(client.query(COUNTS, &[]), client.query_one(OLDEST, &[]))?;
    let mut waiting = Waiting {
        scheduled_oldest_seconds: oldest.get("scheduled"),
        scheduled_overdue_seconds: oldest.get("overdue"),
        parked_oldest_seconds: oldest.get("parked"),
        ..Waiting::default()
    };
    let mut parts = 0;
    for row in &counts {
        let rows: i64 = row.get("rows");
        parts += row.get::<_, i64>("parts");
        match row.get("what") {
            "scheduled" => waiting.scheduled = rows,
            "parked" => waiting.parked = rows,
            _ if rows == 0 => {}
            _ => {
                waiting.holds += rows;
                waiting.held.push((row.get("currency"), row.get("amount")));
            }
        }
    }
    if parts > MOST_PARTS {
        fold(client).await?;
    }
    Ok(waiting)
}

/// Replaces the parts of the counts by their sums. Rows that another daemon is replacing are left to it. A crash of the
/// server undoes all of it or nothing, so it need not wait for the disk.
async fn fold(client: &mut ConnectionGuard) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    transaction.batch_execute("SET LOCAL synchronous_commit = off").await?;
    let folded = named!(transaction.execute(
        "WITH gone AS (
             DELETE FROM waiting_count
              WHERE id = ANY(ARRAY(SELECT id FROM waiting_count LIMIT {most} FOR UPDATE SKIP LOCKED))
             RETURNING what, currency, rows, amount)
         INSERT INTO waiting_count (what, currency, rows, amount)
         SELECT what, currency, sum(rows), sum(amount) FROM gone GROUP BY what, currency
         HAVING sum(rows) <> 0 OR sum(amount) <> 0",
        most = 10_000_i64,
    ));
    folded?;
    transaction.commit().await
}
