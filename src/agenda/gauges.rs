//! How much waits, and how much is held: measured now and then, as often as that is cheap.

use tokio::time::Instant;

use super::pause_after;
use crate::store::BatchStore;
use crate::worker::Pipeline;

#[derive(Default)]
pub(super) struct Gauges {
    /// When to measure again; at once the first time.
    next: Option<Instant>,
    /// Currencies that were held once: one that no longer is has to be told to be zero.
    currencies: Vec<String>,
}

impl Gauges {
    pub(super) async fn measure<S: BatchStore, D>(&mut self, pipeline: &Pipeline<S, D>) {
        let now = Instant::now();
        if self.next.is_some_and(|next| now < next) {
            return;
        }
        // A database that is away is told elsewhere.
        let measured = pipeline.store.waiting().await;
        self.next = Some(pause_after(now.elapsed()));
        let Ok(waiting) = measured else { return };
        let metrics = &pipeline.metrics;
        metrics.scheduled.set(waiting.scheduled as f64);
        metrics.scheduled_oldest_seconds.set(waiting.scheduled_oldest_seconds);
        metrics.parked.set(waiting.parked as f64);
        metrics.parked_oldest_seconds.set(waiting.parked_oldest_seconds);
        metrics.holds.set(waiting.holds as f64);
        metrics.holds_expiring.set(waiting.holds_expiring as f64);
        for currency in &self.currencies {
            metrics.held_amount(currency).set(0.0);
        }
        for (currency, amount) in waiting.held {
            metrics.held_amount(&currency).set(amount);
            if !self.currencies.contains(&currency) {
                self.currencies.push(currency);
            }
        }
    }
}
