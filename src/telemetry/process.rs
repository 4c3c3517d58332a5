//! CPU time, memory and file descriptors of this process, from `/proc/self`. Without `/proc` they stay at zero.

use std::fs;
use std::time::SystemTime;

use settled_pipeline::metrics::Metrics;

/// Clock ticks per second in `/proc/self/stat`: 100 on every Linux that Rust runs on.
const TICKS_PER_SECOND: u64 = 100;

/// Sets the start time to now; call it at the start of the process.
pub(super) fn set_start_time(metrics: &Metrics) {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    metrics.process_start_time.set(since_epoch.as_secs_f64());
}

pub(super) fn update(metrics: &Metrics) {
    if let Some(ticks) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(cpu_ticks) {
        metrics.process_cpu.absolute(ticks / TICKS_PER_SECOND);
    }
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        if let Some(kibibytes) = status_field(&status, "VmRSS:") {
            metrics.process_rss.set((kibibytes * 1024) as f64);
        }
        if let Some(threads) = status_field(&status, "Threads:") {
            metrics.process_threads.set(threads as f64);
        }
    }
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        metrics.process_open_fds.set(descriptors.count() as f64);
    }
}

/// Returns user plus system time, fields 14 and 15. The command name (field 2) may contain spaces and parentheses, so
/// fields are counted from the last parenthesis.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn status_field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_past_an_odd_command_name() {
        let stat = "42 (a b) c) S 1 42 42 0 -1 4194560 100 0 0 0 250 70 0 0 20 0 9 0 12345 1 2";
        assert_eq!(cpu_ticks(stat), Some(320));
        assert_eq!(cpu_ticks("nonsense"), None);
    }

    #[test]
    fn status_fields_are_numbers_before_their_unit() {
        let status = "Name:\tsettled\nVmRSS:\t   11264 kB\nThreads:\t9\n";
        assert_eq!(status_field(status, "VmRSS:"), Some(11_264));
        assert_eq!(status_field(status, "Threads:"), Some(9));
        assert_eq!(status_field(status, "VmSwap:"), None);
    }
}
