//! Waiting until what was read is durable.
//!
//! That a row can be read does not make it durable: after a restart, or after a cancelled wait for a synchronous
//! standby, a commit is visible that the standby may never get. And PostgreSQL does not wait for the disk at the COMMIT
//! of a transaction that has written nothing. So an empty record is written to the log, behind everything that was
//! read, and its commit is waited for.

use tokio_postgres::GenericClient;

use super::queries::Error;

/// Writes the record. Every user has the right to, unless it was revoked, and any `wal_level` will do.
pub(super) const MARK: &str = "SELECT pg_logical_emit_message(true, 'settled', '')";

/// Waits until everything that was read before is as durable as a payment.
///
/// # Errors
///
/// On an error it is unknown whether it is durable.
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
