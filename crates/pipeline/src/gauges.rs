//! Gauges of what is in the tables: waiting tasks, holds, the outbox, dead letters.
//!
//! Alerts are built on them, so they are measured by a task of its own, on a timer of its own: they go on while the
//! scheduler and the outbox sweeper are busy or wait.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::metrics::Metrics;
use crate::reflex::Signs;
use crate::store::{GaugeStore, StoreError, Waiting};

/// Minimum interval between two measurements of the same.
const INTERVAL: Duration = Duration::from_secs(2);

/// A measurement takes about one part in `SHARE` of the time: one that has to read many rows is repeated less often.
/// There are seven of them.
const SHARE: u32 = 100;

/// Maximum pause after a measurement, however long it took: alerts are built on the values.
const LONGEST: Duration = Duration::from_secs(30);

/// Measures the tables until it is stopped.
pub struct Gauges<G> {
    store: G,
    metrics: Arc<Metrics>,
    signs: Arc<Signs>,
    stop: CancellationToken,
    /// Currencies for which a gauge was set: it must be set to zero when nothing is held any more.
    currencies: Vec<String>,
}

/// When the measurements are made next.
struct Next {
    waiting: Instant,
    holds_expiring: Instant,
    outbox: Instant,
    outbox_oldest: Instant,
    dead_letters: Instant,
    unprocessable: Instant,
    clock: Instant,
}

impl<G: GaugeStore> Gauges<G> {
    /// Creates the task, which also tells `signs` what it finds. It ends when `stop` is cancelled.
    pub const fn new(store: G, metrics: Arc<Metrics>, signs: Arc<Signs>, stop: CancellationToken) -> Self {
        Self { store, metrics, signs, stop, currencies: Vec::new() }
    }

    /// Runs until stopped.
    pub async fn run(mut self) {
        let mut rounds = tokio::time::interval(INTERVAL / 2);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let now = Instant::now();
        let mut next = Next {
            waiting: now,
            holds_expiring: now,
            outbox: now,
            outbox_oldest: now,
            dead_letters: now,
            unprocessable: now,
            clock: now,
        };
        let stop = self.stop.clone();
        let measure = async {
            loop {
                rounds.tick().await;
                self.measure(&mut next).await;
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = measure => {}
        }
    }

    /// Makes the measurements whose time has come, one after another, since they share a connection. The cheap ones
    /// come first.
    async fn measure(&mut self, next: &mut Next) {
        let (store, metrics, signs) = (&self.store, &self.metrics, &self.signs);
        let asked = Timestamp::now();
        if let Some(now) = measured(&mut next.clock, || store.clock()).await {
            signs.database_clock(now);
            metrics.database_clock_ahead_seconds.set(ahead(now, asked, Timestamp::now()));
        }
        if let Some(waiting) = measured(&mut next.waiting, || store.waiting()).await {
            tell(metrics, &mut self.currencies, waiting);
        }
        if let Some(seconds) = measured(&mut next.outbox_oldest, || store.outbox_oldest_seconds()).await {
            metrics.outbox_oldest_seconds.set(seconds);
        }
        if let Some(open) = measured(&mut next.dead_letters, || store.dead_letters_open()).await {
            metrics.dead_letters_open.set(open.count as f64);
            metrics.dead_letters_oldest_seconds.set(open.oldest_seconds);
        }
        if let Some(open) = measured(&mut next.unprocessable, || store.unprocessable_open()).await {
            metrics.unprocessable_open.set(open as f64);
            signs.set_unprocessable(open);
        }
        if let Some(expiring) = measured(&mut next.holds_expiring, || store.holds_expiring()).await {
            metrics.holds_expiring.set(expiring as f64);
        }
        if let Some(depth) = measured(&mut next.outbox, || store.outbox()).await {
            metrics.outbox_depth.set(depth.events as f64);
            metrics.outbox_rows.set(depth.rows as f64);
            metrics.outbox_held.set(depth.held as f64);
            metrics.outbox_refused.set(depth.refused as f64);
        }
    }
}

/// Returns how many seconds a clock is ahead that was read between two moments, negative if it is behind.
fn ahead(clock: Timestamp, asked: Timestamp, answered: Timestamp) -> f64 {
    let since = |moment: Timestamp| clock.duration_since(moment).as_secs_f64();
    since(answered).max(0.0) + since(asked).min(0.0)
}

fn tell(metrics: &Metrics, currencies: &mut Vec<String>, waiting: Waiting) {
    metrics.scheduled.set(waiting.scheduled as f64);
    metrics.scheduled_oldest_seconds.set(waiting.scheduled_oldest_seconds);
    metrics.scheduled_overdue_seconds.set(waiting.scheduled_overdue_seconds);
    metrics.parked.set(waiting.parked as f64);
    metrics.parked_oldest_seconds.set(waiting.parked_oldest_seconds);
    metrics.holds.set(waiting.holds as f64);
    for currency in currencies.iter().filter(|own| waiting.held.iter().all(|(held, _)| held != *own)) {
        metrics.held_amount(currency).set(0.0);
    }
    for (currency, amount) in waiting.held {
        metrics.held_amount(&currency).set(amount);
        if !currencies.contains(&currency) {
            currencies.push(currency);
        }
    }
}

/// Measures if it is time to, and sets the time of the next measurement. Returns `None` if it is not, or if the
/// measurement failed: the gauges keep their values. Who commits payments reports an unavailable database.
async fn measured<T, F: Future<Output = Result<T, StoreError>>>(
    next: &mut Instant,
    measure: impl FnOnce() -> F,
) -> Option<T> {
    let began = Instant::now();
    if began < *next {
        return None;
    }
    let measured = measure().await;
    let took = began.elapsed();
    *next = began + took + (took * SHARE).clamp(INTERVAL, LONGEST);
    measured.inspect_err(|error| debug!(%error, "gauges were not measured")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_differ_by_less_than_asking_took_are_taken_for_equal() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let ahead = [99, 100, 102, 104, 110].map(|clock| ahead(at(clock), at(100), at(104)));
        assert_eq!(ahead, [-1.0, 0.0, 0.0, 0.0, 6.0]);
    }
}
