//! The figures of a run and its verdict, from its evidence.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::args::Run;
use crate::plan::{Plan, Tally};
use crate::rig::Usage;
use crate::scenario::Evidence;
use crate::verdict::{self, Check};

/// All that is to be said of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Its name on the command line.
    pub(crate) run: &'static str,
    /// Whether every check holds.
    pub(crate) passed: bool,
    /// How long all of it took, servers included.
    pub(crate) seconds: f64,
    /// Messages of the load.
    pub(crate) published: u64,
    /// Payments that were posted.
    pub(crate) settled: u64,
    /// Payments that were declined, by reason.
    pub(crate) rejected: BTreeMap<&'static str, u64>,
    /// Messages that repeated another and changed nothing.
    pub(crate) duplicates: u64,
    /// Messages that became no payment, by reason.
    pub(crate) dead_letters: BTreeMap<&'static str, u64>,
    /// Events that came, of the opening of accounts too.
    pub(crate) events: Events,
    /// How fast.
    pub(crate) speed: Speed,
    /// From just before a message is published to its commit, in milliseconds. Not of a backlog,
    /// where it would measure for how long nobody was there.
    pub(crate) publish_to_commit_ms: Option<Latency>,
    /// What the daemon that processed the load used.
    pub(crate) daemon: Option<Usage>,
    /// How many checks `settled audit` made, and whether it passed.
    pub(crate) audit: Audit,
    /// What had to hold.
    pub(crate) checks: Vec<Check>,
}

/// Events, as the subscriber received them.
#[derive(Debug, Serialize)]
pub(crate) struct Events {
    /// Deliveries.
    pub(crate) received: u64,
    /// Different ones.
    pub(crate) unique: u64,
}

/// Outcomes of the load per second.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Speed {
    /// Payments committed, from the first commit to the last by the database's clock.
    pub(crate) payments_per_second: f64,
    /// Events received, from the first commit to the last event.
    pub(crate) events_per_second: f64,
}

/// A distribution, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Latency {
    /// Half are not slower.
    pub(crate) p50: f64,
    /// 99 of 100 are not slower.
    pub(crate) p99: f64,
    /// None is slower.
    pub(crate) max: f64,
}

/// What `settled audit` says, in short.
#[derive(Debug, Serialize)]
pub(crate) struct Audit {
    /// Its verdict.
    pub(crate) passed: bool,
    /// How many invariants it checked.
    pub(crate) checks: usize,
}

impl Report {
    /// Draws it up.
    ///
    /// # Errors
    /// None that could occur: the histogram takes every value.
    pub(crate) fn new(run: &Run, plan: &Plan, evidence: &Evidence) -> Result<Self> {
        let tally = verdict::found(plan, evidence);
        let (audit, received) = (evidence.audit.as_ref().ok(), &evidence.received);
        Ok(Self {
            run: run.name(),
            passed: false,
            seconds: 0.0,
            published: plan.load.len() as u64,
            settled: tally.named("settled"),
            rejected: by_reason(&tally, "rejected"),
            duplicates: tally.named("duplicate"),
            dead_letters: by_reason(&tally, "dead_lettered"),
            events: Events { received: received.total, unique: received.kinds.len() as u64 },
            speed: speed(plan, evidence),
            publish_to_commit_ms: match run {
                Run::Demo { .. } => latency(plan, evidence)?,
                Run::Drain { .. } => None,
            },
            daemon: evidence.daemons.last().map(|daemon| daemon.usage),
            audit: Audit {
                passed: audit.is_some_and(|audit| audit["passed"] == true),
                checks: audit.and_then(|audit| audit["checks"].as_array()).map_or(0, Vec::len),
            },
            checks: verdict::checks(plan, evidence),
        })
    }

    /// Adds what is known only when all has ended, and passes the verdict.
    pub(crate) fn close(&mut self, cleanup: Result<()>, took: Duration) {
        let found = cleanup.err().map(|error| format!("{error:#}"));
        self.checks.push(Check { holds: "no process, directory or port is left behind", found });
        self.passed = self.checks.iter().all(|check| check.found.is_none());
        self.seconds = took.as_secs_f64();
    }
}

fn by_reason(tally: &Tally, name: &str) -> BTreeMap<&'static str, u64> {
    let entries = tally.entries().filter(|(outcome, _)| outcome.name() == name);
    entries.map(|(outcome, count)| (outcome.reason(), count)).collect()
}

fn speed(plan: &Plan, evidence: &Evidence) -> Speed {
    let payments = plan.load.iter().filter(|message| message.is_decided()).count() as f64;
    let (first, last) = evidence.committed(&plan.load).unwrap_or_default();
    let per_second = |until: i64| payments / ((until - first).max(1) as f64 / 1e6);
    Speed { payments_per_second: per_second(last), events_per_second: per_second(evidence.received.last_at) }
}

/// Of the load only; `None` if nothing was committed.
fn latency(plan: &Plan, evidence: &Evidence) -> Result<Option<Latency>> {
    let mut micros = Histogram::<u64>::new(3)?;
    for message in plan.load.iter().filter(|message| message.is_decided()) {
        let payment = evidence.sent.id(message).and_then(|id| evidence.books.payments.get(&id));
        if let Some((payment, at)) = payment.zip(evidence.sent.at(message)) {
            micros.record(u64::try_from(payment.committed_at - at).unwrap_or_default())?;
        }
    }
    let millis = |value: u64| value as f64 / 1e3;
    Ok((!micros.is_empty()).then(|| Latency {
        p50: millis(micros.value_at_quantile(0.5)),
        p99: millis(micros.value_at_quantile(0.99)),
        max: millis(micros.max()),
    }))
}
