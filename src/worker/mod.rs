//! The workers: take what waits in a lane, have it committed, settle the deliveries.
//!
//! There is no linger timer: an idle system has batches of one and the lowest latency, a busy
//! one big batches and the highest throughput. Whatever the store answers, a batch stays with
//! its worker until each of its tasks is settled or set aside.

mod buffers;
mod settings;
mod settle;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures_util::future::join;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use self::buffers::Buffer;
pub use self::buffers::Buffers;
pub use self::settings::PipelineSettings;
use self::settle::{Decided, Undecided, Waits};
use crate::contract::{DeadLetter, DeadReason, Message};
use crate::disposition::Disposition;
use crate::health::Health;
use crate::lanes::{InFlight, LaneGuard, Lanes};
use crate::ledger::Arrival;
use crate::outbox::Handover;
use crate::retry::{Delays, RetrySettings};
#[cfg(feature = "sabotage")]
use crate::sabotage::{self, Defect};
use crate::store::{BatchStore, Committed, MAX_BATCH_BYTES, Proof, StoreError, Submission};
use crate::telemetry::labels::RetryKind;
use crate::telemetry::metrics::{Metrics, observe};

/// A delivery that somebody waits to have settled. Settling consumes it and needs a proof of
/// commit, which only the store can make.
pub trait Delivery: Send + 'static {
    /// The outcome is committed.
    fn settle(self, proof: &Proof);

    /// As if it were, while the delivery is still needed.
    #[cfg(feature = "sabotage")]
    fn settle_early(&self, forged: &Proof);
}

/// A task in flight.
#[derive(Debug)]
pub struct Job<D> {
    /// Its number.
    pub arrival: Arrival,
    /// What it says.
    pub message: Message,
    /// When it was taken.
    pub taken: Instant,
    /// Whom to tell.
    pub delivery: D,
}

/// What the workers share.
pub struct Pipeline<S, D> {
    /// The seam to the database.
    pub store: S,
    /// Where the jobs wait.
    pub lanes: Lanes<Job<D>>,
    /// Which there are.
    pub in_flight: InFlight,
    /// How many transactions may run at once.
    pub transactions: Semaphore,
    /// Where the events go.
    pub handover: Handover,
    /// Reused batches.
    pub buffers: Buffers<Job<D>>,
    /// The most tasks of one transaction.
    pub max_batch: usize,
    /// How long to wait between attempts.
    pub retry: RetrySettings,
    /// What is seen from outside.
    pub health: Arc<Health>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// How many workers can't commit at the moment.
    pub failing: AtomicUsize,
    /// Told when a commit has made tasks due that wait.
    pub agenda: Notify,
    /// Cancelled when an invariant doesn't hold.
    pub broken: CancellationToken,
}

impl<S: BatchStore, D: Delivery> Pipeline<S, D> {
    /// A worker's life: until the lanes are closed, or an invariant doesn't hold.
    pub async fn work(self: Arc<Self>) {
        while let Some(lane) = self.lanes.next().await {
            let mut unsettled = None;
            let mut waits = Vec::new();
            loop {
                let mut batch = self.buffers.take();
                lane.take(self.max_batch, MAX_BATCH_BYTES, |job| job.message.body.len(), &mut batch);
                if batch.is_empty() {
                    break;
                }
                waits = self.process(&lane, batch, &mut unsettled).await;
                // A batch that can be settled beside the next one of its lane is, unless another
                // lane would have to wait for this worker.
                if unsettled.is_none() || self.lanes.is_any_ready() {
                    break;
                }
            }
            if let Some(decided) = unsettled {
                self.settle(&lane, decided);
            }
            let index = lane.index();
            // First let go of the lane: a wake-up that comes before would be lost.
            drop(lane);
            for (account, arrival) in waits {
                if !self.in_flight.wait(&account, arrival, index) {
                    self.lanes.wake(index);
                }
            }
            if self.broken.is_cancelled() {
                return;
            }
        }
    }

    /// Has the batch committed, whole or in pieces; answers what the tasks set aside wait for.
    ///
    /// The batch before, if it is `unsettled`, is settled while PostgreSQL has this one; and if
    /// nothing of this one is set aside, it is left to the next in the same way.
    async fn process<'p>(
        &'p self,
        lane: &LaneGuard<'_, Job<D>>,
        mut batch: Buffer<'p, Job<D>>,
        unsettled: &mut Option<Decided<'p, D>>,
    ) -> Waits {
        let mut attempts = Attempts::new(&self.retry);
        // The sizes of the pieces, the last one at the front of the batch.
        let mut pieces = vec![batch.len()];
        let mut condemned: Option<DeadLetter> = None;
        let committed = unsettled.as_ref().map_or_else(Vec::new, Decided::arrivals);
        let pending = Undecided::new(&self.in_flight, committed);
        while let Some(size) = pieces.pop() {
            let attempt = self.attempt(&batch[..size], condemned.as_ref(), &pending);
            let result = match unsettled.take() {
                // In this order: the attempt sends its first statements, then there is time.
                Some(before) => join(attempt, async { self.settle(lane, before) }).await.0,
                None => attempt.await,
            };
            match result {
                Ok(committed) => {
                    condemned = None;
                    attempts.succeeded(self);
                    if size == batch.len() && !committed.sets_aside() {
                        *unsettled = Some(Decided::new(batch, committed));
                        return Waits::new();
                    }
                    let mut piece = self.buffers.take();
                    piece.extend(batch.drain(..size));
                    let (waits, aside) = self.settle(lane, Decided::new(piece, committed));
                    if !aside.is_empty() {
                        // What is left of a bisected batch came later: it stands behind.
                        lane.set_aside(aside.into_iter().chain(batch.drain(..)).collect());
                        return waits;
                    }
                }
                Err(error) => match Disposition::of_error(&error) {
                    Disposition::Bisect if size > 1 => {
                        self.metrics.bisections.increment(1);
                        pieces.extend([size - size / 2, size / 2]);
                    }
                    Disposition::Bisect if condemned.is_none() => {
                        condemned = Some(unprocessable(&batch[0], &error));
                        pieces.push(size);
                    }
                    Disposition::Crash | Disposition::Bisect => {
                        error!(%error, "an invariant doesn't hold: stopping, with nothing more acknowledged");
                        self.broken.cancel();
                        return Waits::new();
                    }
                    _ => {
                        attempts.failed(self, &error).await;
                        pieces.push(size);
                    }
                },
            }
        }
        Waits::new()
    }

    async fn attempt(
        &self,
        jobs: &[Job<D>],
        condemned: Option<&DeadLetter>,
        pending: &Undecided<'_>,
    ) -> Result<Committed, StoreError> {
        let submissions: Vec<Submission<'_>> = jobs
            .iter()
            .map(|job| {
                let submission = Submission::of(job.arrival, &job.message);
                condemned.map_or(submission, |letter| Submission { content: Err(letter), ..submission })
            })
            .collect();
        let Ok(_permit) = self.transactions.acquire().await else {
            return Err(StoreError::Unavailable("the daemon is stopping".into()));
        };
        #[cfg(feature = "sabotage")]
        if sabotage::has(Defect::AckBeforeCommit) {
            sabotage::ack(jobs).await;
        }
        let began = Instant::now();
        let task_bytes = jobs.iter().map(|job| job.message.body.len()).sum();
        let room = self.handover.reserve(jobs.len(), task_bytes);
        let mut committed = self.store.commit(&submissions, &[], pending, room.is_some()).await?;
        if committed.woken > 0 {
            self.agenda.notify_one();
        }
        self.metrics.shortfalls.increment(committed.shortfalls as u64);
        observe(&self.metrics.transaction_seconds, began.elapsed());
        self.metrics.batch_size.record(jobs.len() as f64);
        if let (Some(room), Some(parcel)) = (room, committed.parcel.take()) {
            room.give(parcel);
        }
        Ok(committed)
    }
}

/// The dead letter of a task that PostgreSQL refuses when it is alone.
fn unprocessable<D>(job: &Job<D>, error: &StoreError) -> DeadLetter {
    let task_id = job.message.content.as_ref().ok().map(|task| task.id);
    warn!(?task_id, %error, "PostgreSQL refuses this task: a dead letter");
    DeadLetter { reason: DeadReason::Unprocessable, field: None, detail: error.to_string(), task_id }
}

/// The attempts at one batch.
struct Attempts {
    delays: Delays,
    conflicts_left: u32,
    failing: bool,
    /// Why it isn't known whether the batch was committed, since the first attempt of which it isn't.
    unknown: Option<String>,
}

impl Attempts {
    fn new(retry: &RetrySettings) -> Self {
        Self { delays: Delays::new(retry), conflicts_left: retry.conflict_attempts, failing: false, unknown: None }
    }

    fn succeeded<S, D>(&mut self, pipeline: &Pipeline<S, D>) {
        if std::mem::take(&mut self.failing) && pipeline.failing.fetch_sub(1, Ordering::SeqCst) == 1 {
            pipeline.health.resume();
        }
        self.unknown = None;
        self.delays.reset();
    }

    /// Tells, and waits as long as this error asks for.
    async fn failed<S, D>(&mut self, pipeline: &Pipeline<S, D>, error: &StoreError) {
        let (health, metrics) = (&pipeline.health, &pipeline.metrics);
        match Disposition::of_error(error) {
            Disposition::RetryNow if self.conflicts_left > 0 => {
                self.conflicts_left -= 1;
                metrics.retries(RetryKind::Conflict).increment(1);
                tracing::debug!(%error, "another transaction was in the way: the batch again");
            }
            Disposition::LookAgain => {
                metrics.unknown_commits.increment(1);
                metrics.retries(RetryKind::UnknownCommit).increment(1);
                warn!(%error, "it isn't known whether the batch was committed: looking its ids up");
                // Once is a lost connection. If looking doesn't help, commits don't get anywhere.
                if self.unknown.is_some() {
                    self.pause(pipeline, error);
                }
                self.unknown.get_or_insert_with(|| error.to_string());
            }
            _ => {
                metrics.retries(RetryKind::Unavailable).increment(1);
                self.pause(pipeline, error);
            }
        }
        let wait = self.delays.next_delay();
        tokio::time::sleep(wait).await;
        // Whoever probes a server that is away is not stuck.
        health.progress().tick();
    }

    /// Stops intake. What came after an unknown commit, a lock for instance that it still holds, explains
    /// less than the unknown commit does.
    fn pause<S, D>(&mut self, pipeline: &Pipeline<S, D>, error: &StoreError) {
        if !std::mem::replace(&mut self.failing, true) {
            pipeline.failing.fetch_add(1, Ordering::SeqCst);
        }
        pipeline.health.pause(match &self.unknown {
            Some(first) => format!("{first}; now {error}"),
            None => error.to_string(),
        });
    }
}
