//! The journal of reflexes: what daemons did by themselves.

use crate::gauges::PostgresGauges;
use crate::outbox::finish;
use crate::pool::{ConnectionGuard, Pool};
use crate::sql::named;
use settled_pipeline::store::{JournalEntry, JournalStore, StoreError};

/// Writes entries of this daemon, on the connection that the gauges are measured on.
#[derive(Debug)]
pub struct PostgresJournal {
    pool: Pool,
    /// Name of the machine.
    host: String,
}

impl PostgresJournal {
    /// Creates it for the daemon on `host`, to share the connection of `gauges`.
    pub fn beside(gauges: &PostgresGauges, host: String) -> Self {
        Self { pool: gauges.pool().clone(), host }
    }
}

impl JournalStore for PostgresJournal {
    async fn record(&self, entry: &JournalEntry) -> Result<(), StoreError> {
        let client = ConnectionGuard::take(&self.pool).await?;
        let recorded = named!(client.execute(
            "INSERT INTO reflex_action (id, at, host, pid, reflex, action, publisher, reason)
             VALUES ({id}, {at}, {host}, {pid}, {reflex}, {action}, {publisher}, {reason})
             ON CONFLICT (id) DO NOTHING",
            id = entry.id,
            at = entry.at,
            host = self.host,
            pid = std::process::id().cast_signed(),
            reflex = entry.reflex.name(),
            action = entry.action.name(),
            publisher = entry.publisher,
            reason = entry.reason,
        ));
        finish(client, recorded).map(drop)
    }
}
