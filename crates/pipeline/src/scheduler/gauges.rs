//! Gauges of waiting tasks and holds, measured at intervals that keep the queries cheap.

use tokio::time::Instant;

use super::pause_after;
use crate::metrics::Metrics;
use crate::store::BatchStore;

#[derive(Default)]
pub(super) struct Gauges {
    /// Time of the next measurement; `None` before the first one.
    next: Option<Instant>,
    /// Currencies for which a gauge was set: it must be set to zero when nothing is held any more.
    currencies: Vec<String>,
}

impl Gauges {
    pub(super) async fn measure(&mut self, store: &impl BatchStore, metrics: &Metrics) {
        let now = Instant::now();
        if self.next.is_some_and(|next| now < next) {
            return;
        }
        // An unavailable database is reported by the workers.
        let measured = store.waiting().await;
        self.next = Some(pause_after(now.elapsed()));
        let Ok(waiting) = measured else { return };
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
