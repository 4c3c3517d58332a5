//! The figures of a run and its verdict.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::SCHEMA_VERSION;

/// A run of settled-loadtest: its load, what came of it, how fast, and whether all was as it
/// had to be.
///
/// Later versions of the tool may add fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// Tasks that were applied: payments that were posted or held, and what acts on them.
    pub(crate) settled: u64,
    /// Tasks that were declined, by reason.
    pub(crate) rejected: BTreeMap<String, u64>,
    /// Payments that were called off while they waited.
    #[serde(default)]
    pub(crate) canceled: u64,
    /// Messages that repeated another and changed nothing.
    pub(crate) duplicates: u64,
    /// Messages that became no payment, by reason.
    pub(crate) dead_lettered: BTreeMap<String, u64>,
    /// How many tasks of each type came to each outcome: `settled`, `rejected` or `canceled`.
    #[serde(default)]
    pub(crate) by_type: BTreeMap<String, BTreeMap<String, u64>>,
    /// How often a task waited before that: `scheduled` for its time, `parked` for another task.
    #[serde(default)]
    pub(crate) waited: BTreeMap<String, u64>,
    /// Different events that were received, those of waiting too.
    pub(crate) events: u64,
    /// Events that were received, repetitions included: delivery is at least once.
    pub(crate) events_received: u64,
    /// Events that did not come, of outcomes and of waiting.
    pub(crate) events_missing: u64,
    /// Different events that no outcome of the load explains.
    pub(crate) events_unexpected: u64,
    /// Messages that were confirmed by the broker, but the database has no outcome of them. Has
    /// to be 0.
    pub(crate) lost: u64,
    /// Tasks that were applied more than once, or in part. Has to be 0.
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// The share of each kind of message that is no good payment, from 0 to 1.
    pub(crate) mix: BTreeMap<String, f64>,
    /// The share of each kind of case among the others, from 0 to 1; empty if all are transfers.
    #[serde(default)]
    pub(crate) cases: BTreeMap<String, f64>,
    /// The share of the cases that were published in reverse, from 0 to 1.
    #[serde(default)]
    pub(crate) out_of_order: f64,
    /// The share of the payments that were to be executed later, from 0 to 1.
    #[serde(default)]
    pub(crate) scheduled: f64,
    /// How much later at the most, in seconds.
    #[serde(default)]
    pub(crate) scheduled_within_s: f64,
    /// How many daemons shared the load.
    pub(crate) daemons: u32,
}

/// Latencies from the scheduled publish, in milliseconds; `null` where nothing was measured,
/// such as for a backlog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
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

impl Summary {
    /// Returns an empty summary with the versions of this program.
    pub(crate) fn of_this_version() -> Self {
        Self { schema_version: SCHEMA_VERSION, tool_version: env!("CARGO_PKG_VERSION").to_owned(), ..Self::default() }
    }

    /// Returns what each program used, by the name that is shown.
    pub(crate) const fn processes(&self) -> [(&'static str, ProcessUse); 4] {
        let Self { daemon, postgres, rabbitmq, generator, .. } = *self;
        [("daemon", daemon), ("PostgreSQL", postgres), ("RabbitMQ", rabbitmq), ("generator", generator)]
    }

    /// Returns processor time per payment that was posted or declined, in microseconds; `None` without such a payment.
    pub(crate) fn micros_per_payment(&self, cpu_seconds: f64) -> Option<f64> {
        let payments = self.settled + self.rejected.values().sum::<u64>();
        (payments > 0).then(|| 1e6 * cpu_seconds / payments as f64)
    }
}
