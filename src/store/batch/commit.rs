//! The end of a transaction, and the proof that what it has read and written is durable.

use std::future::Future;
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Error;

use super::super::StoreError;
use super::super::durable::MARK;

/// That a transaction's commit is durable as PostgreSQL is configured, and with it everything the
/// transaction has read. Only `commit` makes one.
#[derive(Debug)]
pub struct Proof(());

#[cfg(test)]
impl Proof {
    /// That the tables in memory have it.
    pub(super) const fn of_memory() -> Self {
        Self(())
    }
}

#[cfg(feature = "sabotage")]
impl Proof {
    /// Of nothing: that no other build can make one is what a broken daemon has to do without.
    pub(crate) const fn forged() -> Self {
        Self(())
    }
}

/// Commits. `writes` says that the transaction has written a row for certain; if not, it writes a record
/// for its COMMIT to wait for, see [`crate::store::durable`].
///
/// PostgreSQL answers the COMMIT of a failed transaction with success: the proof counts only once the
/// results of all statements before it were looked at, as in [`super::write::write_and_commit`].
///
/// A warning that takes the commit back ends the connection, see [`crate::store::driver`]: it is an
/// error here.
pub(super) async fn commit(client: &ClientWrapper, writes: bool) -> Result<Proof, Error> {
    let committed = if writes {
        client.batch_execute("COMMIT").await
    } else {
        // One trip. If the record can't be written the COMMIT behind it isn't carried out.
        client.batch_execute(&format!("{MARK}; COMMIT")).await
    };
    committed.map(|()| Proof(()))
}

/// The answer to a trip that ends in COMMIT. After `limit` the commit may or may not happen.
pub(super) async fn within<T>(limit: Duration, trip: impl Future<Output = T>) -> Result<T, StoreError> {
    tokio::time::timeout(limit, trip).await.map_err(|_| {
        let seconds = limit.as_secs();
        let reason = format!("no answer to COMMIT within {seconds} s; it may be waiting for a synchronous standby");
        StoreError::OutcomeUnknown(reason)
    })
}
