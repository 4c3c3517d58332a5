//! How long the task queue is, and how long its first message has waited: who takes messages and who measures the queue
//! each know a part of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use settled_core::contract::Message;

use crate::metrics::Metrics;

/// What is known of the task queue.
pub struct Backlog {
    metrics: Arc<Metrics>,
    taken: AtomicU64,
    /// Age of the message that was taken last, in milliseconds, by its publisher's clock.
    last_age: AtomicU64,
}

/// What the last measurement found.
#[derive(Debug, Default)]
pub(super) struct Measured {
    taken: u64,
    /// How long the queue was not empty while nothing was taken of it.
    stuck: Duration,
}

impl Backlog {
    /// Begins with nothing known.
    pub const fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, taken: AtomicU64::new(0), last_age: AtomicU64::new(0) }
    }

    /// Records that a message was taken. Messages are taken in order, so the one behind it has waited about as long.
    pub(super) fn took(&self, message: &Message) {
        if let Some(published) = message.published_at() {
            let waited = Duration::try_from(message.received_at.duration_since(published)).unwrap_or_default();
            self.last_age.store(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// Records the number of messages that are ready, `since` the measurement before.
    pub(super) fn measured(&self, before: &mut Measured, ready: u32, since: Duration) {
        let taken = self.taken.load(Ordering::Relaxed);
        let is_stuck = ready > 0 && taken == before.taken;
        let stuck = if is_stuck { before.stuck + since } else { Duration::ZERO };
        if ready == 0 {
            self.last_age.store(0, Ordering::Relaxed);
        }
        let oldest = Duration::from_millis(self.last_age.load(Ordering::Relaxed)) + stuck;
        self.metrics.queue_depth.set(f64::from(ready));
        self.metrics.queue_oldest_seconds.set(oldest.as_secs_f64());
        *before = Measured { taken, stuck };
    }

    /// Records that the length is not known.
    pub(super) fn unknown(&self) {
        self.metrics.queue_depth.set(f64::NAN);
    }
}
