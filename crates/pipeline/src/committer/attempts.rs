//! Retries of one batch: error metrics and logs, pausing intake, and the delay before the next attempt.

use std::sync::atomic::Ordering;

use tracing::{debug, warn};

use super::{Committer, Patience};
use crate::disposition::Disposition;
use crate::labels::RetryKind;
use crate::retry::{Delays, RetrySettings};
use crate::settings::Live;
use crate::store::StoreError;

/// State of the attempts to commit one batch.
pub(super) struct Attempts {
    patience: Patience,
    delays: Delays,
    conflicts_left: u32,
    /// Whether this batch is one of those for which intake is paused.
    failing: bool,
    /// The first error since the last success that left it unknown whether the batch was committed.
    unknown: Option<String>,
}

impl Attempts {
    pub(super) fn new(retry: &Live<RetrySettings>, patience: Patience) -> Self {
        let (delays, conflicts_left) = (Delays::new(retry), retry.get().conflict_attempts);
        Self { patience, delays, conflicts_left, failing: false, unknown: None }
    }

    /// Records that a piece of the batch was committed. Resumes intake if no other batch is failing.
    pub(super) fn succeeded<S>(&mut self, committer: &Committer<S>) {
        if std::mem::take(&mut self.failing) && committer.failing.fetch_sub(1, Ordering::SeqCst) == 1 {
            committer.health.resume();
        }
        self.unknown = None;
        self.delays.reset();
    }

    /// Handles an error that isn't the fault of a task. Waits as long as the error requires. Returns whether to try
    /// again.
    pub(super) async fn goes_on<S>(
        &mut self,
        committer: &Committer<S>,
        disposition: Disposition,
        error: &StoreError,
    ) -> bool {
        let metrics = &committer.metrics;
        match (disposition, self.patience) {
            (Disposition::RetryNow, _) if self.conflicts_left > 0 => {
                self.conflicts_left -= 1;
                metrics.retries(RetryKind::Conflict).increment(1);
                debug!(%error, "another transaction was in the way: the batch again");
            }
            (_, Patience::Brief) => return false,
            (Disposition::LookAgain, Patience::Endless) => {
                metrics.unknown_commits.increment(1);
                metrics.retries(RetryKind::UnknownCommit).increment(1);
                warn!(%error, "it isn't known whether the batch was committed: looking its ids up");
                // The first time, a connection was lost. If it happens again, commits fail persistently.
                if self.unknown.is_some() {
                    self.pause(committer, error);
                }
                self.unknown.get_or_insert_with(|| error.to_string());
            }
            (_, Patience::Endless) => {
                metrics.retries(RetryKind::Unavailable).increment(1);
                self.pause(committer, error);
            }
        }
        if self.patience == Patience::Endless {
            tokio::time::sleep(self.delays.next_delay()).await;
            // Count the retry as progress: a pipeline that waits for an unreachable server is not stuck.
            committer.health.progress().tick();
        }
        true
    }

    /// Pauses intake. The reason starts with the unknown commit, if there was one: it explains later errors, such as
    /// a lock that its transaction still holds.
    fn pause<S>(&mut self, committer: &Committer<S>, error: &StoreError) {
        if !std::mem::replace(&mut self.failing, true) {
            committer.failing.fetch_add(1, Ordering::SeqCst);
        }
        committer.health.pause(match &self.unknown {
            Some(first) => format!("{first}; now {error}"),
            None => error.to_string(),
        });
    }
}
