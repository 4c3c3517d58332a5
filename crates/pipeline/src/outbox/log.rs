//! The seam to the log that events are appended to, if `events.transport` is `"stream"`.
//!
//! A session is one connection that has declared a named producer. The log keeps the highest publishing id of each
//! producer name, and drops what comes with one that is not higher. RabbitMQ's streams implement it, and a simulated log
//! in tests.
//!
//! A log may consist of partitions, of which each does so for itself. All events of a payment are in one of them, in the
//! order in which they are appended. The publishing ids are those of one producer, so each partition has a growing part
//! of them.

use std::future::Future;

use super::publication::Publication;
use crate::health::Outage;

/// Opens connections to the log.
pub trait EventLog: Send + Sync + 'static {
    /// The sessions that are opened.
    type Session: LogSession;

    /// Attempts once to connect, to declare the log, and to declare the producer `name` on it.
    ///
    /// # Errors
    ///
    /// The reason, for operators, and whether the broker refuses access.
    fn open(&self, name: &str) -> impl Future<Output = Result<Self::Session, Outage>> + Send;
}

/// A connection to append on.
pub trait LogSession: Send + 'static {
    /// Returns the highest publishing id that the log has of the producer, or 0 if it has none. It may have it without
    /// having committed it.
    fn last_id(&mut self) -> impl Future<Output = Result<u64, SessionLost>> + Send;

    /// Whether opening the session has declared a partition anew that had events of the producer: it was deleted. If all
    /// of the log is new, [`Self::last_id`] tells.
    fn is_renewed(&self) -> bool;

    /// Appends messages whose publishing ids count up from `first_id`. Returns when they are handed to the system, which
    /// is long before they are confirmed, with the places of those that are longer than the log takes: they are left
    /// out, their ids with them.
    fn append(
        &mut self,
        first_id: u64,
        messages: &[Publication<'_>],
    ) -> impl Future<Output = Result<Vec<usize>, SessionLost>> + Send;

    /// Waits for confirms, and appends the publishing ids to `ids`: what was appended with them, or with them before,
    /// is committed. Nothing is lost if the future is dropped.
    fn confirmed(&mut self, ids: &mut Vec<u64>) -> impl Future<Output = Result<(), SessionLost>> + Send;

    /// Closes the connection, without waiting long for a broker that does not answer.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// Why a session is of no more use: the connection is lost, the log is gone, or its leader has moved.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SessionLost(pub String);
