//! Delays between attempts. Wraps the crate `backoff`.

mod settings;

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;

pub use self::settings::RetrySettings;

/// An endless series of delays with exponential backoff and jitter.
#[derive(Debug)]
pub struct Delays(ExponentialBackoff);

impl Delays {
    /// Creates a series that begins with `retry.initial`.
    pub fn new(settings: &RetrySettings) -> Self {
        let mut backoff = ExponentialBackoff {
            initial_interval: settings.initial,
            current_interval: settings.initial,
            max_interval: settings.max,
            multiplier: settings.multiplier,
            randomization_factor: settings.jitter,
            // The default of the crate is 15 minutes; attempts to reach a server never end.
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        backoff.reset();
        Self(backoff)
    }

    /// Returns the next delay, at most `retry.max` before jitter.
    pub fn next_delay(&mut self) -> Duration {
        self.0.next_backoff().unwrap_or(self.0.max_interval)
    }

    /// Begins the series anew if a session has `lasted` for as long as the longest delay: sessions that end at once,
    /// again and again, must not be opened without delay.
    pub fn session_ended(&mut self, lasted: Duration) {
        if lasted >= self.0.max_interval {
            self.reset();
        }
    }

    /// Begins the series anew, after a success.
    pub fn reset(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_never_end() {
        let settings = RetrySettings { jitter: 0.0, ..RetrySettings::default() };
        let mut delays = Delays::new(&settings);
        let waits: Vec<Duration> = (0..1000).map(|_| delays.next_delay()).collect();
        assert_eq!(waits[0], settings.initial);
        assert_eq!(waits[1], settings.initial * 2);
        assert_eq!(waits[999], settings.max);
        delays.reset();
        assert_eq!(delays.next_delay(), settings.initial);
    }
}
