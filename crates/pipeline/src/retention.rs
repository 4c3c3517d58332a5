//! Removes the rows whose time is over and that say nothing of money: dead letters that somebody has resolved, and
//! events that an operator has discarded. Payments, entries and steps of a payment are the books, and stay.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::labels::Kept;
use crate::metrics::Metrics;
use crate::section;
use crate::store::RetentionStore;

/// How often is looked for rows whose time is over.
const INTERVAL: Duration = Duration::from_secs(600);

/// The most rows of a transaction: whoever resolves a dead letter at the same time does not wait long.
const MOST_ROWS: i64 = 1000;

/// The pause between two transactions, so that removing years of rows takes no part worth mentioning of the database.
const PAUSE: Duration = Duration::from_millis(100);

const TEN_YEARS: Duration = Duration::from_secs(3653 * 24 * 3600);

section! {
    /// How long rows are kept that nobody needs.
    pub struct RetentionSettings in "retention",
        "How long is kept what says nothing of money any more. \"0s\" keeps it for ever. Payments and their entries always \
         stay.";

    /// How long a dead letter is kept after it was replayed or discarded. Open ones stay.
    pub dead_letters: Duration = Duration::ZERO => Span(Duration::ZERO..=TEN_YEARS);
    /// How long an event is kept after `settled outbox discard`.
    pub discarded_events: Duration = Duration::ZERO => Span(Duration::ZERO..=TEN_YEARS);
}

impl RetentionSettings {
    const fn age(&self, kept: Kept) -> Duration {
        match kept {
            Kept::DeadLetter => self.dead_letters,
            Kept::OutboxDiscarded => self.discarded_events,
        }
    }
}

/// Removes rows until it is stopped.
pub struct Retention<R> {
    store: R,
    settings: RetentionSettings,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
}

impl<R: RetentionStore> Retention<R> {
    /// Creates the task. It ends when `stop` is cancelled.
    pub const fn new(store: R, settings: RetentionSettings, metrics: Arc<Metrics>, stop: CancellationToken) -> Self {
        Self { store, settings, metrics, stop }
    }

    /// Runs until stopped. Ends at once if everything is kept.
    pub async fn run(self) {
        let limited: Vec<Kept> =
            Kept::ALL.iter().copied().filter(|kept| self.settings.age(*kept) > Duration::ZERO).collect();
        if limited.is_empty() {
            return;
        }
        let mut rounds = tokio::time::interval(INTERVAL);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let sweep = async {
            loop {
                rounds.tick().await;
                for kept in &limited {
                    self.remove_all(*kept).await;
                }
            }
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            () = sweep => {}
        }
    }

    /// Removes the rows of one table, in transactions of [`MOST_ROWS`]. After an error the next round goes on.
    async fn remove_all(&self, kept: Kept) {
        let mut sum = 0;
        loop {
            match self.store.remove(kept, self.settings.age(kept), MOST_ROWS).await {
                Ok(removed) => {
                    self.metrics.rows_removed(kept).increment(removed.unsigned_abs());
                    sum += removed;
                    if removed < MOST_ROWS {
                        break;
                    }
                }
                Err(error) => {
                    warn!(table = kept.name(), %error, "rows whose time is over were not removed");
                    break;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        if sum > 0 {
            info!(table = kept.name(), rows = sum, "removed rows whose time is over");
        }
    }
}
