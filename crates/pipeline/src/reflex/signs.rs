//! What reflexes go by: values that others measure, clocks, and counts of publishers.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::ReflexSettings;

/// What was measured in the database.
#[derive(Debug, Default)]
pub struct Signs {
    unprocessable: AtomicI64,
    database: Mutex<Clock>,
}

impl Signs {
    /// Records the number of open dead letters that only PostgreSQL refuses.
    pub fn set_unprocessable(&self, open: i64) {
        self.unprocessable.store(open, Ordering::Relaxed);
    }

    /// Returns the number of open dead letters that only PostgreSQL refuses.
    pub(super) fn unprocessable(&self) -> i64 {
        self.unprocessable.load(Ordering::Relaxed)
    }

    /// Records a time that the database's clock has shown. Returns how far it is behind the latest one.
    pub fn database_clock(&self, now: Timestamp) -> Duration {
        self.database.lock().shows(now)
    }

    /// Returns how far the database's clock was behind when it was last read.
    pub(super) fn database_behind(&self) -> Duration {
        self.database.lock().behind
    }
}

/// A clock, which ought to go forward.
#[derive(Debug, Default)]
pub(super) struct Clock {
    latest: Option<Timestamp>,
    behind: Duration,
}

impl Clock {
    /// Records a time that the clock shows. Returns how far it is behind the latest that it has shown.
    pub(super) fn shows(&mut self, now: Timestamp) -> Duration {
        let latest = self.latest.map_or(now, |latest| latest.max(now));
        self.latest = Some(latest);
        self.behind = SignedDuration::unsigned_abs(latest.duration_since(now));
        self.behind
    }
}

/// Judges one publisher by its last messages: a window begins anew when it has ten times as many messages as are needed
/// to judge, so that what was good yesterday excuses nothing today.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Messages and dead letters when the window began.
    began: (u64, u64),
    /// Until when the publisher is in quarantine.
    until: Option<Instant>,
}

impl Window {
    /// Looks at the counts of all its messages and its dead letters. Returns whether these are too many, and true as long
    /// as the quarantine lasts.
    pub(super) fn judge(&mut self, seen: (u64, u64), settings: &ReflexSettings, now: Instant) -> bool {
        if let Some(until) = self.until {
            if now < until {
                return true;
            }
            *self = Self { began: seen, until: None };
        }
        let messages = seen.0.saturating_sub(self.began.0);
        let dead_letters = seen.1.saturating_sub(self.began.1);
        let needed = u64::from(settings.publisher_messages);
        if messages < needed {
            return false;
        }
        if dead_letters as f64 > messages as f64 * settings.publisher_dead_letters {
            self.until = Some(now + settings.quarantine);
            return true;
        }
        if messages >= 10 * needed {
            self.began = seen;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_went_back_is_behind_until_it_has_caught_up() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        let mut clock = Clock::default();
        let behind = [100, 101, 91, 95, 101, 102].map(|second| clock.shows(at(second)).as_secs());
        assert_eq!(behind, [0, 0, 10, 6, 0, 0]);
    }

    #[test]
    fn a_publisher_is_judged_by_its_last_messages_and_for_a_while() {
        let (settings, begin) = (ReflexSettings::default(), Instant::now());
        let mut window = Window::default();
        let mut judge = |seen, minutes: u64| window.judge(seen, &settings, begin + Duration::from_secs(60 * minutes));
        assert!(!judge((99, 99), 0), "too few");
        assert!(judge((100, 21), 0), "more than a fifth");
        assert!(judge((100, 21), 9) && !judge((150, 71), 10), "ten minutes; what came meanwhile isn't counted");
        assert!(!judge((100_150, 71), 11) && judge((100_300, 171), 11), "good messages excuse a thousand at most");
    }
}
