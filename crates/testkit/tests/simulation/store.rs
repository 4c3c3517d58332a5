//! The simulated database of one daemon, with its faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use settled_core::ledger::Pending;
use settled_pipeline::store::{
    Answer, BatchStore, Committed, Due, EventBatch, OutboxStore, RowSize, StoreError, Submission, Unrouted,
};
use settled_testkit::memory::Memory;
use uuid::Uuid;

use super::message::{POISON, short};
use super::world::{Flaw, Life, World};

/// Message of the error for a commit that no standby has confirmed.
const HERE_ONLY: &str = "committed here, and perhaps not on the standby";

/// A daemon's connection to the tables.
#[derive(Clone)]
pub(super) struct SimStore {
    pub(super) world: Arc<World>,
    pub(super) life: Life,
    pub(super) lease: Duration,
    pub(super) max_batch: usize,
    /// Maximum number of concurrent transactions, those of the scheduler included.
    pub(super) most: usize,
    pub(super) running: Arc<AtomicUsize>,
}

/// Counts as a running transaction until dropped.
struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl SimStore {
    /// Connects to the tables of a world without faults, for one transaction at a time.
    pub(super) fn calm(world: &Arc<World>, max_batch: usize) -> Self {
        let (world, lease) = (Arc::clone(world), Duration::ZERO);
        Self { world, life: Life::default(), lease, max_batch, most: 1, running: Arc::default() }
    }

    fn unavailable(&self) -> Result<(), StoreError> {
        if self.world.database_away.is_on() {
            return Err(StoreError::Unavailable("the database is away".into()));
        }
        if self.world.mishap(self.world.weather.unavailable) {
            return Err(StoreError::Unavailable("the database doesn't want to".into()));
        }
        Ok(())
    }

    /// Runs a single statement, whose reply can be lost.
    async fn statement<T>(&self, work: impl FnOnce(&mut Memory) -> T) -> Result<T, StoreError> {
        let world = &self.world;
        self.life
            .outside(async {
                world.answer_takes().await;
                self.unavailable()?;
                let done = work(&mut world.tables.lock());
                world.answer_takes().await;
                self.unavailable()?;
                Ok(done)
            })
            .await
    }

    /// Runs a single statement that writes. Fails if the change is not durable on the standby.
    async fn change<T>(&self, work: impl FnOnce(&mut Memory) -> T) -> Result<T, StoreError> {
        let changed = self.statement(|tables| (work(tables), self.world.is_cut())).await?;
        match changed {
            (done, false) => Ok(done),
            (_, true) => Err(StoreError::Unavailable(HERE_ONLY.into())),
        }
    }

    fn begin(&self, size: usize) -> Running<'_> {
        let running = self.running.fetch_add(1, Ordering::Relaxed) + 1;
        let journal = &self.world.journal;
        if running > self.most {
            journal.violation(format!("{running} transactions at once, of at most {}", self.most));
        }
        if size > self.max_batch {
            journal.violation(format!("a batch of {size}, of at most {}", self.max_batch));
        }
        Running(&self.running)
    }

    /// Fails if the batch contains a task that PostgreSQL can't store, unless it is a dead letter or already known.
    fn refuses(&self, batch: &[Submission<'_>]) -> Result<(), StoreError> {
        let tables = self.world.tables.lock();
        let mut tasks = batch.iter().filter_map(|submission| submission.content.ok());
        let poison = tasks.find(|task| task.body.reference() == Some(POISON) && !tables.stored.contains_key(&task.id));
        poison.map_or(Ok(()), |task| {
            Err(StoreError::Refused { sqlstate: "22000".into(), message: format!("{} is poison", task.id) })
        })
    }
}

impl BatchStore for SimStore {
    async fn commit(
        &self,
        batch: &[Submission<'_>],
        expired: &[Uuid],
        pending: &(impl Pending + Sync),
        leased: bool,
    ) -> Result<Committed, StoreError> {
        let (world, weather) = (&self.world, &self.world.weather);
        let running = self.begin(batch.len());
        let lost = || StoreError::OutcomeUnknown("the connection is lost".into());
        let committed = self.life.outside(async {
            world.answer_takes().await;
            self.unavailable()?;
            if world.mishap(weather.conflict) {
                return Err(StoreError::Conflict("another transaction".into()));
            }
            self.refuses(batch)?;
            let unknown = world.mishap(weather.unknown);
            if unknown && world.toss() {
                return Err(lost());
            }
            let lease = if leased { self.lease } else { Duration::ZERO };
            let committed = world.tables.lock().commit(batch, expired, pending, lease, world.now());
            let waits = world.is_cut() && committed.proof.is_some() && !is_taken_for_durable(world.flaw, &committed);
            world.journal.note(|| {
                let id = |submission: &Submission<'_>| submission.content.map_or(Uuid::nil(), |task| task.id);
                let of = batch.iter().map(id).zip(&committed.answers);
                let what: Vec<String> = of.map(|(id, answer)| format!("{}: {answer:?}", short(id))).collect();
                format!("commit of {}", what.join(", "))
            });
            world.answer_takes().await;
            if waits {
                return Err(StoreError::OutcomeUnknown(HERE_ONLY.into()));
            }
            if unknown || world.database_away.is_on() { Err(lost()) } else { Ok(committed) }
        });
        let committed = committed.await;
        drop(running);
        if let Err(error) = &committed {
            world.journal.note(|| format!("no commit of {}: {error}", batch.len()));
        }
        committed
    }

    async fn due(&self, most: usize) -> Result<Due, StoreError> {
        let now = || self.world.now();
        self.statement(|tables| tables.due(most, now())).await
    }

    async fn postpone(&self, task: Uuid, by: Duration) -> Result<(), StoreError> {
        let now = || self.world.now();
        self.change(|tables| tables.postpone(task, by, now())).await
    }
}

impl OutboxStore for SimStore {
    async fn delete(&self, ids: &[i64]) -> Result<(), StoreError> {
        self.world.journal.note(|| format!("the outbox without {ids:?}"));
        self.statement(|tables| tables.delete(ids)).await
    }

    async fn hold(&self, id: i64, unrouted: &[Unrouted], retry: Duration) -> Result<(), StoreError> {
        self.world.journal.note(|| format!("held of {id}: {} keys", unrouted.len()));
        self.change(|tables| tables.hold(id, unrouted, retry, self.world.now())).await
    }

    async fn renew(&self, ids: &[i64], lease: Duration) -> Result<(), StoreError> {
        self.change(|tables| tables.renew(ids, lease, self.world.now())).await
    }

    async fn abandoned(&self, most: usize) -> Result<Vec<RowSize>, StoreError> {
        self.statement(|tables| tables.abandoned(most, self.world.now())).await
    }

    async fn held_of(&self, key: &str, refused: bool, most: usize) -> Result<Vec<RowSize>, StoreError> {
        self.statement(|tables| tables.held_of(key, refused, most, self.world.now())).await
    }

    async fn probes(&self, most: usize) -> Result<Vec<RowSize>, StoreError> {
        self.statement(|tables| tables.probes(most, self.world.now())).await
    }

    async fn take(&self, ids: &[i64], lease: Duration) -> Result<Vec<EventBatch>, StoreError> {
        self.change(|tables| tables.take(ids, lease, self.world.now())).await
    }

    async fn adopt(&self) -> Result<(), StoreError> {
        Ok(()) // Its events never go to a stream.
    }

    async fn drop_held_replies(&self, limit: Duration) -> Result<i64, StoreError> {
        self.change(|tables| tables.drop_held_replies(limit, self.world.now())).await
    }
}

/// Returns true if a faulty database confirms a transaction that has only read rows which no standby has.
fn is_taken_for_durable(flaw: Flaw, committed: &Committed) -> bool {
    flaw == Flaw::TrustedLookups
        && committed.event_batch.is_none()
        && committed.answers.iter().all(|answer| matches!(answer, Answer::Duplicate | Answer::Deferred { .. }))
}
