//! What `settled top` shows, computed from the daemons' metrics: plain values.

use serde::Serialize;

use super::samples::{Pair, Samples, quantile};
use super::scrape::Daemon;

/// Everything that is shown.
#[derive(Debug, Serialize)]
pub(super) struct View {
    /// Why the registry of daemons could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) registry_error: Option<String>,
    pub(super) instances: Vec<InstanceView>,
    pub(super) rates: Vec<Rate>,
    pub(super) latencies: Vec<Latency>,
    pub(super) stages: Vec<Stage>,
    pub(super) outcomes: Vec<OutcomeView>,
}

/// A daemon.
#[derive(Debug, Serialize)]
pub(super) struct InstanceView {
    pub(super) id: Option<i64>,
    pub(super) host: Option<String>,
    pub(super) pid: Option<i32>,
    pub(super) admin: String,
    pub(super) state: String,
    pub(super) reason: Option<String>,
    pub(super) age_seconds: Option<f64>,
    pub(super) committed_per_second: f64,
    pub(super) in_flight: f64,
    /// Tasks waiting in each lane.
    pub(super) lanes: Vec<f64>,
    pub(super) memory_bytes: f64,
    /// Whether each dependency answers.
    pub(super) connections: Vec<Connection>,
    /// Why there are no metrics of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Connection {
    pub(super) name: String,
    pub(super) up: bool,
}

/// How often something happens, in all daemons together.
#[derive(Debug, Serialize)]
pub(super) struct Rate {
    pub(super) name: &'static str,
    pub(super) per_second: f64,
}

/// How long something takes; `None` if it has not happened since the last look.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    pub(super) name: &'static str,
    pub(super) p50_seconds: Option<f64>,
    pub(super) p99_seconds: Option<f64>,
}

/// Where tasks and events wait.
#[derive(Debug, Serialize)]
pub(super) struct Stage {
    pub(super) name: &'static str,
    /// `None` while it is not known.
    pub(super) depth: Option<f64>,
    /// Age of the oldest, where that is measured.
    pub(super) oldest_seconds: Option<f64>,
}

/// What deliveries came to.
#[derive(Debug, Serialize)]
pub(super) struct OutcomeView {
    pub(super) outcome: String,
    pub(super) reason: String,
    /// Since the daemons have started.
    pub(super) total: f64,
    pub(super) per_second: f64,
}

const OUTCOMES: &str = "settled_outcomes_total";

/// The counters whose rates are shown.
const RATES: [(&str, &str); 5] = [
    ("received", "settled_tasks_received_total"),
    ("committed", OUTCOMES),
    ("acknowledgements", "settled_acks_total"),
    ("events", "settled_events_published_total"),
    ("retries", "settled_retries_total"),
];

/// The histograms whose quantiles are shown.
const LATENCIES: [(&str, &str); 4] = [
    ("publish to commit", "settled_publish_to_commit_seconds"),
    ("receive to commit", "settled_receive_to_commit_seconds"),
    ("transaction", "settled_transaction_seconds"),
    ("event confirm", "settled_event_confirm_seconds"),
];

/// What each daemon has of its own, so that it adds up.
const OWN_STAGES: [(&str, &str); 3] =
    [("lanes", "settled_lane_depth"), ("in hand", "settled_tasks_in_flight"), ("unacknowledged", "settled_ack_lag")];

/// What is in the database, of which every daemon exports all, and the age of the oldest.
const SHARED_STAGES: [(&str, &str, Option<&str>); 6] = [
    ("scheduled", "settled_scheduled", Some("settled_scheduled_oldest_seconds")),
    ("parked", "settled_parked", Some("settled_parked_oldest_seconds")),
    ("holds", "settled_holds", None),
    ("outbox", "settled_outbox_depth", Some("settled_outbox_oldest_seconds")),
    ("dead letters", "settled_dead_letters_open", None),
    ("dead-letter queue", "settled_dead_letter_queue_depth", None),
];

const DEPENDENCY_UP: &str = "settled_dependency_up";
const PAUSED: &str = "settled_paused";
const MAINTENANCE: &str = "settled_maintenance";
const MEMORY: &str = "process_resident_memory_bytes";

impl View {
    pub(super) fn of(daemons: &[Daemon], registry_error: Option<String>) -> Self {
        let pairs: Vec<&Pair> = daemons.iter().filter(|daemon| daemon.error.is_none()).map(|d| &d.metrics).collect();
        let rate = |name: &str| pairs.iter().map(|pair| pair.rate(name, &[])).sum::<f64>() + 0.0;
        let latency = |(name, histogram): (&'static str, &str)| {
            let of = |part| quantile(pairs.iter().copied(), histogram, part);
            Latency { name, p50_seconds: of(0.5), p99_seconds: of(0.99) }
        };
        Self {
            registry_error,
            instances: daemons.iter().map(InstanceView::of).collect(),
            rates: RATES.iter().map(|&(name, counter)| Rate { name, per_second: rate(counter) }).collect(),
            latencies: LATENCIES.into_iter().map(latency).collect(),
            stages: stages(&pairs),
            outcomes: outcomes(&pairs),
        }
    }
}

impl InstanceView {
    fn of(Daemon { admin, instance, metrics, error, .. }: &Daemon) -> Self {
        let now = &metrics.now;
        let instance = instance.as_ref();
        let connections = connections(now);
        let state = match instance {
            Some(instance) => instance.state.as_str(),
            None if error.is_some() => "unreachable",
            None if now.sum(MAINTENANCE, &[]) > 0.0 => "drained",
            None if connections.iter().any(|connection| !connection.up) => "waiting",
            None if now.sum(PAUSED, &[]) > 0.0 => "paused",
            None => "running",
        };
        Self {
            id: instance.map(|instance| instance.id),
            host: instance.map(|instance| instance.host.clone()),
            pid: instance.map(|instance| instance.pid),
            admin: admin.clone(),
            state: state.to_owned(),
            reason: instance.and_then(|instance| instance.reason.clone()),
            age_seconds: instance.map(|instance| instance.age_seconds),
            committed_per_second: metrics.rate(OUTCOMES, &[]),
            in_flight: now.sum("settled_tasks_in_flight", &[]),
            lanes: now.by("settled_lane_depth", "lane").map(|(_, depth)| depth).collect(),
            memory_bytes: now.sum(MEMORY, &[]),
            connections,
            error: error.clone(),
        }
    }
}

/// Returns the dependencies that the daemon uses: of another one it is not a number whether it is up.
fn connections(now: &Samples) -> Vec<Connection> {
    let used = now.by(DEPENDENCY_UP, "dependency").filter(|(_, up)| !up.is_nan());
    used.map(|(name, up)| Connection { name: name.to_owned(), up: up == 1.0 }).collect()
}

fn stages(pairs: &[&Pair]) -> Vec<Stage> {
    let own = OWN_STAGES.iter().map(|&(name, gauge)| {
        let depth = pairs.iter().map(|pair| pair.now.sum(gauge, &[])).sum::<f64>() + 0.0;
        Stage { name, depth: (!pairs.is_empty()).then_some(depth), oldest_seconds: None }
    });
    // `max` leaves out what is not a number: not known.
    let most = |gauge: &str| pairs.iter().map(|pair| pair.now.sum(gauge, &[])).reduce(f64::max).filter(|n| !n.is_nan());
    let shared = SHARED_STAGES.iter().map(|&(name, gauge, oldest)| Stage {
        name,
        depth: most(gauge),
        oldest_seconds: oldest.and_then(most),
    });
    own.chain(shared).collect()
}

/// Returns the outcomes that have happened, the most frequent at the moment first.
fn outcomes(pairs: &[&Pair]) -> Vec<OutcomeView> {
    let mut found: Vec<OutcomeView> = Vec::new();
    for pair in pairs {
        for (outcome, reason) in pair.now.outcomes() {
            if found.iter().any(|known| known.outcome == outcome && known.reason == reason) {
                continue;
            }
            let labels = [("outcome", outcome), ("reason", reason)];
            let sum = |of: &dyn Fn(&Pair) -> f64| pairs.iter().map(|pair| of(pair)).sum::<f64>() + 0.0;
            found.push(OutcomeView {
                outcome: outcome.to_owned(),
                reason: reason.to_owned(),
                total: sum(&|pair| pair.now.sum(OUTCOMES, &labels)),
                per_second: sum(&|pair| pair.rate(OUTCOMES, &labels)),
            });
        }
    }
    found.sort_by(|one, other| {
        let order = other.per_second.total_cmp(&one.per_second).then(other.total.total_cmp(&one.total));
        order.then(one.reason.cmp(&other.reason))
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_that_is_not_used_is_not_down() {
        let of = |stream: &str| {
            let text = format!(
                "settled_dependency_up{{dependency=\"postgres\"}} 1\n\
                 settled_dependency_up{{dependency=\"broker_stream\"}} {stream}\n"
            );
            connections(&Samples::parse(&text)).iter().map(|connection| connection.up).collect::<Vec<bool>>()
        };
        assert_eq!([of("NaN"), of("0"), of("1")], [vec![true], vec![true, false], vec![true, true]]);
    }

    #[test]
    fn every_metric_that_is_shown_exists() {
        let shared = SHARED_STAGES.iter().flat_map(|(_, gauge, oldest)| [Some(*gauge), *oldest]).flatten();
        let pairs = RATES.iter().chain(&LATENCIES).chain(&OWN_STAGES).map(|(_, metric)| *metric);
        for name in shared.chain(pairs).chain([DEPENDENCY_UP, PAUSED, MAINTENANCE, MEMORY]) {
            assert!(settled_pipeline::metrics::ALL.iter().any(|metric| metric.name == name), "{name}");
        }
    }
}
