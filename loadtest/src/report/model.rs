//! What a run measured: the data between those who measure and those who report.
//!
//! Serialised, [`Summary`] is `summary.json` and a [`Sample`] is a line of `series.csv`. Both
//! are read by other programs: a change that a reader would notice needs a new
//! [`SCHEMA_VERSION`], a new field does not.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Of `summary.json`. Grows when a field goes, or changes its name, its unit or its meaning.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// The longest time that a histogram tells from a longer one: an hour.
const LONGEST_MICROS: u64 = 3_600_000_000;
/// How many digits of a time a histogram keeps: it is off by 0.1 % at most.
const DIGITS: u8 = 3;

/// Everything that a run measured.
#[derive(Clone, Debug)]
pub(crate) struct Results {
    /// Its figures and its verdict.
    pub(crate) summary: Summary,
    /// A sample for every second of the run, in order.
    pub(crate) series: Vec<Sample>,
    /// The latencies of all messages.
    pub(crate) histograms: Histograms,
}

/// A run of settled-loadtest: its load, what came of it, how fast, and whether all was as it
/// had to be.
///
/// Later versions of the tool may add fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(title = "settled-loadtest: summary"))]
pub(crate) struct Summary {
    /// The version of this format. It grows when a field goes, or changes its name, its unit or
    /// its meaning.
    pub(crate) schema_version: u32,
    /// The version of settled-loadtest.
    pub(crate) tool_version: String,
    /// Which run it was, as on the command line: `run`, `drain`, `demo`, …
    pub(crate) verb: String,
    /// What was under load: `settled`, or `baseline` for the program it is compared with.
    pub(crate) subject: String,
    /// What the one who started the run called it.
    pub(crate) label: Option<String>,
    /// The command line, word by word.
    pub(crate) command: Vec<String>,
    /// When the load began: RFC 3339, UTC.
    pub(crate) started_at: String,
    /// From the first scheduled publish to the last outcome, in seconds.
    pub(crate) duration_s: f64,
    /// Where it ran.
    pub(crate) machine: Machine,
    /// What was published.
    pub(crate) load: Load,
    /// Messages of the load that were published.
    pub(crate) published: u64,
    /// Messages of the load that the broker confirmed.
    pub(crate) confirmed: u64,
    /// Payments that were posted.
    pub(crate) settled: u64,
    /// Payments that were declined, by reason.
    pub(crate) rejected: BTreeMap<String, u64>,
    /// Messages that repeated another and changed nothing.
    pub(crate) duplicates: u64,
    /// Messages that became no payment, by reason.
    pub(crate) dead_lettered: BTreeMap<String, u64>,
    /// Different events that were received.
    pub(crate) events: u64,
    /// Events that were received, repetitions included: delivery is at least once.
    pub(crate) events_received: u64,
    /// Outcomes whose event did not come.
    pub(crate) events_missing: u64,
    /// Different events that no outcome of the load explains.
    pub(crate) events_unexpected: u64,
    /// Messages that were confirmed by the broker, but the database has no outcome of them. Has
    /// to be 0.
    pub(crate) lost: u64,
    /// Payments that were applied more than once. Has to be 0.
    pub(crate) doubled: u64,
    /// Messages published per second, over the time of publishing.
    pub(crate) rate_published_per_s: f64,
    /// Outcomes committed per second, from the first commit to the last.
    pub(crate) rate_committed_per_s: f64,
    /// Different events received per second, from the first commit to the last event.
    pub(crate) rate_events_per_s: f64,
    /// How long a message took, from the time it was scheduled for: a late publisher does not
    /// make it look better. In milliseconds.
    pub(crate) latency_ms: LatencyMs,
    /// How late messages were published, from the time they were scheduled for, in
    /// milliseconds. `null` where there was no schedule.
    pub(crate) schedule_lag_ms: Option<Quantiles>,
    /// Whether the load generator itself could not keep to its schedule, so that the figures
    /// say more of it than of its subject.
    pub(crate) generator_was_the_bottleneck: bool,
    /// What all daemons under load used together.
    pub(crate) daemon: ProcessUse,
    /// What PostgreSQL used.
    pub(crate) postgres: ProcessUse,
    /// What RabbitMQ used.
    pub(crate) rabbitmq: ProcessUse,
    /// What settled-loadtest itself used.
    pub(crate) generator: ProcessUse,
    /// What the audit of the ledger said.
    pub(crate) audit: Audit,
    /// The terms of the service level objective, in the order in which they were asked for.
    pub(crate) slo: Vec<SloResult>,
    /// What had to hold whatever the load.
    pub(crate) checks: Vec<Check>,
    /// Whether every check and every term of the objective held.
    pub(crate) passed: bool,
}

/// The machine that everything ran on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Machine {
    /// Logical processors.
    pub(crate) cpus: u32,
    /// What the processor calls itself.
    pub(crate) cpu_model: String,
    /// Memory, in bytes.
    pub(crate) memory_bytes: u64,
    /// The kernel's name and release.
    pub(crate) kernel: String,
    /// The version of PostgreSQL.
    pub(crate) postgres_version: String,
    /// The version of RabbitMQ.
    pub(crate) rabbitmq_version: String,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Load {
    /// The rate, as it was asked for: `2000/s`, `max`, `0..20000/60s`, or `backlog` for a load
    /// that was there before the daemon.
    pub(crate) rate: String,
    /// How arrivals are spread: `poisson`, `constant`, …
    pub(crate) arrival: String,
    /// How many accounts take part.
    pub(crate) accounts: u64,
    /// Which of them take part how often.
    pub(crate) skew: String,
    /// Of the random numbers: the same seed gives the same messages, but for their ids.
    pub(crate) seed: u64,
    /// The length of a message's body, in bytes.
    pub(crate) payload_bytes: u64,
    /// The share of each kind of message, from 0 to 1.
    pub(crate) mix: BTreeMap<String, f64>,
    /// How many daemons shared the load.
    pub(crate) daemons: u32,
}

/// Latencies from the scheduled publish, in milliseconds; `null` where nothing was measured,
/// such as for a backlog.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct LatencyMs {
    /// To the broker's confirm.
    pub(crate) confirm: Option<Quantiles>,
    /// To the commit of the outcome, by the database's clock.
    pub(crate) commit: Option<Quantiles>,
    /// To the receipt of the outcome's event.
    pub(crate) event: Option<Quantiles>,
}

/// A distribution of times, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Quantiles {
    /// Half took at most so long, in milliseconds.
    pub(crate) p50: f64,
    /// 90 % took at most so long, in milliseconds.
    pub(crate) p90: f64,
    /// 99 % took at most so long, in milliseconds.
    pub(crate) p99: f64,
    /// 99.9 % took at most so long, in milliseconds.
    pub(crate) p999: f64,
    /// None took longer, in milliseconds.
    pub(crate) max: f64,
    /// How many were measured.
    pub(crate) count: u64,
}

/// What processes used during the load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ProcessUse {
    /// User and system time of all threads, in seconds.
    pub(crate) cpu_seconds: f64,
    /// The most resident memory there was, in bytes.
    pub(crate) max_rss_bytes: u64,
    /// How often it was started again.
    pub(crate) restarts: u32,
}

/// What `settled audit` said, in short.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Audit {
    /// Its verdict.
    pub(crate) passed: bool,
    /// How many invariants it checked.
    pub(crate) checks: u64,
}

/// A term of the service level objective.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SloResult {
    /// As it was asked for: `p99<25ms`.
    pub(crate) term: String,
    /// What was measured, in the unit of the term.
    pub(crate) measured: f64,
    /// Whether it held.
    pub(crate) held: bool,
}

/// Something that has to hold, and whether it does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Check {
    /// What has to hold.
    pub(crate) holds: String,
    /// What was found instead; `null` if it holds.
    pub(crate) found: Option<String>,
}

/// A second of a run. Counters are cumulative; latencies are of what happened in that second
/// and absent where nothing did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Seconds since the load began.
    pub(crate) at_s: f64,
    /// Messages published.
    pub(crate) published: u64,
    /// Messages that the broker confirmed.
    pub(crate) confirmed: u64,
    /// Payments that were posted.
    pub(crate) settled: u64,
    /// Payments that were declined.
    pub(crate) rejected: u64,
    /// Messages that became no payment.
    pub(crate) dead_lettered: u64,
    /// Different events received.
    pub(crate) events: u64,
    /// Messages that wait in the queue or are with a daemon.
    pub(crate) queue_depth: u64,
    /// Events that wait to be published.
    pub(crate) outbox_events: u64,
    /// Median time from the scheduled publish to the broker's confirm.
    pub(crate) confirm_p50_ms: Option<f64>,
    /// 99th percentile of the same.
    pub(crate) confirm_p99_ms: Option<f64>,
    /// Median time from the scheduled publish to the commit.
    pub(crate) commit_p50_ms: Option<f64>,
    /// 99th percentile of the same.
    pub(crate) commit_p99_ms: Option<f64>,
    /// Median time from the scheduled publish to the receipt of the event.
    pub(crate) event_p50_ms: Option<f64>,
    /// 99th percentile of the same.
    pub(crate) event_p99_ms: Option<f64>,
    /// Processors that the daemons kept busy.
    pub(crate) daemon_cpu_cores: f64,
    /// Resident memory of the daemons.
    pub(crate) daemon_rss_bytes: u64,
    /// Processors that PostgreSQL kept busy.
    pub(crate) postgres_cpu_cores: f64,
    /// Resident memory of PostgreSQL.
    pub(crate) postgres_rss_bytes: u64,
    /// Processors that RabbitMQ kept busy.
    pub(crate) rabbitmq_cpu_cores: f64,
    /// Resident memory of RabbitMQ.
    pub(crate) rabbitmq_rss_bytes: u64,
    /// Processors that settled-loadtest itself kept busy.
    pub(crate) generator_cpu_cores: f64,
}

/// A moment of a run that goes on, for those who watch it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// Since the load began.
    pub(crate) elapsed: Duration,
    /// Messages per second that are to be published now; `None` for as many as possible.
    pub(crate) target_rate: Option<f64>,
    /// Messages published.
    pub(crate) published: u64,
    /// Messages that the broker confirmed.
    pub(crate) confirmed: u64,
    /// Payments that were posted.
    pub(crate) settled: u64,
    /// Payments that were declined.
    pub(crate) rejected: u64,
    /// Messages that repeated another and changed nothing.
    pub(crate) duplicates: u64,
    /// Messages that became no payment.
    pub(crate) dead_lettered: u64,
    /// Different events received.
    pub(crate) events: u64,
    /// Messages that wait in the queue or are with a daemon.
    pub(crate) queue_depth: u64,
    /// Events that wait to be published.
    pub(crate) outbox_events: u64,
    /// Messages published per second, in the last second.
    pub(crate) rate_published: f64,
    /// Outcomes committed per second, in the last second.
    pub(crate) rate_committed: f64,
    /// Different events received per second, in the last second.
    pub(crate) rate_events: f64,
    /// Median time from the scheduled publish to the broker's confirm, in the last second.
    pub(crate) confirm_p50_ms: Option<f64>,
    /// 99th percentile of the same.
    pub(crate) confirm_p99_ms: Option<f64>,
    /// Median time from the scheduled publish to the receipt of the event, in the last second.
    pub(crate) event_p50_ms: Option<f64>,
    /// 99th percentile of the same.
    pub(crate) event_p99_ms: Option<f64>,
}

/// The latencies of all messages, in microseconds from the scheduled publish.
#[derive(Clone, Debug)]
pub(crate) struct Histograms {
    /// To the broker's confirm.
    pub(crate) confirm: Histogram<u64>,
    /// To the commit of the outcome.
    pub(crate) commit: Histogram<u64>,
    /// To the receipt of the event.
    pub(crate) event: Histogram<u64>,
    /// To the publish itself.
    pub(crate) schedule_lag: Histogram<u64>,
}

impl Summary {
    /// Payments that were decided: posted or declined.
    pub(crate) fn payments(&self) -> u64 {
        self.settled + self.rejected.values().sum::<u64>()
    }

    /// Processor time per decided payment, in microseconds; `None` if there was no payment.
    pub(crate) fn cpu_micros_per_payment(&self, used: &ProcessUse) -> Option<f64> {
        let payments = self.payments();
        (payments > 0).then(|| 1e6 * used.cpu_seconds / payments as f64)
    }
}

impl Histograms {
    /// Nothing measured yet.
    pub(crate) fn new() -> Self {
        Self {
            confirm: empty_histogram(),
            commit: empty_histogram(),
            event: empty_histogram(),
            schedule_lag: empty_histogram(),
        }
    }
}

/// A histogram of microseconds, up to an hour; record with `saturating_record`.
pub(crate) fn empty_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_MICROS, DIGITS).expect("constant bounds that are in order")
}

impl Quantiles {
    /// Of a histogram of microseconds; `None` if it is empty.
    pub(crate) fn of(micros: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| millis(micros.value_at_quantile(quantile));
        (!micros.is_empty()).then(|| Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: millis(micros.max()),
            count: micros.len(),
        })
    }
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_microseconds_are_milliseconds() {
        let mut micros = empty_histogram();
        assert_eq!(Quantiles::of(&micros), None);
        (1..=1000).for_each(|value| micros.saturating_record(value));
        let quantiles = Quantiles::of(&micros).expect("not empty");
        let Quantiles { p50, p90, p99, p999, max, count } = quantiles;
        assert_eq!((p50, p90, p99, p999, max, count), (0.5, 0.9, 0.99, 0.999, 1.0, 1000));
    }

    #[test]
    fn a_time_beyond_the_longest_counts_as_the_longest() {
        let mut micros = empty_histogram();
        micros.saturating_record(10 * LONGEST_MICROS);
        let longest = Quantiles::of(&micros).expect("not empty").max;
        assert!((3.6e6..3.61e6).contains(&longest), "{longest} ms");
    }
}
