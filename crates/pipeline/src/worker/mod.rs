//! The workers: take the tasks of a lane as a batch, commit the batch, settle its deliveries.
//!
//! There is no linger timer: when idle, batches have one task and the lowest latency; under load, batches are large
//! and throughput is highest.
//!
//! Invariant: whatever the store returns, a batch stays with its worker until each of its tasks is settled
//! or deferred.

mod buffers;
mod settings;
mod settle;

use std::ops::ControlFlow;
use std::sync::Arc;

use tracing::warn;

use self::buffers::{Buffer, Buffers};
pub use self::settings::PipelineSettings;
use self::settle::{Decided, Waits};
use crate::admission::{Admission, Delivery, Job};
use crate::committer::{Committer, Patience, Uncommitted};
use crate::lanes::LaneGuard;
use crate::store::{BatchStore, Committed, MAX_BATCH_BYTES, StoreError, Submission};
use crate::traces::Commit;
use settled_core::contract::{DeadLetter, DeadReason};

/// State shared by all workers: where tasks come from, and what commits them.
pub struct Workers<S, D> {
    admission: Arc<Admission<D>>,
    committer: Arc<Committer<S>>,
    buffers: Buffers<Job<D>>,
    max_batch: usize,
}

impl<S: BatchStore, D: Delivery> Workers<S, D> {
    /// Creates the state for `count` workers. A batch has at most `max_batch` tasks.
    pub fn new(
        admission: Arc<Admission<D>>,
        committer: Arc<Committer<S>>,
        count: usize,
        max_batch: usize,
    ) -> Arc<Self> {
        // Each worker holds two buffers: the batch in its transaction and the committed batch that is being settled.
        Arc::new(Self { admission, committer, buffers: Buffers::new(count * 2, max_batch), max_batch })
    }

    /// Runs one worker until admission is closed or the committer finds a broken invariant.
    pub async fn work(self: Arc<Self>) {
        while let Some(lane) = self.admission.next_lane().await {
            let (index, waits) = (lane.index(), self.work_off(&lane).await);
            // Release the lane first: a wake-up before that would be lost.
            drop(lane);
            for (account, arrival) in waits {
                self.admission.wake_after(index, &account, arrival);
            }
            if self.committer.is_broken() {
                return;
            }
        }
    }

    /// Commits and settles the tasks of a lane, batch by batch. Returns what the deferred tasks wait for.
    async fn work_off(&self, lane: &LaneGuard<'_, Job<D>>) -> Waits {
        let mut unsettled = None;
        let mut waits = Waits::new();
        loop {
            let mut batch = self.buffers.take();
            lane.take(self.max_batch, MAX_BATCH_BYTES, |job| job.message.body.len(), &mut batch);
            let Some(first) = batch.first() else { break };
            lane.works_since(first.taken);
            waits = self.process(lane, batch, &mut unsettled).await;
            // Take another batch of this lane only to settle the committed one during its transaction, and only if no
            // other lane is waiting for a worker.
            if unsettled.is_none() || self.admission.is_any_lane_ready() {
                break;
            }
        }
        if let Some(decided) = unsettled {
            self.settle(lane, decided);
        }
        waits
    }

    /// Commits a batch, bisecting it if PostgreSQL refuses a task. Returns what the deferred tasks wait for.
    ///
    /// The previous batch of the lane, in `unsettled`, is settled during this batch's transaction. If no task of this
    /// batch is deferred, the batch is left in `unsettled` for the next call.
    async fn process<'p>(
        &'p self,
        lane: &LaneGuard<'_, Job<D>>,
        mut jobs: Buffer<'p, Job<D>>,
        unsettled: &mut Option<Decided<'p, D>>,
    ) -> Waits {
        let pending = self.admission.undecided(unsettled.as_ref().map_or_else(Vec::new, Decided::arrivals));
        let mut batch = self.committer.begin(jobs.len(), Patience::Endless);
        let mut condemned: Option<DeadLetter> = None;
        loop {
            let front = |size| submissions(&jobs[..size], condemned.as_ref());
            let settle_before = || {
                if let Some(before) = unsettled.take() {
                    self.settle(lane, before);
                }
            };
            match batch.next(front, &pending, settle_before).await {
                None | Some(Err(Uncommitted::Broken)) => return Waits::new(),
                Some(Ok((size, committed, commit))) if size == jobs.len() && !committed.defers() => {
                    *unsettled = Some(Decided::new(jobs, committed, commit));
                    return Waits::new();
                }
                Some(Ok((size, committed, commit))) => {
                    condemned = None;
                    if let ControlFlow::Break(waits) = self.settle_front(lane, &mut jobs, size, (committed, commit)) {
                        return waits;
                    }
                }
                Some(Err(Uncommitted::Refused(error))) if condemned.is_none() => {
                    condemned = Some(unprocessable(&jobs[0], &error));
                }
                // A dead letter contains nothing that PostgreSQL can refuse, and endless patience never fails: the
                // invariant is broken.
                Some(Err(Uncommitted::Refused(error) | Uncommitted::Failed(error))) => {
                    self.committer.stop(&error);
                    return Waits::new();
                }
            }
        }
    }

    /// Settles the first `size` jobs. If some of them are deferred, defers the rest of the batch too, because it
    /// arrived later.
    fn settle_front<'p>(
        &'p self,
        lane: &LaneGuard<'_, Job<D>>,
        jobs: &mut Buffer<'p, Job<D>>,
        size: usize,
        (committed, commit): (Committed, Option<Commit>),
    ) -> ControlFlow<Waits> {
        let mut piece = self.buffers.take();
        piece.extend(jobs.drain(..size));
        let (waits, deferred) = self.settle(lane, Decided::new(piece, committed, commit));
        if deferred.is_empty() {
            return ControlFlow::Continue(());
        }
        lane.defer(deferred.into_iter().chain(jobs.drain(..)).collect());
        ControlFlow::Break(waits)
    }
}

/// Returns the jobs as submissions. With `condemned`, each is submitted as that dead letter (there is only one then).
fn submissions<'t, D>(jobs: &'t [Job<D>], condemned: Option<&'t DeadLetter>) -> Vec<Submission<'t>> {
    let submission = |job: &'t Job<D>| {
        let submission = Submission::of(job.arrival, &job.message);
        condemned.map_or(submission, |letter| Submission { content: Err(letter), ..submission })
    };
    jobs.iter().map(submission).collect()
}

/// Returns the dead letter for a task that PostgreSQL refuses even in a batch of its own.
fn unprocessable<D>(job: &Job<D>, error: &StoreError) -> DeadLetter {
    let task_id = job.message.content.as_ref().ok().map(|task| task.id);
    warn!(?task_id, %error, "PostgreSQL refuses this task: a dead letter");
    DeadLetter { reason: DeadReason::Unprocessable, field: None, detail: error.to_string(), task_id }
}
