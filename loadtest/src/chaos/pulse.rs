//! What the daemons say of themselves while faults strike: how much is in flight, what they have
//! committed, and of whom they know that he is away.

use std::net::SocketAddr;

use settled_pipeline::labels::Outcome;

use crate::rig::admin::{self, Metrics};

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Beat {
    pub(super) in_flight: u64,
    /// Outcomes that it has committed, from its start on.
    pub(super) committed: u64,
    pub(super) repeated: u64,
    /// Commits whose outcome it had to look up.
    pub(super) looked_up: u64,
    pub(super) database_is_up: bool,
    /// Whether both of its connections to the broker work.
    pub(super) broker_is_up: bool,
    /// Whether it takes no tasks because it cannot commit any.
    pub(super) is_paused: bool,
    /// Resident memory, in bytes.
    pub(super) rss: u64,
}

impl Beat {
    fn of(metrics: &Metrics) -> Self {
        let count = |name, label| metrics.sum(name, label).max(0.0) as u64;
        let tally = metrics.outcomes();
        let repeated = tally.get(Outcome::Duplicate);
        let up = |dependency: &str| {
            let label = format!("dependency=\"{dependency}\"");
            metrics.sum("settled_dependency_up", &label) > 0.0
        };
        Self {
            in_flight: count("settled_tasks_in_flight", ""),
            committed: tally.total() - repeated,
            repeated,
            looked_up: count("settled_unknown_commits_total", ""),
            database_is_up: up("postgres"),
            broker_is_up: up("broker_intake") && up("broker_relay"),
            is_paused: count("settled_paused", "") > 0,
            rss: count("process_resident_memory_bytes", ""),
        }
    }
}

/// All of them, in the order of their addresses; one that does not answer is as if it had just been
/// started.
pub(super) async fn all(admins: &[SocketAddr]) -> Vec<Beat> {
    let mut beats = Vec::with_capacity(admins.len());
    for admin in admins {
        beats.push(admin::metrics(*admin).await.map(|metrics| Beat::of(&metrics)).unwrap_or_default());
    }
    beats
}
