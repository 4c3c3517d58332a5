//! Section `[retry]` of the configuration.

use std::time::Duration;

use crate::settings::{Field, Key, Section};

/// Exponential backoff with jitter, for attempts to reach a server, which never end, and for conflicts.
#[derive(Debug, Clone)]
pub struct RetrySettings {
    /// The delay before the second attempt.
    pub initial: Duration,
    /// The longest delay, before jitter.
    pub max: Duration,
    /// The factor by which each delay is longer than the one before.
    pub multiplier: f64,
    /// The part of a delay that is random, from 0 (none) to 1 (all of it).
    pub jitter: f64,
    /// How often a batch is committed again after a conflict, before intake pauses.
    pub conflict_attempts: u32,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(10),
            max: Duration::from_secs(1),
            multiplier: 2.0,
            jitter: 0.5,
            conflict_attempts: 20,
        }
    }
}

impl Section for RetrySettings {
    const NAME: &'static str = "retry";
    const ABOUT: &'static str =
        "How long to wait before trying again. A server that is away is waited for without a limit.";

    #[rustfmt::skip]
    fn keys(&mut self) -> Vec<Key<'_>> {
        let range = || Duration::from_millis(1)..=Duration::from_secs(300);
        vec![
            Key::new("initial", Field::Span(&mut self.initial, range()), "The first wait."),
            Key::new("max", Field::Span(&mut self.max, range()), "The longest wait; at least initial."),
            Key::new("multiplier", Field::Number(&mut self.multiplier, 1.0..=10.0), "How many times longer each wait is than the one before."),
            Key::new("jitter", Field::Number(&mut self.jitter, 0.0..=1.0), "The share of a wait that is random, so that several daemons do not come back at once."),
            Key::new("conflict_attempts", Field::Whole(&mut self.conflict_attempts, 1..=1000), "How often a batch that met a deadlock or another daemon is run again before intake pauses."),
        ]
    }
}
