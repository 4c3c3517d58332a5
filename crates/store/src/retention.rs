//! Removes the rows that are kept for a limited time.

use std::time::Duration;

use crate::gauges::PostgresGauges;
use crate::outbox::finish;
use crate::pool::{ConnectionGuard, Pool};
use crate::sql::named;
use settled_pipeline::labels::Kept;
use settled_pipeline::store::{RetentionStore, StoreError};

/// Removes rows on the connection that the gauges are measured on.
#[derive(Debug)]
pub struct PostgresRetention {
    pool: Pool,
}

impl PostgresRetention {
    /// Creates it, to share the connection of `gauges`.
    pub fn beside(gauges: &PostgresGauges) -> Self {
        Self { pool: gauges.pool().clone() }
    }
}

/// The oldest rows first, by an index. What another daemon removes is skipped.
macro_rules! remove {
    ($table:literal, $since:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " WHERE id IN (
                 SELECT id FROM ",
            $table,
            " WHERE ",
            $since,
            " < statement_timestamp() - make_interval(secs => {age})
                  ORDER BY ",
            $since,
            " LIMIT {limit} FOR UPDATE SKIP LOCKED)"
        )
    };
}

impl RetentionStore for PostgresRetention {
    async fn remove(&self, kept: Kept, age: Duration, limit: i64) -> Result<i64, StoreError> {
        let client = ConnectionGuard::take(&self.pool).await?;
        let age = age.as_secs_f64();
        let removed = match kept {
            Kept::DeadLetter => {
                named!(client.execute(remove!("dead_letter", "resolved_at"), age = age, limit = limit))
            }
            Kept::OutboxDiscarded => {
                named!(client.execute(remove!("outbox_discarded", "discarded_at"), age = age, limit = limit))
            }
        };
        finish(client, removed).map(u64::cast_signed)
    }
}
