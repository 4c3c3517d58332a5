//! Settles the deliveries of committed batches and records their metrics.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing::field::display;
use tracing::{debug, warn};

use super::Workers;
use super::buffers::Buffer;
use crate::admission::{Delivery, Job};
use crate::labels::Outcome;
use crate::lanes::LaneGuard;
use crate::metrics::observe;
use crate::store::{Answer, BatchStore, Committed};
use crate::traces::Commit;
use settled_core::contract::{AccountName, Task};
use settled_core::ledger::Arrival;

/// What deferred tasks wait for: each entry is an account and an arrival number. Its task waits for the earlier
/// arrivals that may credit or open the account.
pub(super) type Waits = Vec<(AccountName, Arrival)>;

/// A committed batch whose deliveries are not settled yet.
pub(super) struct Decided<'p, D> {
    jobs: Buffer<'p, Job<D>>,
    committed: Committed,
    commit: Option<Commit>,
    at: (Timestamp, Instant),
}

impl<'p, D> Decided<'p, D> {
    /// Pairs the jobs of a batch with the result of their commit, and its times.
    pub(super) fn new(jobs: Buffer<'p, Job<D>>, committed: Committed, commit: Option<Commit>) -> Self {
        Self { jobs, committed, commit, at: (Timestamp::now(), Instant::now()) }
    }

    /// Returns the arrival numbers of the tasks, in ascending order.
    pub(super) fn arrivals(&self) -> Vec<Arrival> {
        self.jobs.iter().map(|job| job.arrival).collect()
    }
}

impl<S: BatchStore, D: Delivery> Workers<S, D> {
    /// Settles the decided tasks. Returns what the deferred tasks wait for, and the deferred tasks.
    pub(super) fn settle(&self, lane: &LaneGuard<'_, Job<D>>, decided: Decided<'_, D>) -> (Waits, Vec<Job<D>>) {
        let Decided { mut jobs, committed: Committed { proof, answers, .. }, commit, at } = decided;
        let done = jobs.iter().zip(&answers).filter(|(_, answer)| !answer.is_deferred());
        self.admission.committed(done.map(|(job, _)| (job.arrival, job.message.content.as_ref().ok())));
        let (mut waits, mut aside, mut settled) = (Waits::new(), Vec::new(), 0);
        let mut traces = self.committer.traces().batch(jobs.len(), commit);
        for (job, answer) in jobs.drain(..).zip(answers) {
            if let Answer::Deferred { waits_on } = answer {
                waits.extend(waits_on.map(|account| (account, job.arrival)));
                aside.push(job);
                continue;
            }
            let outcome = self.count(&job, &answer, at);
            job.delivery.settle(proof.as_ref().expect("what has an outcome has a proof"), &answer);
            traces.settled(&job.message, outcome);
            settled += 1;
        }
        self.admission.settled(lane, settled);
        (waits, aside)
    }

    fn count(&self, job: &Job<D>, answer: &Answer, (now, instant): (Timestamp, Instant)) -> Option<Outcome> {
        let outcome = self.committer.count(&job.message, answer)?;
        let metrics = self.committer.metrics();
        observe(&metrics.receive_to_commit_seconds, instant - job.taken);
        if let Some(published) = job.message.published_at() {
            let waited = Duration::try_from(now.duration_since(published)).unwrap_or_default();
            observe(&metrics.publish_to_commit_seconds, waited);
        }
        log(job, outcome);
        Some(outcome)
    }
}

fn log<D>(job: &Job<D>, outcome: Outcome) {
    let task: Option<&Task> = job.message.content.as_ref().ok();
    let traceparent = job.message.properties.traceparent.as_deref();
    let (name, reason) = (outcome.name(), outcome.reason());
    match (outcome, task) {
        (Outcome::DeadLettered(_), _) => {
            let detail = job.message.content.as_ref().err().map(|letter| letter.detail.as_str());
            let id = job.message.content.as_ref().map_or_else(|letter| letter.task_id, |task| Some(task.id));
            let (id, publisher) = (id.map(display), job.message.properties.publisher.as_deref());
            warn!(id, reason, detail, publisher, traceparent, "dead letter");
        }
        (_, Some(task)) => debug!(id = %task.id, outcome = name, reason, traceparent, "payment"),
        (_, None) => {}
    }
}
