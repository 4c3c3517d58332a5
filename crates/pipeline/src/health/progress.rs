//! Counts deliveries in flight, and detects that none of them makes progress.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The number of deliveries in the pipeline, and the time of its last progress.
///
/// A pipeline that has deliveries in flight and makes no progress for longer than the timeout is stuck. One that waits
/// for a server is not: the code that probes the server calls [`Progress::tick`] with every probe.
#[derive(Debug)]
pub struct Progress {
    origin: Instant,
    /// Time of the last progress, in microseconds since `origin`.
    last_tick: AtomicU64,
    in_flight: AtomicUsize,
}

impl Progress {
    /// Begins with nothing in flight, and with `now` as the last progress.
    pub fn new(now: Instant) -> Self {
        Self { origin: now, last_tick: AtomicU64::new(0), in_flight: AtomicUsize::new(0) }
    }

    /// Adds deliveries that have been taken from a source.
    pub fn entered(&self, deliveries: usize) {
        // Idle time is not time without progress. Ticks before it counts, or a reader in between would see deliveries
        // that seem to have waited since the last tick.
        if self.in_flight.load(Ordering::Acquire) == 0 {
            self.tick();
        }
        self.in_flight.fetch_add(deliveries, Ordering::AcqRel);
    }

    /// Subtracts deliveries whose outcome is committed. This is progress.
    pub fn settled(&self, deliveries: usize) {
        self.tick();
        self.gone(deliveries);
    }

    /// Subtracts deliveries that leave without an outcome: their connection is lost, and the broker will deliver them
    /// again. This is no progress.
    pub fn gone(&self, deliveries: usize) {
        let left = |before: usize| Some(before.saturating_sub(deliveries));
        let before = self.in_flight.fetch_update(Ordering::AcqRel, Ordering::Acquire, left).unwrap_or_default();
        debug_assert!(before >= deliveries, "{deliveries} deliveries left, {before} were in flight");
    }

    /// Records progress: a commit, a probe of a server that is unavailable, or a step of the drain.
    pub fn tick(&self) {
        self.tick_at(Instant::now());
    }

    /// Records progress at a given time, as [`Progress::tick`] does now.
    pub fn tick_at(&self, now: Instant) {
        let micros = u64::try_from(now.saturating_duration_since(self.origin).as_micros()).unwrap_or(u64::MAX);
        self.last_tick.fetch_max(micros, Ordering::AcqRel);
    }

    /// Returns the number of deliveries in the pipeline.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Returns the time since the last progress, or zero if nothing is in flight.
    pub fn stalled_for(&self, now: Instant) -> Duration {
        if self.in_flight() == 0 {
            return Duration::ZERO;
        }
        let last_tick = self.origin + Duration::from_micros(self.last_tick.load(Ordering::Acquire));
        now.saturating_duration_since(last_tick)
    }

    /// Whether nothing is in flight, or the last progress was within the timeout.
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
