//! A run as it was at a moment.

use std::time::Duration;

use serde::Serialize;

use super::Quantiles;

/// A second of a run. Counters are cumulative; latencies are of what happened in that second
/// and absent where nothing did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Sample {
    /// Since the load began, in seconds.
    pub(crate) at_s: f64,
    /// Messages published so far.
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
    /// Median time from the scheduled publish to the broker's confirm, in milliseconds.
    pub(crate) confirm_p50_ms: Option<f64>,
    /// 99th percentile of the same, in milliseconds.
    pub(crate) confirm_p99_ms: Option<f64>,
    /// Median time from the scheduled publish to the commit, in milliseconds.
    pub(crate) commit_p50_ms: Option<f64>,
    /// 99th percentile of the same, in milliseconds.
    pub(crate) commit_p99_ms: Option<f64>,
    /// Median time from the scheduled publish to the receipt of the event, in milliseconds.
    pub(crate) event_p50_ms: Option<f64>,
    /// 99th percentile of the same, in milliseconds.
    pub(crate) event_p99_ms: Option<f64>,
    /// Processors that the daemons kept busy.
    pub(crate) daemon_cpu_cores: f64,
    /// Resident memory of the daemons, in bytes.
    pub(crate) daemon_rss_bytes: u64,
    /// Processors that PostgreSQL kept busy.
    pub(crate) postgres_cpu_cores: f64,
    /// Resident memory of PostgreSQL, in bytes.
    pub(crate) postgres_rss_bytes: u64,
    /// Processors that RabbitMQ kept busy.
    pub(crate) rabbitmq_cpu_cores: f64,
    /// Resident memory of RabbitMQ, in bytes.
    pub(crate) rabbitmq_rss_bytes: u64,
    /// Processors that settled-loadtest itself kept busy.
    pub(crate) generator_cpu_cores: f64,
}

/// A moment of a run that goes on, for those who watch it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) elapsed: Duration,
    /// Messages per second that are to be published now; `None` for as many as possible.
    pub(crate) target_rate: Option<f64>,
    pub(crate) published: u64,
    pub(crate) confirmed: u64,
    pub(crate) settled: u64,
    pub(crate) rejected: u64,
    pub(crate) duplicates: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) events: u64,
    /// Messages that wait in the queue or are with a daemon.
    pub(crate) queue_depth: u64,
    pub(crate) outbox_events: u64,
    /// Messages published per second, in the last second.
    pub(crate) rate_published: f64,
    /// Outcomes committed per second, in the last second.
    pub(crate) rate_committed: f64,
    /// Different events received per second, in the last second.
    pub(crate) rate_events: f64,
    /// Times from the scheduled publish to the broker's confirm, in the last second.
    pub(crate) confirm: Option<Quantiles>,
    /// Times from the scheduled publish to the receipt of the event, in the last second.
    pub(crate) event: Option<Quantiles>,
}

impl Snapshot {
    /// Returns how many messages have an outcome.
    pub(crate) const fn decided(&self) -> u64 {
        self.settled + self.rejected + self.duplicates + self.dead_lettered
    }
}
