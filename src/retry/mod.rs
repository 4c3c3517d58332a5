//! Waiting between attempts: the only place that knows the `backoff` crate.

mod settings;

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;

pub use settings::RetrySettings;

/// The waits between attempts at one thing: growing, jittered, without an end.
#[derive(Debug)]
pub struct Delays(ExponentialBackoff);

impl Delays {
    /// Begins with the shortest wait.
    pub fn new(settings: &RetrySettings) -> Self {
        let mut backoff = ExponentialBackoff {
            initial_interval: settings.initial,
            current_interval: settings.initial,
            max_interval: settings.max,
            multiplier: settings.multiplier,
            randomization_factor: settings.jitter,
            // The crate's default gives up after 15 minutes; a server is waited for without end.
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        backoff.reset();
        Self(backoff)
    }

    /// The next wait.
    pub fn next_delay(&mut self) -> Duration {
        self.0.next_backoff().unwrap_or(self.0.max_interval)
    }

    /// Begins with the shortest wait again.
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
