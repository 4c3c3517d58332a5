//! The table that maps each error of a commit to what happens to the batch.

use crate::health::Outage;
use crate::store::StoreError;

/// What happens to a batch that was not committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
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
    /// Returns the disposition of a batch whose commit failed with this error.
    pub const fn of_error(error: &StoreError) -> Self {
        match error {
            StoreError::Conflict(_) => Self::RetryNow,
            StoreError::OutcomeUnknown(_) => Self::LookAgain,
            StoreError::Unavailable(_) | StoreError::Denied(_) => Self::Pause,
            StoreError::Refused { .. } => Self::Bisect,
            StoreError::Broken(_) => Self::Crash,
        }
    }
}

impl From<StoreError> for Outage {
    fn from(error: StoreError) -> Self {
        Self { reason: error.to_string(), refused: matches!(error, StoreError::Denied(_)) }
    }
}
