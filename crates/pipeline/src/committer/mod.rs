//! Commits batches for the workers, the scheduler and the collector. An attempt acquires a permit, reserves room in
//! the relay queue and runs the transaction. On an error, [`crate::disposition`] decides whether to bisect the batch,
//! to try again or to stop the daemon.
//!
//! Invariant: pieces are committed from front to back, so a bisected batch keeps its order. A piece is tried again
//! until it is committed or the caller skips it.

mod attempts;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use futures_util::future::join;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::error;
use uuid::Uuid;

use self::attempts::Attempts;
use crate::disposition::Disposition;
use crate::health::Health;
use crate::labels::Outcome;
use crate::metrics::{Metrics, observe};
use crate::outbox::{Handover, RelayQueue};
use crate::retry::RetrySettings;
use crate::settings::Live;
use crate::store::{Answer, BatchStore, Committed, StoreError, Submission};
use crate::traces::{Commit, Traces};
use settled_core::contract::{DeadReason, Message, Rejection};
use settled_core::ledger::{NonePending, Pending};

/// Commits batches, with a limit on concurrent transactions.
pub struct Committer<S> {
    store: Arc<S>,
    transactions: Semaphore,
    relay: RelayQueue,
    handover: Handover,
    retry: Live<RetrySettings>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    traces: Traces,
    /// Number of batches for which intake is paused because they can't be committed.
    failing: AtomicUsize,
    woken: Notify,
    broken: CancellationToken,
}

/// How long to keep trying to commit a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Until it is committed. Intake is paused while PostgreSQL is unavailable.
    Endless,
    /// Until an error other than a conflict. The caller tries again later; intake isn't paused.
    Brief,
}

/// Why the front piece of a batch wasn't committed. The piece stays in the batch.
#[derive(Debug)]
pub enum Uncommitted {
    /// PostgreSQL refuses the piece, which is a single task.
    Refused(StoreError),
    /// The error isn't the fault of the tasks, and the patience was [`Patience::Brief`].
    Failed(StoreError),
    /// An invariant doesn't hold: the daemon stops and acknowledges nothing more.
    Broken,
}

/// A batch that is being committed, from front to back.
pub struct Batch<'c, S> {
    committer: &'c Committer<S>,
    /// Sizes of the remaining pieces, the front piece last.
    pieces: Vec<usize>,
    attempts: Attempts,
}

impl<S: BatchStore> Batch<'_, S> {
    /// Commits the front piece, bisecting it while PostgreSQL refuses it. Returns its number of tasks, the result and,
    /// for traces, its times; `None` when the whole batch is committed.
    ///
    /// `front(n)` returns the first `n` remaining tasks. `meanwhile` is called once, during the first attempt.
    pub async fn next<'t>(
        &mut self,
        front: impl Fn(usize) -> Vec<Submission<'t>>,
        pending: &(impl Pending + Sync),
        meanwhile: impl FnOnce(),
    ) -> Option<Result<(usize, Committed, Option<Commit>), Uncommitted>> {
        let (committer, mut meanwhile) = (self.committer, Some(meanwhile));
        loop {
            let size = *self.pieces.last()?;
            let tasks = front(size);
            let attempt = committer.attempt(&tasks, &[], pending);
            // The order matters: once the attempt has its first statements queued, the task of their connection sends
            // them, and then `meanwhile` runs.
            let aside = async {
                if let Some(work) = meanwhile.take() {
                    tokio::task::yield_now().await;
                    work();
                }
            };
            let (result, ()) = join(attempt, aside).await;
            let error = match result {
                Ok((committed, commit)) => {
                    self.attempts.succeeded(committer);
                    self.pieces.pop();
                    return Some(Ok((size, committed, commit)));
                }
                Err(error) => error,
            };
            match Disposition::of_error(&error) {
                Disposition::Bisect if size > 1 => {
                    committer.metrics.bisections.increment(1);
                    self.pieces.pop();
                    self.pieces.extend([size - size / 2, size / 2]);
                }
                Disposition::Bisect => return Some(Err(Uncommitted::Refused(error))),
                Disposition::Crash => return Some(Err(committer.stop(&error))),
                hindered if self.attempts.goes_on(committer, hindered, &error).await => {}
                _ => return Some(Err(Uncommitted::Failed(error))),
            }
        }
    }

    /// Drops the front piece, which was refused and which the caller has handled.
    pub fn skip(&mut self) {
        self.pieces.pop();
    }
}

impl<S: BatchStore> Committer<S> {
    /// Creates a committer that commits to `store`, at most `transactions` batches at a time, and passes the events
    /// to `relay`. Cancels `broken` when an invariant doesn't hold.
    pub fn new(
        store: Arc<S>,
        transactions: usize,
        relay: RelayQueue,
        retry: Live<RetrySettings>,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        broken: CancellationToken,
    ) -> Self {
        let (transactions, failing, woken) = (Semaphore::new(transactions), AtomicUsize::new(0), Notify::new());
        let (traces, handover) = (Traces::default(), Handover::new(0));
        Self { store, transactions, relay, handover, retry, health, metrics, traces, failing, woken, broken }
    }

    /// Passes events that go to a stream to `handover`.
    #[must_use]
    pub fn streaming(self, handover: Handover) -> Self {
        Self { handover, ..self }
    }

    /// Records sampled tasks in `traces`.
    #[must_use]
    pub fn traced(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    /// Starts a batch of `size` tasks. Nothing is committed before [`Batch::next`].
    pub fn begin(&self, size: usize, patience: Patience) -> Batch<'_, S> {
        let attempts = Attempts::new(&self.retry, patience);
        Batch { committer: self, pieces: Vec::from_iter((size > 0).then_some(size)), attempts }
    }

    /// Ends expired holds.
    ///
    /// # Errors
    ///
    /// Those of [`Batch::next`] with [`Patience::Brief`].
    pub async fn expire(&self, holds: &[Uuid]) -> Result<(), Uncommitted> {
        let mut attempts = Attempts::new(&self.retry, Patience::Brief);
        loop {
            let Err(error) = self.attempt(&[], holds, &NonePending).await else { return Ok(()) };
            let disposition = Disposition::of_error(&error);
            if !attempts.goes_on(self, disposition, &error).await {
                return Err(self.failed(error));
            }
        }
    }

    /// Waits until a commit has made waiting tasks due.
    pub async fn woken(&self) {
        self.woken.notified().await;
    }

    /// Returns the metrics, for what only the callers can count.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Returns where sampled tasks are recorded.
    pub const fn traces(&self) -> &Traces {
        &self.traces
    }

    /// Counts the outcome of a message. Returns `None` if the message was deferred or is still waiting.
    pub fn count(&self, message: &Message, answer: &Answer) -> Option<Outcome> {
        let outcome = Outcome::of(answer)?;
        if let Outcome::DeadLettered(reason) = outcome {
            self.metrics.dead_letters(reason).increment(1);
        }
        let publisher = self.metrics.publisher(&message.properties);
        publisher.count(outcome);
        if let Outcome::DeadLettered(DeadReason::Forbidden) | Outcome::Rejected(Rejection::Forbidden) = outcome {
            publisher.forbidden.increment(1);
        }
        let task_type = message.content.as_ref().ok().map(|task| task.body.task_type());
        self.metrics.outcome(task_type, outcome).increment(1);
        Some(outcome)
    }

    /// Logs a broken invariant and stops the daemon.
    pub fn stop(&self, error: &StoreError) -> Uncommitted {
        error!(%error, "an invariant doesn't hold: stopping, with nothing more acknowledged");
        self.broken.cancel();
        Uncommitted::Broken
    }

    /// Converts an error of a store call other than a commit. Stops the daemon if an invariant is broken.
    pub fn failed(&self, error: StoreError) -> Uncommitted {
        match Disposition::of_error(&error) {
            Disposition::Crash => self.stop(&error),
            _ => Uncommitted::Failed(error),
        }
    }

    /// Whether a reflex has paused intake. What is due waits, too.
    pub fn is_held(&self) -> bool {
        self.health.is_held()
    }

    /// Returns true if a broken invariant was found.
    pub fn is_broken(&self) -> bool {
        self.broken.is_cancelled()
    }

    /// Runs one transaction. Its times are for traces, and not measured without them.
    async fn attempt(
        &self,
        tasks: &[Submission<'_>],
        holds: &[Uuid],
        pending: &(impl Pending + Sync),
    ) -> Result<(Committed, Option<Commit>), StoreError> {
        let _permit = self.transactions.acquire().await.expect("this semaphore is never closed");
        let (began, metrics, traced) = (Instant::now(), &self.metrics, self.traces.now());
        let bytes = tasks.iter().map(|task| task.message.body.len()).sum();
        let room = self.relay.reserve(tasks.len() + holds.len(), bytes);
        let mut committed = self.store.commit(tasks, holds, pending, room.is_some()).await?;
        if committed.woken > 0 {
            self.woken.notify_one();
        }
        let commit = traced.zip(self.traces.now()).map(|(began, ended)| Commit { began, ended });
        observe(&metrics.transaction_seconds, began.elapsed());
        metrics.batch_size.record(tasks.len() as f64);
        metrics.shortfalls.increment(committed.shortfalls as u64);
        metrics.holds_expired.increment(committed.expired as u64);
        if let (Some(room), Some(event_batch)) = (room, committed.event_batch.take()) {
            room.send(event_batch);
        }
        if let Some(stream_batch) = committed.stream_batch.take() {
            self.handover.offer(stream_batch);
        }
        Ok((committed, commit))
    }
}
