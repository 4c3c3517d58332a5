//! The one clock of all latencies: that of the system, which a database on the same machine has
//! too.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970, which is what PostgreSQL's timestamps are made of.
pub(crate) fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
