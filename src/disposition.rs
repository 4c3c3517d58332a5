//! The one table: an answer or an error → what happens to the message.

use crate::store::{Answer, StoreError};

/// What happens to a message, or to a batch of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// A committed row says what became of it: acknowledge.
    Ack,
    /// Not decided yet: it keeps its place and is looked at again when what it waits for is done.
    SetAside,
    /// Another transaction was in the way: the whole batch again, at once, a bounded number of
    /// times; then like `Pause`.
    RetryNow,
    /// The commit may have happened: the whole batch again on another connection. The ids that
    /// did commit are then known, and answered as what they became.
    LookAgain,
    /// The infrastructure's fault, never charged to a message: wait, then the whole batch again.
    Pause,
    /// One task of the batch is refused: find it by halves, so that its neighbours are unharmed;
    /// alone, it becomes a dead letter.
    Bisect,
    /// An invariant doesn't hold: stop before harm is done. Nothing is acknowledged.
    Crash,
}

impl Disposition {
    /// Of a message with this answer.
    pub const fn of_answer(answer: &Answer) -> Self {
        match answer {
            Answer::Settled
            | Answer::Rejected(_)
            | Answer::Waiting(_)
            | Answer::StillWaiting
            | Answer::Duplicate
            | Answer::DeadLettered(_) => Self::Ack,
            Answer::SetAside { .. } => Self::SetAside,
        }
    }

    /// Of a batch with this error.
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
