//! After the commit: the deliveries are settled, the events handed over, the figures kept.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing::field::display;
use tracing::{debug, warn};

use super::buffers::Buffer;
use super::{Delivery, Job, Pipeline};
use crate::contract::{AccountName, Task};
use crate::disposition::Disposition;
use crate::lanes::LaneGuard;
use crate::ledger::Arrival;
use crate::store::{Answer, BatchStore, Committed};
use crate::telemetry::labels::Outcome;
use crate::telemetry::metrics::observe;

/// What tasks set aside wait for: the account, and the arrival before which.
pub(super) type Waits = Vec<(AccountName, Arrival)>;

/// A batch that is committed, and whose deliveries don't know yet.
pub(super) struct Decided<'p, D> {
    jobs: Buffer<'p, Job<D>>,
    committed: Committed,
    at: (Timestamp, Instant),
}

impl<'p, D> Decided<'p, D> {
    /// `jobs` have been `committed` just now.
    pub(super) fn new(jobs: Buffer<'p, Job<D>>, committed: Committed) -> Self {
        Self { jobs, committed, at: (Timestamp::now(), Instant::now()) }
    }
}

impl<S: BatchStore, D: Delivery> Pipeline<S, D> {
    /// Settles what was decided; answers what was set aside, and what it waits for.
    pub(super) fn settle(&self, lane: &LaneGuard<'_, Job<D>>, decided: Decided<'_, D>) -> (Waits, Vec<Job<D>>) {
        let Decided { mut jobs, committed: Committed { proof, answers, .. }, at } = decided;
        let is_aside = |answer: &Answer| Disposition::of_answer(answer) == Disposition::SetAside;
        let done = jobs.iter().zip(&answers).filter(|(_, answer)| !is_aside(answer));
        for woken in self.in_flight.done(done.map(|(job, _)| (job.arrival, job.message.content.as_ref().ok()))) {
            self.lanes.wake(woken);
        }
        let (mut waits, mut aside, mut settled) = (Waits::new(), Vec::new(), 0);
        for (job, answer) in jobs.drain(..).zip(answers) {
            if is_aside(&answer) {
                if let Answer::SetAside { waits_on: Some(account) } = answer {
                    waits.push((account, job.arrival));
                }
                aside.push(job);
                continue;
            }
            self.count(&job, &answer, at);
            job.delivery.settle(&proof);
            settled += 1;
        }
        lane.release(settled);
        self.health.progress().settled(settled);
        (waits, aside)
    }

    fn count(&self, job: &Job<D>, answer: &Answer, (now, instant): (Timestamp, Instant)) {
        let task = job.message.content.as_ref().ok();
        let Some(outcome) = Outcome::of(answer) else { return };
        if let Outcome::DeadLettered(reason) = outcome {
            self.metrics.dead_letters(reason).increment(1);
        }
        self.metrics.outcome(task.map(|task| task.body.task_type()), outcome).increment(1);
        observe(&self.metrics.receive_to_commit_seconds, instant - job.taken);
        if let Some(published) = job.message.published_at() {
            let waited = Duration::try_from(now.duration_since(published)).unwrap_or_default();
            observe(&self.metrics.publish_to_commit_seconds, waited);
        }
        log(job, task, outcome);
    }
}

fn log<D>(job: &Job<D>, task: Option<&Task>, outcome: Outcome) {
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
