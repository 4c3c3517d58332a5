//! Interface to the database. The pipeline submits a batch and gets an outcome for each task, and with them the only
//! [`Proof`] that settles a delivery.

use std::future::Future;
use std::time::Duration;

use crate::labels::{Kept, Reflex, ReflexAction};
use settled_core::contract::{AccountName, DeadLetter, DeadReason, Message, PaymentState, Rejection, Task};
use settled_core::ledger::{Arrival, Pending};
use uuid::Uuid;

/// Limit for the bodies of a batch, in bytes: a batch that has reached it takes no more tasks. Rows, events and
/// buffers take several times as much memory during the commit. A thousand plain transfers are a quarter of a megabyte.
pub const MAX_BATCH_BYTES: usize = 2 << 20;

/// A message and its arrival number, submitted to the store for a decision.
#[derive(Clone, Copy, Debug)]
pub struct Submission<'a> {
    /// Its number in the order of arrival.
    pub arrival: Arrival,
    /// The message as it was received.
    pub message: &'a Message,
    /// The task to apply, or the dead letter to store.
    pub content: Result<&'a Task, &'a DeadLetter>,
    /// Whether the task is already stored as scheduled or parked and is now tried again.
    pub resumes: bool,
}

impl<'a> Submission<'a> {
    /// Creates a submission for a message that isn't stored yet.
    pub const fn of(arrival: Arrival, message: &'a Message) -> Self {
        Self { arrival, message, content: message.content.as_ref(), resumes: false }
    }
}

/// Outcome of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Committed: the task was applied.
    Settled,
    /// Committed: the ledger declined the task.
    Rejected(Rejection),
    /// Committed: the task is scheduled or parked.
    Waiting(PaymentState),
    /// The task was scheduled or parked before, and still is.
    StillWaiting,
    /// The outcome was committed before.
    Duplicate,
    /// Committed as a dead letter.
    DeadLettered(DeadReason),
    /// Nothing was committed: see [`settled_core::ledger::Outcome::Deferred`]. The delivery is not settled: the task
    /// keeps its place in the lane and is tried again when the tasks that it waits for are committed.
    Deferred {
        /// The account whose earlier tasks have to be decided first.
        waits_on: Option<AccountName>,
    },
}

impl Answer {
    /// Whether nothing is decided yet. Of any other answer there is a committed row.
    pub const fn is_deferred(&self) -> bool {
        matches!(self, Self::Deferred { .. })
    }
}

/// The events of a batch, for the relay.
#[derive(Debug)]
pub struct EventBatch {
    /// Id of the row, of the outbox or of the stream's.
    pub id: i64,
    /// The events, one per line.
    pub body: Vec<u8>,
    /// Number of lines in `body`, one for each event or reply.
    pub events: u32,
    /// The routing key for which there was no queue at the last attempt.
    pub held_key: Option<String>,
    /// Why the broker refused the events at the last attempt.
    pub held_reason: Option<String>,
}

/// A batch that was committed.
#[derive(Debug)]
pub struct Committed {
    /// Settles the deliveries of all answers that are not deferred; `None` if all are.
    pub proof: Option<Proof>,
    /// One answer per submission, in the same order.
    pub answers: Vec<Answer>,
    /// The events to publish; with a stream only the replies.
    pub event_batch: Option<EventBatch>,
    /// The events to append to the stream, if there is one.
    pub stream_batch: Option<EventBatch>,
    /// Number of waiting tasks that this batch has made due.
    pub woken: u64,
    /// Number of holds that were ended because they had run out.
    pub expired: usize,
    /// Number of tasks that took an account below its limit. Only a chargeback may.
    pub shortfalls: usize,
}

impl Committed {
    /// Returns true if a task was deferred: it has no outcome and stays in its lane.
    pub fn defers(&self) -> bool {
        self.answers.iter().any(Answer::is_deferred)
    }
}

/// Commits batches of tasks to the ledger.
pub trait BatchStore: Send + Sync + 'static {
    /// Ends those of the holds `expired` that have run out, decides the batch in order of arrival, and commits both.
    /// With `leased`, the events are leased to this process; without, the first sweeper publishes them.
    ///
    /// # Errors
    ///
    /// On an error, nothing is known to be committed. The same batch may be submitted again.
    fn commit(
        &self,
        batch: &[Submission<'_>],
        expired: &[Uuid],
        pending: &(impl Pending + Sync),
        leased: bool,
    ) -> impl Future<Output = Result<Committed, StoreError>> + Send;

    /// Returns what is due: at most `most` tasks and `most` holds.
    fn due(&self, most: usize) -> impl Future<Output = Result<Due, StoreError>> + Send;

    /// Makes a waiting task due after `by`.
    fn postpone(&self, task: Uuid, by: Duration) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Why a batch was not committed, or why it is unknown whether it was.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Conflict with another transaction: a deadlock, a serialization failure, or an id that another instance
    /// committed first. The batch was rolled back; retry it immediately.
    #[error("conflict: {0}")]
    Conflict(String),
    /// PostgreSQL is unreachable, full, read-only, too slow or not set up. Nothing was committed. Never charged to a
    /// message.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// PostgreSQL refuses the login: a wrong password, or a role that may not connect. Otherwise like
    /// [`Unavailable`](Self::Unavailable).
    #[error("refused: {0}")]
    Denied(String),
    /// The connection was lost during the commit: find out from the ids whether it happened.
    #[error("outcome unknown: {0}")]
    OutcomeUnknown(String),
    /// PostgreSQL refuses a row of some task in the batch: bisect.
    #[error("refused ({sqlstate}): {message}")]
    Refused {
        /// SQLSTATE code of the error.
        sqlstate: String,
        /// What PostgreSQL says about the row.
        message: String,
    },
    /// An invariant doesn't hold. Continuing could damage the ledger.
    #[error("broken invariant: {0}")]
    Broken(String),
}

/// Tasks and holds that are due now.
#[derive(Debug, Default)]
pub struct Due {
    /// Messages of scheduled and parked tasks, as they were received.
    pub tasks: Vec<Message>,
    /// Payments whose holds have expired.
    pub expired: Vec<Uuid>,
    /// Whether there may be more than was returned.
    pub more: bool,
}

impl Due {
    /// Returns true if nothing is due.
    pub const fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.expired.is_empty()
    }
}

/// Waiting tasks and holds, for the gauges of the same names.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs, reason = "the help texts of the metrics say what each one is")]
pub struct Waiting {
    pub scheduled: i64,
    pub scheduled_oldest_seconds: f64,
    pub scheduled_overdue_seconds: f64,
    pub parked: i64,
    pub parked_oldest_seconds: f64,
    pub holds: i64,
    /// Sum of the holds per currency, in minor units. The sum can exceed 64 bits.
    pub held: Vec<(String, f64)>,
}

/// Dead letters that nobody has resolved.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Unresolved {
    /// How many there are.
    pub count: i64,
    /// Time since the oldest came, 0 if there is none.
    pub oldest_seconds: f64,
}

/// Events of a row that no queue took or that the broker refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unrouted {
    /// Routing key of the events. Of replies it is `reply`, followed by the queue if that queue does not take them.
    pub key: String,
    /// Reason given by the broker, if it refused them.
    pub reason: Option<String>,
    /// The events, one per line.
    pub lines: Vec<u8>,
    /// Number of events in `lines`.
    pub events: i32,
}

/// Size of an outbox row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowSize {
    /// Id of the outbox row.
    pub id: i64,
    /// Number of events that the relay queue needs room for.
    pub events: usize,
    /// Total length of the events, in bytes.
    pub bytes: usize,
}

/// Proves that a transaction is committed and as durable as PostgreSQL is configured to make it, together with
/// everything that the transaction has read.
#[derive(Debug)]
pub struct Proof(());

impl Proof {
    /// Creates a proof without checking anything.
    ///
    /// If the commit isn't durable, settling a delivery with this proof can lose the message, so `clippy.toml`
    /// forbids the call. The exceptions are: the PostgreSQL store after a confirmed COMMIT, the in-memory tables,
    /// which no data outlives, and the seeded defects of the tests.
    #[must_use]
    pub const fn without_evidence() -> Self {
        Self(())
    }
}

/// State of the outbox, for the gauges `settled_outbox_…` of the same names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the help texts of the metrics say what each one is")]
pub struct Depth {
    pub rows: i64,
    /// Events in all rows: the gauge `settled_outbox_depth`.
    pub events: i64,
    pub held: i64,
    pub refused: i64,
}

/// Stores the events that are still to be published, as rows.
pub trait OutboxStore: Send + Sync + 'static {
    /// Deletes rows whose events are all confirmed. If a crash of the database undoes the deletion, their events are
    /// published again.
    fn delete(&self, ids: &[i64]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Replaces a row by one row for each routing key in `unrouted`, to be tried again after `retry`. The other
    /// events of the row are done.
    fn hold(
        &self,
        id: i64,
        unrouted: &[Unrouted],
        retry: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Prolongs the lease on rows that are still being published.
    fn renew(&self, ids: &[i64], lease: Duration) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns the oldest rows whose lease has expired: those of a daemon that crashed, or that didn't fit into the
    /// relay queue.
    fn abandoned(&self, most: usize) -> impl Future<Output = Result<Vec<RowSize>, StoreError>> + Send;

    /// Returns the oldest due rows held under `key`: either those that the broker refused, or those that no queue
    /// took.
    fn held_of(
        &self,
        key: &str,
        refused: bool,
        most: usize,
    ) -> impl Future<Output = Result<Vec<RowSize>, StoreError>> + Send;

    /// Returns the oldest due row of each held routing key.
    fn probes(&self, most: usize) -> impl Future<Output = Result<Vec<RowSize>, StoreError>> + Send;

    /// Leases those of the rows that aren't leased by now, and returns them.
    fn take(&self, ids: &[i64], lease: Duration) -> impl Future<Output = Result<Vec<EventBatch>, StoreError>> + Send;

    /// Takes over rows that were meant for a stream, if nobody appends to one any more.
    fn adopt(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Drops replies that have been held for longer than `limit`. Returns how many.
    fn drop_held_replies(&self, limit: Duration) -> impl Future<Output = Result<i64, StoreError>> + Send;
}

/// Something that a reflex did, or would have done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// The same each time it is written, so that a repetition changes nothing.
    pub id: Uuid,
    /// When, by the daemon's clock.
    pub at: jiff::Timestamp,
    /// The reflex that found a cause, or whose cause has gone.
    pub reflex: Reflex,
    /// What it did, or would have done if it were set to act.
    pub action: ReflexAction,
    /// The publisher, for a reflex that is about one.
    pub publisher: Option<String>,
    /// The cause; of an action that is undone, why.
    pub reason: String,
}

/// Keeps what reflexes do.
pub trait JournalStore: Send + Sync + 'static {
    /// Adds an entry, unless it is there already.
    fn record(&self, entry: &JournalEntry) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Removes rows that are kept for a limited time.
pub trait RetentionStore: Send + Sync + 'static {
    /// Removes at most `limit` rows whose time began longer than `age` ago, the oldest first. Returns how many.
    fn remove(&self, kept: Kept, age: Duration, limit: i64) -> impl Future<Output = Result<i64, StoreError>> + Send;
}

/// Measures the tables, for the gauges.
///
/// `waiting`, `outbox_oldest_seconds`, `unprocessable_open` and `clock` cost the same however many rows there are. The others read what they count.
pub trait GaugeStore: Send + Sync + 'static {
    /// Measures the waiting tasks and the holds.
    fn waiting(&self) -> impl Future<Output = Result<Waiting, StoreError>> + Send;

    /// Counts the holds that expire within an hour.
    fn holds_expiring(&self) -> impl Future<Output = Result<i64, StoreError>> + Send;

    /// Measures the outbox.
    fn outbox(&self) -> impl Future<Output = Result<Depth, StoreError>> + Send;

    /// Returns the age of the oldest outbox row that is not held, 0 if there is none.
    fn outbox_oldest_seconds(&self) -> impl Future<Output = Result<f64, StoreError>> + Send;

    /// Measures the dead letters that nobody has resolved.
    fn dead_letters_open(&self) -> impl Future<Output = Result<Unresolved, StoreError>> + Send;

    /// Returns the time of the database's clock.
    fn clock(&self) -> impl Future<Output = Result<jiff::Timestamp, StoreError>> + Send;

    /// Counts the open dead letters of tasks that only PostgreSQL refuses, up to a thousand of them.
    fn unprocessable_open(&self) -> impl Future<Output = Result<i64, StoreError>> + Send;
}
