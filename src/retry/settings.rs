//! `[retry]`: how long to wait before trying again.

use std::time::Duration;

use crate::config::{Field, Key, Section};

/// Exponential backoff with jitter. There is no limit on how long a server is waited for.
#[derive(Debug, Clone)]
pub struct RetrySettings {
    /// The first wait.
    pub initial: Duration,
    /// The longest wait.
    pub max: Duration,
    /// How many times longer each wait is than the one before.
    pub multiplier: f64,
    /// The share of a wait that is random: 0 none, 1 all of it.
    pub jitter: f64,
    /// How often a batch that met a conflict is run again.
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
