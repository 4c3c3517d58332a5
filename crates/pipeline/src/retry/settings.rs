//! Section `[retry]` of the configuration.

use std::time::Duration;

use crate::section;
use crate::settings::always;

section! {
    /// Exponential backoff with jitter, for attempts to reach a server, which never end, and for conflicts.
    pub struct RetrySettings in "retry",
        "How long to wait before trying again. A server that is away is waited for without a limit.";

    /// The first wait.
    pub initial: Duration = Duration::from_millis(10)
        => Span(Duration::from_millis(1)..=Duration::from_secs(300)), reloads(always);
    /// The longest wait; at least initial.
    pub max: Duration = Duration::from_secs(1)
        => Span(Duration::from_millis(1)..=Duration::from_secs(300)), reloads(always);
    /// How many times longer each wait is than the one before.
    pub multiplier: f64 = 2.0 => Number(1.0..=10.0), reloads(always);
    /// The share of a wait that is random, so that several daemons do not come back at once.
    pub jitter: f64 = 0.5 => Number(0.0..=1.0), reloads(always);
    /// How often a batch that met a deadlock or another daemon is run again before intake pauses.
    pub conflict_attempts: u32 = 20 => Whole(1..=1000), reloads(always);
}
