//! From the evidence of a run to its results: figures, distributions and a line per second.

pub(crate) mod machine;
mod series;

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use settled_pipeline::labels::Outcome as Decided;

use crate::judge::{Evidence, verdict};
use crate::load::Pace;
use crate::plan::{Act, Ask, Ids, Tally, body};
use crate::report::model::{Audit, Check, Histograms, LatencyMs, Load, Machine, Quantiles, Results, Summary};
use crate::scenario::{Job, Outcome};
use crate::values::name;
pub(crate) use machine::describe;

/// A generator that is later than this, at the 99th percentile, is what was measured.
const LATE_MS: f64 = 10.0;
/// The same for one that takes so much longer than its schedule.
const SLOW: f64 = 0.99;

/// What happened to the messages, in microseconds since 1970.
struct Times {
    /// When the first message was to be published, or the daemons began with a backlog.
    origin: i64,
    /// When it was published; scheduled, and sent.
    sent: Vec<(i64, i64)>,
    /// Scheduled, and confirmed.
    confirmed: Vec<(i64, i64)>,
    /// Scheduled, and committed.
    settled: Vec<(i64, i64)>,
    /// The same for payments that were declined.
    rejected: Vec<(i64, i64)>,
    /// Scheduled, and received.
    events: Vec<(i64, i64)>,
    /// When each dead letter was first seen.
    dead: Vec<i64>,
    /// Whether scheduled times mean anything: not in a backlog.
    scheduled: bool,
}

/// Draws up the results of a run. The run is not closed yet: see [`Results::close`].
pub(crate) fn assemble(job: &Job, machine: &Machine, outcome: &Outcome) -> Results {
    let Outcome { evidence, seen, outbox_empty_at } = outcome;
    let times = Times::of(job, outcome);
    let histograms = times.histograms(job);
    let findings = evidence.find();
    let (published, confirmed) = (times.sent.len() as u64, times.confirmed.len() as u64);
    let (first, last) = evidence.committed().unwrap_or_default();
    let canceled = findings.tally.get(Decided::Scheduled);
    let decided = (times.settled.len() + times.rejected.len()) as u64 + canceled;
    let (events, last_event) =
        evidence.received.as_ref().map_or((0, 0), |received| (received.unique, received.last_at));
    let rate_committed = per_second(decided, first, last);
    let [daemon, postgres, rabbitmq, generator] = seen.totals;
    let summary = Summary {
        verb: job.verb.to_owned(),
        subject: name(job.blueprint.subject),
        label: job.output.label.clone(),
        command: machine::command(std::env::args()),
        started_at: machine::rfc_3339(times.origin),
        duration_s: seconds(times.last() - times.origin),
        machine: machine.clone(),
        load: load(job, evidence),
        published,
        confirmed,
        settled: findings.tally.named("settled"),
        rejected: by_reason(&findings.tally, "rejected"),
        canceled,
        duplicates: findings.tally.named("duplicate"),
        dead_lettered: by_reason(&findings.tally, "dead_lettered"),
        by_type: findings.by_type.clone(),
        waited: evidence.books.waits.clone(),
        events,
        events_received: evidence.received.as_ref().map_or(0, |received| received.total),
        events_missing: findings.events_missing,
        events_unexpected: findings.events_unexpected,
        lost: findings.lost,
        doubled: evidence.books.doubled,
        rate_published_per_s: times.rate_published(),
        rate_committed_per_s: rate_committed,
        rate_events_per_s: per_second(events, first, outbox_empty_at.unwrap_or(last_event)),
        latency_ms: LatencyMs {
            confirm: Quantiles::of(&histograms.confirm),
            commit: Quantiles::of(&histograms.commit),
            event: Quantiles::of(&histograms.event),
        },
        schedule_lag_ms: Quantiles::of(&histograms.schedule_lag),
        generator_was_the_bottleneck: times.generator_was_the_bottleneck(&histograms.schedule_lag),
        // The daemons that were stopped have told themselves.
        daemon: if evidence.fleet.stopped.is_empty() { daemon } else { evidence.fleet.used },
        postgres,
        rabbitmq,
        generator,
        audit: audit(evidence),
        checks: verdict::checks(evidence, &findings),
        ..Summary::of_this_version()
    };
    let slo = job.output.slo.as_ref().map(|slo| slo.judge(&summary)).unwrap_or_default();
    let summary = Summary { slo, ..summary };
    let mut results = Results { summary, series: times.series(seen), histograms };
    results.judge();
    results
}

impl Results {
    /// Adds a check that could not be made before, and passes the verdict again.
    pub(crate) fn close(&mut self, check: Check) {
        self.summary.checks.push(check);
        self.judge();
    }

    fn judge(&mut self) {
        let summary = &mut self.summary;
        let checked = summary.checks.iter().all(|check| check.found.is_none());
        summary.passed = checked && summary.slo.iter().all(|term| term.held);
    }
}

impl Times {
    fn of(job: &Job, Outcome { evidence, seen, .. }: &Outcome) -> Self {
        let backlog = job.verb == "drain";
        let origin = match seen.ticks.first() {
            // The first tick is a second after the first look.
            Some(tick) if backlog => tick.at - 1_000_000,
            _ => evidence.flights.start,
        };
        let mut times = Self {
            origin,
            sent: evidence.flights.sent.iter().map(|sent| (sent.scheduled, sent.at)).collect(),
            confirmed: Vec::new(),
            settled: Vec::new(),
            rejected: Vec::new(),
            events: Vec::new(),
            dead: evidence.books.dead_letters.iter().map(|letter| letter.first_seen).collect(),
            scheduled: !backlog,
        };
        let load = &evidence.plan().load;
        let mut scheduled = vec![0; load.len()];
        for sent in &evidence.flights.sent {
            scheduled[sent.index] = sent.scheduled;
        }
        let confirmed = evidence.flights.confirmed.iter();
        times.confirmed = confirmed.map(|confirmed| (scheduled[confirmed.index], confirmed.at)).collect();
        let due = due(evidence, &scheduled);
        for message in load.iter().filter(|message| message.is_decided() && !message.is_called_off()) {
            let due = due[message.id];
            if let Some(payment) = evidence.payment(message) {
                let times = if payment.rejection.is_none() { &mut times.settled } else { &mut times.rejected };
                times.push((due, payment.committed_at));
            }
            if let Some((_, at)) = evidence.received.as_ref().and_then(|received| received.arrival(message.id)) {
                times.events.push((due, at));
            }
        }
        times
    }

    fn histograms(&self, job: &Job) -> Histograms {
        let mut histograms = Histograms::new();
        if self.scheduled {
            record(&mut histograms.confirm, &self.confirmed);
            record(&mut histograms.commit, &self.settled);
            record(&mut histograms.commit, &self.rejected);
            record(&mut histograms.event, &self.events);
            if matches!(job.order.pace, Pace::Open { .. }) {
                record(&mut histograms.schedule_lag, &self.sent);
            }
        }
        histograms
    }

    /// When the last message was confirmed, committed or heard of.
    fn last(&self) -> i64 {
        let all = [&self.confirmed, &self.settled, &self.rejected, &self.events];
        let ends = all.into_iter().flatten().map(|(_, at)| *at);
        ends.chain(self.dead.iter().copied()).max().unwrap_or(self.origin).max(self.origin)
    }

    fn rate_published(&self) -> f64 {
        let sent = self.sent.iter().map(|(_, at)| *at);
        let (first, last) = (sent.clone().min().unwrap_or_default(), sent.max().unwrap_or_default());
        per_second(self.sent.len() as u64, first, last)
    }

    /// Whether it was late, or took longer for all of it than it had.
    fn generator_was_the_bottleneck(&self, lag: &Histogram<u64>) -> bool {
        let Some(lag) = Quantiles::of(lag) else { return false };
        let last = |part: fn(&(i64, i64)) -> i64| self.sent.iter().map(part).max().unwrap_or_default() - self.origin;
        let (asked, taken) = (last(|(due, _)| *due), last(|(_, at)| *at));
        lag.p99 > LATE_MS || (asked as f64) < SLOW * taken as f64 && seconds(taken - asked) * 1e3 > LATE_MS
    }
}

/// From when on each number of the plan's ids could be applied: when its first message was to be
/// published, and all that it needs could be applied; what is scheduled, at its time.
fn due(evidence: &Evidence, scheduled: &[i64]) -> Vec<i64> {
    let plan = evidence.plan();
    let mut due = vec![0; plan.ids];
    for (message, at) in plan.load.iter().zip(scheduled).filter(|(message, _)| message.is_decided()) {
        due[message.id] = at + message.execute_in.map_or(0, |millis| i64::from(millis) * 1000);
    }
    // Of a capture and its refund each may come first in the load: twice is enough for both.
    for message in plan.load.iter().chain(&plan.load).filter(|message| message.is_decided()) {
        if let Ask::FollowUp { act, needs, .. } = message.ask
            && act != Act::Cancel
        {
            due[message.id] = due[message.id].max(due[needs]);
        }
    }
    due
}

fn record(histogram: &mut Histogram<u64>, times: &[(i64, i64)]) {
    for (from, to) in times {
        histogram.saturating_record(u64::try_from(to - from).unwrap_or_default());
    }
}

fn load(job: &Job, evidence: &Evidence) -> Load {
    let shape = &job.order.shape;
    let (rate, arrival) = match (job.verb, job.order.pace) {
        ("drain", _) => ("backlog".to_owned(), "backlog".to_owned()),
        (_, Pace::Closed { window }) => ("max".to_owned(), format!("window of {window}")),
        (_, Pace::Open { curve, arrival }) => (curve.to_string(), name(arrival)),
    };
    let plan = evidence.plan();
    let payment = plan.load.first().zip(evidence.lines.ids.last().copied().flatten());
    let body = payment.and_then(|(message, id)| {
        let ids = Ids { own: id, parent: Some(id), due: 0 };
        body(&plan.accounts, message, ids).ok()
    });
    Load {
        rate,
        arrival,
        accounts: shape.accounts as u64,
        skew: shape.skew.to_string(),
        seed: shape.seed,
        payload_bytes: body.map_or(0, |body| body.len() as u64),
        mix: shape.mix.by_name(),
        cases: shape.life.kinds.by_name(),
        out_of_order: shape.life.out_of_order,
        scheduled: shape.life.scheduled.share,
        scheduled_within_s: shape.life.scheduled.within.as_secs_f64(),
        daemons: job.blueprint.daemons() as u32,
    }
}

fn by_reason(tally: &Tally, name: &str) -> BTreeMap<String, u64> {
    let entries = tally.entries().filter(|(outcome, _)| outcome.name() == name);
    entries.map(|(outcome, count)| (outcome.reason().to_owned(), count)).collect()
}

fn audit(evidence: &Evidence) -> Audit {
    let audit = evidence.audit.as_ref().ok();
    Audit {
        passed: audit.is_some_and(|audit| audit["passed"] == true),
        checks: audit.and_then(|audit| audit["checks"].as_array()).map_or(0, |checks| checks.len() as u64),
    }
}

fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}

fn per_second(count: u64, first: i64, last: i64) -> f64 {
    if count == 0 { 0.0 } else { count as f64 / seconds((last - first).max(1)) }
}
