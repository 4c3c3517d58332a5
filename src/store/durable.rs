//! Waiting until what was read is durable.
//!
//! Reading a row says nothing about its durability: after a restart, or after a cancelled wait for a
//! synchronous standby, a commit can be seen that the standby may never get. Nor is the commit of a
//! transaction that writes nothing waited for. So a record that means nothing is written behind
//! everything that was read, and the commit of that is waited for.

use tokio_postgres::GenericClient;

use super::queries::Error;

/// Writes the record. It needs no more rights than every user has unless they were taken away, and works
/// whatever `wal_level` is.
pub(super) const MARK: &str = "SELECT pg_logical_emit_message(true, 'settled', '')";

/// Waits until everything that was read before is as durable as a payment of the daemon's.
///
/// # Errors
///
/// PostgreSQL's. Then it isn't known whether it is durable.
pub async fn durable(client: &impl GenericClient) -> Result<(), Error> {
    let marked = format!(
        "BEGIN;
         SELECT set_config('synchronous_commit', 'on', true)
          WHERE current_setting('synchronous_commit') IN ('off', 'local');
         {MARK};
         COMMIT"
    );
    Ok(client.batch_execute(&marked).await?)
}
