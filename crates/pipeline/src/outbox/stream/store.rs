//! The seam to the tables of the stream's producer.

use std::future::Future;
use std::time::Duration;

use super::position::Kept;
use crate::store::{EventBatch, StoreError, Unrouted};

/// A row, which was given publishing ids for its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// Id of the row.
    pub row: i64,
    /// Number of its events, and of its publishing ids.
    pub events: u32,
}

/// The producer, as it was when this process took its lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Counts the changes. A change is made only by who knows the last one.
    pub version: i64,
    /// The publishing id of the first event of `rows`, or the next one if there are none.
    pub first_id: u64,
    /// The highest publishing id that was confirmed.
    pub confirmed_id: u64,
    /// The rows that have ids, in the order of their ids.
    pub rows: Vec<Given>,
}

/// A change of the producer.
#[derive(Clone, Debug)]
pub struct Advance<'a> {
    /// The version that is changed.
    pub version: i64,
    /// What is done, and what stays.
    pub kept: &'a Kept,
    /// How long the lease lasts from now on.
    pub lease: Duration,
    /// The most rows to give ids to.
    pub most_rows: usize,
    /// The number of events above which no further row is given ids.
    pub most_events: usize,
    /// The number of bytes above which no further row is given ids.
    pub most_bytes: usize,
}

/// Stores the events that are still to be appended, and who appends them.
pub trait StreamStore: Send + Sync + 'static {
    /// Returns the name of the ledger's producer, another one if the ledger is restored from a backup.
    fn producer(&self) -> impl Future<Output = Result<String, StoreError>> + Send;

    /// Takes the lease for `lease`, unless another process has it. A process that has it already takes it anew.
    fn take(&self, lease: Duration) -> impl Future<Output = Result<Option<Held>, StoreError>> + Send;

    /// Deletes the rows that are done, and gives ids to the oldest rows that have none. Returns these, or `None` if the
    /// lease was lost. It is committed, and durable, when it returns.
    fn advance(&self, advance: &Advance<'_>) -> impl Future<Output = Result<Option<Vec<Given>>, StoreError>> + Send;

    /// Returns the events of those of the rows that there are, in the order of their ids.
    fn read(&self, rows: &[i64]) -> impl Future<Output = Result<Vec<EventBatch>, StoreError>> + Send;

    /// Whether there is a row that has no ids yet, if `given` are those that have.
    fn has_more(&self, given: &[i64]) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Holds events of a row in the outbox, because the stream doesn't take them.
    fn set_aside(&self, row: i64, held: &[Unrouted]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Gives the lease back, if this process has it.
    fn give_back(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
}
