//! Whether the pipeline moves.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Counts the deliveries that are in the pipeline and remembers when it last got something done.
///
/// A pipeline that holds something and has got nothing done for longer than it may is stuck. One
/// that waits for a server is not: whoever probes the server calls [`Progress::tick`] with
/// every probe.
#[derive(Debug)]
pub struct Progress {
    origin: Instant,
    /// Microseconds from `origin`.
    last_tick: AtomicU64,
    in_flight: AtomicUsize,
}

impl Progress {
    /// Nothing in flight, and a tick just now.
    pub fn new(now: Instant) -> Self {
        Self { origin: now, last_tick: AtomicU64::new(0), in_flight: AtomicUsize::new(0) }
    }

    /// Deliveries have come in.
    pub fn entered(&self, deliveries: usize) {
        // From idle, the time until now was no time without progress. Before the count, or
        // a reader in between would see work that has been waiting since the last tick.
        if self.in_flight.load(Ordering::Acquire) == 0 {
            self.tick();
        }
        self.in_flight.fetch_add(deliveries, Ordering::AcqRel);
    }

    /// Deliveries are settled: their outcome is committed.
    pub fn settled(&self, deliveries: usize) {
        self.tick();
        self.gone(deliveries);
    }

    /// Deliveries are out of the pipeline without an outcome: their connection is gone, and the
    /// broker will deliver them again. This is no progress.
    pub fn gone(&self, deliveries: usize) {
        let left = |before: usize| Some(before.saturating_sub(deliveries));
        let before = self.in_flight.fetch_update(Ordering::AcqRel, Ordering::Acquire, left).unwrap_or_default();
        debug_assert!(before >= deliveries, "{deliveries} deliveries left, {before} were in flight");
    }

    /// Something got done: a commit, a probe of a server that is away, a step of the drain.
    pub fn tick(&self) {
        self.tick_at(Instant::now());
    }

    /// [`Progress::tick`] at a given time.
    pub fn tick_at(&self, now: Instant) {
        let micros = u64::try_from(now.saturating_duration_since(self.origin).as_micros()).unwrap_or(u64::MAX);
        self.last_tick.fetch_max(micros, Ordering::AcqRel);
    }

    /// Deliveries in the pipeline.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// How long nothing has got done. Zero when nothing is in flight.
    pub fn stalled_for(&self, now: Instant) -> Duration {
        if self.in_flight() == 0 {
            return Duration::ZERO;
        }
        let last_tick = self.origin + Duration::from_micros(self.last_tick.load(Ordering::Acquire));
        now.saturating_duration_since(last_tick)
    }

    /// Whether nothing is in flight or something got done within the timeout.
    pub fn live(&self, now: Instant, timeout: Duration) -> bool {
        self.stalled_for(now) <= timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);
    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn an_idle_pipeline_is_live_for_ever() {
        let start = Instant::now();
        assert!(Progress::new(start).live(start + HOUR, TIMEOUT));
    }

    #[test]
    fn work_without_progress_is_live_until_the_timeout() {
        let start = Instant::now();
        let progress = Progress::new(start);
        progress.entered(2);
        progress.tick_at(start + HOUR);
        assert!(progress.live(start + HOUR + TIMEOUT, TIMEOUT));
        let late = start + HOUR + TIMEOUT + Duration::from_secs(1);
        assert!(!progress.live(late, TIMEOUT));
        assert_eq!(progress.stalled_for(late), TIMEOUT + Duration::from_secs(1));
        progress.tick_at(late);
        assert!(progress.live(late, TIMEOUT));
    }

    #[test]
    fn work_that_comes_after_an_idle_hour_starts_the_clock_anew() {
        let start = Instant::now().checked_sub(HOUR).expect("the machine is older than an hour or the clock allows it");
        let progress = Progress::new(start);
        progress.entered(1);
        assert!(progress.live(Instant::now(), TIMEOUT));
    }

    #[test]
    fn more_work_is_no_progress() {
        let start = Instant::now();
        let progress = Progress::new(start);
        progress.entered(1);
        progress.entered(1);
        assert!(!progress.live(start + HOUR, TIMEOUT));
    }

    #[test]
    fn what_left_is_not_waited_for() {
        let start = Instant::now();
        let progress = Progress::new(start);
        progress.entered(3);
        progress.settled(1);
        assert_eq!(progress.in_flight(), 2);
        progress.gone(2);
        assert!(progress.live(start + HOUR, TIMEOUT));
    }
}
