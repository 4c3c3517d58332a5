//! Delays between attempts. Wraps the crate `backoff`.

mod settings;

use std::sync::Arc;
use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;

pub use self::settings::RetrySettings;
use crate::settings::Live;

/// An endless series of delays with exponential backoff and jitter. A reload of the settings applies to its next delay.
#[derive(Debug)]
pub struct Delays {
    live: Live<RetrySettings>,
    /// The version of the settings that `backoff` was made of.
    settings: Arc<RetrySettings>,
    backoff: ExponentialBackoff,
}

impl Delays {
    /// Creates a series that begins with `retry.initial`.
    pub fn new(live: &Live<RetrySettings>) -> Self {
        let settings = live.get();
        let mut backoff = backoff(&settings);
        backoff.reset();
        Self { live: live.clone(), settings, backoff }
    }

    /// Returns the next delay, at most `retry.max` before jitter.
    pub fn next_delay(&mut self) -> Duration {
        let settings = self.live.get();
        if !Arc::ptr_eq(&settings, &self.settings) {
            let reached = self.backoff.current_interval.clamp(settings.initial, settings.max.max(settings.initial));
            self.backoff = ExponentialBackoff { current_interval: reached, ..backoff(&settings) };
            self.settings = settings;
        }
        self.backoff.next_backoff().unwrap_or(self.backoff.max_interval)
    }

    /// Begins the series anew if a session has `lasted` for as long as the longest delay: sessions that end at once,
    /// again and again, must not be opened without delay.
    pub fn session_ended(&mut self, lasted: Duration) {
        if lasted >= self.backoff.max_interval {
            self.reset();
        }
    }

    /// Begins the series anew, after a success.
    pub fn reset(&mut self) {
        self.backoff.reset();
    }
}

fn backoff(settings: &RetrySettings) -> ExponentialBackoff {
    ExponentialBackoff {
        initial_interval: settings.initial,
        current_interval: settings.initial,
        max_interval: settings.max,
        multiplier: settings.multiplier,
        randomization_factor: settings.jitter,
        // The default of the crate is 15 minutes; attempts to reach a server never end.
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_never_end() {
        let settings = RetrySettings { jitter: 0.0, ..RetrySettings::default() };
        let mut delays = Delays::new(&settings.clone().into());
        let waits: Vec<Duration> = (0..1000).map(|_| delays.next_delay()).collect();
        assert_eq!(waits[0], settings.initial);
        assert_eq!(waits[1], settings.initial * 2);
        assert_eq!(waits[999], settings.max);
        delays.reset();
        assert_eq!(delays.next_delay(), settings.initial);
    }

    #[test]
    fn a_reload_applies_to_a_series_that_has_begun() {
        let settings = RetrySettings { jitter: 0.0, ..RetrySettings::default() };
        let live = Live::from(settings.clone());
        let mut delays = Delays::new(&live);
        for _ in 0..100 {
            delays.next_delay();
        }
        live.set(RetrySettings { max: settings.initial * 3, ..settings.clone() });
        assert_eq!(delays.next_delay(), settings.initial * 3);
        live.set(RetrySettings {
            initial: settings.max * 2,
            max: settings.max * 60,
            multiplier: 3.0,
            ..settings.clone()
        });
        assert_eq!([(); 3].map(|()| delays.next_delay()), [2, 6, 18].map(|times| settings.max * times));
    }
}
