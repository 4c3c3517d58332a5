//! Section `[retry]` of the configuration.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::section;

/// The waits that make sense.
const RANGE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(300);

section! {
    /// Exponential backoff with jitter, for attempts to reach a server, which never end, and for conflicts.
    RetrySettings = "retry", "How long to wait before trying again. A server that is away is waited for without a limit." {
        initial: Duration = Duration::from_millis(10), Span(RANGE),
            "The first wait.";
        max: Duration = Duration::from_secs(1), Span(RANGE),
            "The longest wait; at least initial.";
        multiplier: f64 = 2.0, Number(1.0..=10.0),
            "How many times longer each wait is than the one before.";
        jitter: f64 = 0.5, Number(0.0..=1.0),
            "The share of a wait that is random, so that several daemons do not come back at once.";
        conflict_attempts: u32 = 20, Whole(1..=1000),
            "How often a batch that met a deadlock or another daemon is run again before intake pauses.";
    }
}
