//! The table that maps each outcome and each error to what happens to the message.

use crate::store::{Answer, StoreError};

/// What happens to a message or a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// A committed row records the outcome: acknowledge the message.
    Ack,
    /// Not decided yet: the task keeps its place in the lane and is tried again when the tasks it waits for are
    /// committed.
    Deferred,
    /// Conflict with another transaction: retry the whole batch immediately, a bounded number of times, then treat it
    /// as `Pause`.
    RetryNow,
    /// The commit may have happened: retry the whole batch on another connection. Ids that were committed are then
    /// found and get their recorded outcome.
    LookAgain,
    /// The infrastructure failed, which is never charged to a message: wait, then retry the whole batch.
    Pause,
    /// PostgreSQL refuses a task of the batch: bisect to find it, so that the others are committed. A task refused
    /// alone becomes a dead letter.
    Bisect,
    /// An invariant doesn't hold: stop the daemon without acknowledging anything.
    Crash,
}

impl Disposition {
    /// Returns the disposition of a message with this outcome.
    pub const fn of_answer(answer: &Answer) -> Self {
        match answer {
            Answer::Settled
            | Answer::Rejected(_)
            | Answer::Waiting(_)
            | Answer::StillWaiting
            | Answer::Duplicate
            | Answer::DeadLettered(_) => Self::Ack,
            Answer::Deferred { .. } => Self::Deferred,
        }
    }

    /// Returns the disposition of a batch whose commit failed with this error.
    pub const fn of_error(error: &StoreError) -> Self {
        match error {
            StoreError::Conflict(_) => Self::RetryNow,
            StoreError::OutcomeUnknown(_) => Self::LookAgain,
            StoreError::Unavailable(_) => Self::Pause,
            StoreError::Refused { .. } => Self::Bisect,
            StoreError::Broken(_) => Self::Crash,
        }
    }
}
