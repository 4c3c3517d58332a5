//! The task that drives a connection to PostgreSQL, and reads the warnings that come on it.
//!
//! COMMIT can succeed with a warning that takes back what it means. It comes before the answer to
//! the COMMIT, so the connection ends at once and the answer is never handed over: whoever waits
//! for it gets "connection closed", as if the connection had been lost, and can't overlook it.

use std::future::poll_fn;
use std::sync::{Arc, OnceLock};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::{AsyncMessage, Client, Connection};
use tracing::{debug, warn};

/// A client, the task that drives its connection, and what that task says of the end.
pub(super) type Driven = (Client, JoinHandle<()>, Ending);

/// The warning that ended a connection, once one has. For the message of the error that this leads to;
/// nothing is decided by it.
#[derive(Clone, Debug, Default)]
pub(super) struct Ending(Arc<OnceLock<String>>);

impl Ending {
    /// Returns the warning, with PostgreSQL's detail.
    pub(super) fn warning(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

/// Has `connection` driven by a task of its own until it ends, or until PostgreSQL takes a commit back.
pub(super) fn drive<S, T>(client: Client, connection: Connection<S, T>) -> Driven
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let ending = Ending::default();
    (client, tokio::spawn(until_the_end(connection, ending.clone())), ending)
}

async fn until_the_end<S, T>(mut connection: Connection<S, T>, ending: Ending)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match poll_fn(|cx| connection.poll_message(cx)).await {
            Some(Ok(AsyncMessage::Notice(notice))) if takes_a_commit_back(&notice) => {
                let reason = explain(&notice);
                warn!(reason, "PostgreSQL takes a commit back: its outcome is unknown, and the connection is closed");
                let _ = ending.0.set(reason);
                return;
            }
            Some(Ok(AsyncMessage::Notice(notice))) => debug!(message = notice.message(), "PostgreSQL's notice"),
            Some(Ok(_)) => {}
            // The client is told how it ended.
            Some(Err(_)) | None => return,
        }
    }
}

/// Whether a COMMIT that comes with this warning has not done what COMMIT does. The text depends on
/// `lc_messages`, so PostgreSQL's code and the place in its source decide:
///
/// - the wait for a synchronous standby was cancelled or ended: the transaction is committed here,
///   and perhaps nowhere else;
/// - there was no transaction: each statement was committed by itself, or was another session's.
fn takes_a_commit_back(notice: &DbError) -> bool {
    notice.routine() == Some("SyncRepWaitForLSN")
        || notice.file().is_some_and(|file| file.ends_with("syncrep.c"))
        || *notice.code() == SqlState::ADMIN_SHUTDOWN
        // Not of a ROLLBACK: the COMMIT behind a failed statement has ended the transaction before it.
        || (*notice.code() == SqlState::NO_ACTIVE_SQL_TRANSACTION
            && notice.routine() != Some("UserAbortTransactionBlock"))
}

fn explain(notice: &DbError) -> String {
    let detail = notice.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
    format!("{}{detail}", notice.message())
}
