//! The task that drives a connection to PostgreSQL, and reads the warnings that come on it.
//!
//! COMMIT can succeed with a warning that takes back what it means. It comes before the answer to
//! the COMMIT, so the connection ends at once and the answer is never handed over: whoever waits
//! for it gets "connection closed", as if the connection had been lost, and can't overlook it.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::{AsyncMessage, Connection};
use tracing::{debug, warn};

/// The last warning that ended a connection, for the message of the error that this leads to.
/// Nothing is decided by it.
static LAST: Mutex<Option<(Instant, String)>> = Mutex::new(None);

/// How long a closed connection is explained by the last warning.
const RECENT: Duration = Duration::from_secs(5);

/// Drives `connection` until it ends, or until PostgreSQL takes a commit back.
pub(super) async fn drive<S, T>(mut connection: Connection<S, T>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match poll_fn(|cx| connection.poll_message(cx)).await {
            Some(Ok(AsyncMessage::Notice(notice))) if takes_a_commit_back(&notice) => {
                let reason = explain(&notice);
                warn!(reason, "PostgreSQL takes a commit back: its outcome is unknown, and the connection is closed");
                *LAST.lock() = Some((Instant::now(), reason));
                return;
            }
            Some(Ok(AsyncMessage::Notice(notice))) => debug!(message = notice.message(), "PostgreSQL's notice"),
            Some(Ok(_)) => {}
            // The client is told how it ended.
            Some(Err(_)) | None => return,
        }
    }
}

/// Why a connection was closed just now, if a warning was the reason.
pub(super) fn why_closed() -> Option<String> {
    LAST.lock().as_ref().filter(|(at, _)| at.elapsed() < RECENT).map(|(_, reason)| reason.clone())
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
        || [SqlState::ADMIN_SHUTDOWN, SqlState::NO_ACTIVE_SQL_TRANSACTION].contains(notice.code())
}

fn explain(notice: &DbError) -> String {
    let detail = notice.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
    format!("{}{detail}", notice.message())
}
