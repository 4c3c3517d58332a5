//! The end of a transaction, and the proof that what it has read and written is durable.

use std::future::Future;
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Error;

use super::super::durable::MARK;
use settled_pipeline::store::{Proof, StoreError};

/// Commits. `writes` says that the transaction has certainly written a row. If it may have not, a record is written to
/// the log so that the COMMIT waits for the disk, see [`mod@crate::durable`].
///
/// PostgreSQL reports success for the COMMIT of a failed transaction. So the caller must check the results of all
/// statements before it uses the proof, as in [`super::write::write_and_commit`].
///
/// # Errors
///
/// Also if PostgreSQL warns that the commit is not what it should be: the warning ends the connection, see
/// [`crate::driver`].
pub(super) async fn commit(client: &ClientWrapper, writes: bool) -> Result<Proof, Error> {
    let committed = if writes {
        client.batch_execute("COMMIT").await
    } else {
        // One round trip. If the record cannot be written, the COMMIT behind it is not carried out.
        client.batch_execute(&format!("{MARK}; COMMIT")).await
    };
    #[expect(clippy::disallowed_methods, reason = "PostgreSQL has confirmed the COMMIT")]
    committed.map(|()| Proof::without_evidence())
}

/// Runs `trip`, which ends in a COMMIT.
///
/// # Errors
///
/// [`StoreError::OutcomeUnknown`] after `limit`: the commit may still happen.
pub(super) async fn within<T>(limit: Duration, trip: impl Future<Output = T>) -> Result<T, StoreError> {
    tokio::time::timeout(limit, trip).await.map_err(|_| {
        let seconds = limit.as_secs();
        let reason = format!("no answer to COMMIT within {seconds} s; it may be waiting for a synchronous standby");
        StoreError::OutcomeUnknown(reason)
    })
}

/// Runs `work`, which commits nothing.
///
/// # Errors
///
/// [`StoreError::Unavailable`] after `limit`.
pub(super) async fn timed<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, StoreError> {
    tokio::time::timeout(limit, work)
        .await
        .map_err(|_| StoreError::Unavailable(format!("no answer within {} s", limit.as_secs())))
}
