//! The task that drives a connection to PostgreSQL, and reads the warnings that come on it.
//!
//! COMMIT can succeed with a warning that the transaction may not be durable. PostgreSQL sends the warning before the
//! result of the COMMIT. So the connection is closed at the warning, and the caller gets "connection closed" instead of
//! success.

use std::future::poll_fn;
use std::sync::{Arc, OnceLock};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::{AsyncMessage, Client, Connection};
use tracing::{debug, warn};

/// A client, the task that drives its connection, and why that task has ended.
pub(super) type Driven = (Client, JoinHandle<()>, Ending);

/// The warning that ended a connection, if one did. It is only used for messages.
#[derive(Clone, Debug, Default)]
pub(super) struct Ending(Arc<OnceLock<String>>);

impl Ending {
    /// Returns the warning, with PostgreSQL's detail.
    pub(super) fn warning(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

/// Spawns a task that drives `connection` until it ends, or until a warning says that a commit may not be durable.
pub(super) fn drive<S, T>(client: Client, mut connection: Connection<S, T>) -> Driven
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let ending = Ending::default();
    let told = ending.clone();
    let until_the_end = async move {
        loop {
            match poll_fn(|cx| connection.poll_message(cx)).await {
                Some(Ok(AsyncMessage::Notice(notice))) if takes_a_commit_back(&notice) => {
                    let reason = explain(&notice);
                    warn!(
                        reason,
                        "PostgreSQL takes a commit back: its outcome is unknown, and the connection is closed"
                    );
                    let _ = told.0.set(reason);
                    return;
                }
                Some(Ok(AsyncMessage::Notice(notice))) => debug!(message = notice.message(), "PostgreSQL's notice"),
                Some(Ok(_)) => {}
                // The client gets the error.
                Some(Err(_)) | None => return,
            }
        }
    };
    (client, tokio::spawn(until_the_end), ending)
}

/// Returns true if a COMMIT with this warning is not a durable commit of the transaction. The message depends on
/// `lc_messages`, so SQLSTATE and the place in PostgreSQL's source decide:
///
/// - the wait for a synchronous standby was cancelled or ended: the transaction may be on this server only;
/// - there was no transaction: each statement was committed by itself, or in another session.
fn takes_a_commit_back(notice: &DbError) -> bool {
    notice.routine() == Some("SyncRepWaitForLSN")
        || notice.file().is_some_and(|file| file.ends_with("syncrep.c"))
        || *notice.code() == SqlState::ADMIN_SHUTDOWN
        // Not if a ROLLBACK raised it: a COMMIT behind a failed statement has ended the transaction already.
        || (*notice.code() == SqlState::NO_ACTIVE_SQL_TRANSACTION
            && notice.routine() != Some("UserAbortTransactionBlock"))
}

fn explain(notice: &DbError) -> String {
    let detail = notice.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
    format!("{}{detail}", notice.message())
}
