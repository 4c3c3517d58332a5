//! A batch as one transaction in two round trips: begin, lock, read; write, commit. Between
//! them the pure ledger decides.
//!
//! The seam to the database: the pipeline hands over a batch and gets an answer per task, and
//! with it the only [`Proof`] that settles a delivery.

mod column;
mod commit;
mod decided;
mod events;
mod life;
#[cfg(test)]
mod memory;
mod plan;
mod prepared;
mod read;
mod references;
mod write;

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use uuid::Uuid;

pub use self::commit::Proof;
use self::decided::Decided;
use self::events::Events;
#[cfg(test)]
pub(crate) use self::memory::{Memory, Stored, event_ids};
use self::plan::Plan;
pub use self::prepared::Prepared;
use self::write::Written;
use super::agenda::{self, Due, Waiting};
use super::names::Names;
use super::pool::{Object, Pool};
use super::queries::payment::{StoredTask, load_tasks};
use super::session::Session;
use super::{PostgresSettings, StoreError};
use crate::contract::{AccountName, Authority, DeadLetter, DeadReason, Message, PaymentState, Rejection, Task};
use crate::ledger::{Arrival, Known, Pending, Rules};
#[cfg(feature = "sabotage")]
use crate::sabotage::{self, Defect};

/// What the bodies of a batch come to before no more tasks are added, in bytes. As rows, events and what is sent of
/// both they take several times as much while the batch is committed. A thousand plain transfers are a quarter of a
/// megabyte.
pub const MAX_BATCH_BYTES: usize = 2 << 20;

/// A message with its place in the order, for the store to decide.
#[derive(Clone, Copy, Debug)]
pub struct Submission<'a> {
    /// When it came.
    pub arrival: Arrival,
    /// The message.
    pub message: &'a Message,
    /// What is to be done with it: its task, or a dead letter.
    pub content: Result<&'a Task, &'a DeadLetter>,
    /// Whether it is stored as scheduled or parked, and looked at again.
    pub resumes: bool,
}

impl<'a> Submission<'a> {
    /// The message as it was read.
    pub const fn of(arrival: Arrival, message: &'a Message) -> Self {
        Self { arrival, message, content: message.content.as_ref(), resumes: false }
    }
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Committed: applied, whatever its type asks for.
    Settled,
    /// Committed: declined.
    Rejected(Rejection),
    /// Committed: scheduled or parked.
    Waiting(PaymentState),
    /// It was scheduled or parked before, and goes on waiting.
    StillWaiting,
    /// An earlier commit holds the outcome.
    Duplicate,
    /// Committed as a dead letter.
    DeadLettered(DeadReason),
    /// Nothing was committed: see [`crate::ledger::Outcome::SetAside`].
    SetAside {
        /// The account on which it waits.
        waits_on: Option<AccountName>,
    },
}

/// The events of a batch, for the relay.
#[derive(Debug)]
pub struct Parcel {
    /// The outbox row.
    pub id: i64,
    /// One event a line.
    pub body: Vec<u8>,
    /// How many.
    pub events: u32,
    /// The routing key that no queue took the last time.
    pub held_key: Option<String>,
    /// Why the broker refused it the last time.
    pub held_reason: Option<String>,
}

/// A batch that was committed.
#[derive(Debug)]
pub struct Committed {
    /// For settling the deliveries of all answers but those set aside; `None` if there is no other.
    pub proof: Option<Proof>,
    /// One per submission, in the same order.
    pub answers: Vec<Answer>,
    /// What is to be published.
    pub parcel: Option<Parcel>,
    /// How many tasks that waited are due now because of it.
    pub woken: u64,
    /// How many holds the clock has ended.
    pub expired: usize,
    /// How many tasks took an account below its limit, as nothing but a chargeback may.
    pub shortfalls: usize,
}

impl Committed {
    /// Whether a task was set aside: it has no outcome, and stays in its lane.
    pub fn sets_aside(&self) -> bool {
        self.answers.iter().any(|answer| matches!(answer, Answer::SetAside { .. }))
    }
}

/// The seam.
pub trait BatchStore: Send + Sync + 'static {
    /// Ends those of the holds `expired` that have run out, then decides a batch in order of
    /// arrival, and commits. On an error nothing of it is known to be committed, and it may be
    /// submitted again as it is. With `leased`, the events are for this process to publish;
    /// without, for whoever sweeps first.
    fn commit(
        &self,
        batch: &[Submission<'_>],
        expired: &[Uuid],
        pending: &(impl Pending + Sync),
        leased: bool,
    ) -> impl Future<Output = Result<Committed, StoreError>> + Send;

    /// What waits and is due; no more than `most` tasks and holds.
    fn due(&self, most: usize) -> impl Future<Output = Result<Due, StoreError>> + Send;

    /// Leaves a task that is due alone for a while.
    fn postpone(&self, task: Uuid, by: Duration) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// How much waits.
    fn waiting(&self) -> impl Future<Output = Result<Waiting, StoreError>> + Send;
}

/// The store on PostgreSQL.
pub struct PostgresStore {
    pool: Pool,
    names: Names,
    rules: Rules,
    source: String,
    lease: Duration,
    trip_limit: Duration,
    authority: Authority,
    tells_dead_letters: bool,
}

impl PostgresStore {
    /// A store over `pool` that remembers `account_cache` names; payments go by `rules`, events name
    /// `source` and are leased for `lease` to this daemon's relay.
    pub fn new(
        pool: Pool,
        settings: &PostgresSettings,
        rules: Rules,
        account_cache: usize,
        source: &str,
        lease: Duration,
    ) -> Self {
        Self {
            pool,
            rules,
            names: Names::new(account_cache),
            source: source.to_owned(),
            lease,
            // The server's own limit comes first; this one is for a server that doesn't answer.
            trip_limit: settings.statement_timeout + Duration::from_secs(5),
            authority: Authority::default(),
            tells_dead_letters: false,
        }
    }

    /// Checks follow-ups against `authority`; writes an event for each dead letter if
    /// `tells_dead_letters`.
    #[must_use]
    pub fn with(self, authority: Authority, tells_dead_letters: bool) -> Self {
        Self { authority, tells_dead_letters, ..self }
    }

    async fn commit_on(
        &self,
        client: &Session,
        batch: &[Submission<'_>],
        expired: &[Uuid],
        pending: &(impl Pending + Sync),
        leased: bool,
    ) -> Result<Committed, StoreError> {
        let mut plan = Plan::of(batch);
        plan.referred.extend_from_slice(expired);
        let ids = timed(self.trip_limit, self.names.ids(client, &plan.names)).await??;
        let others = timed(self.trip_limit, references::accounts(client, &plan.referred)).await??;
        let mut layout = plan.layout(&ids, &others);
        layout.restrict(&self.authority, &plan, batch);
        let task_ids: Vec<Uuid> = layout.items.iter().filter(|item| !item.resumes).map(|item| item.task.id).collect();
        let limit = self.trip_limit;
        let accounts = (&*layout.account_ids, &*layout.names);
        let locked = read::begin_and_lock(client, accounts, &task_ids, &plan.referred, limit).await;
        if let Err(StoreError::Conflict(_)) = &locked {
            self.names.forget(&plan.names);
        }
        let mut locked = locked?;
        let stored = self.stored(client, batch, expired, &mut locked.known).await?;
        let mut decided = Decided::by(&self.rules, (batch, &plan, &layout), expired, locked, stored, pending);
        decided.tells_dead_letters = self.tells_dead_letters;
        let (answers, rows) = decided.rows();
        let (expired, shortfalls) = (decided.expired.len(), decided.shortfalls());
        if rows.is_empty() {
            let proof = self.looked_up(client, &answers).await?;
            return Ok(Committed { proof, answers, parcel: None, woken: 0, expired, shortfalls });
        }
        let lease = if leased { self.lease } else { Duration::ZERO };
        let tell = || decided.events(&self.source, &rows.dead_letters);
        let written = match write::write_and_commit(client, &rows, decided.now, lease, limit, tell).await {
            #[cfg(feature = "sabotage")]
            Err(StoreError::OutcomeUnknown(_)) if sabotage::has(Defect::CommitErrorSwallowed) => {
                Written { proof: Proof::forged(), outbox: None, woken: 0 }
            }
            written => written?,
        };
        let Written { proof, outbox, woken } = written;
        let parcel = outbox.map(|(id, Events { body, count })| Parcel {
            id,
            body,
            events: count.unsigned_abs(),
            held_key: None,
            held_reason: None,
        });
        Ok(Committed { proof: Some(proof), answers, parcel, woken, expired, shortfalls })
    }

    /// Ends a transaction that writes nothing: with a proof that the outcomes it has found are durable,
    /// unless it has found none.
    async fn looked_up(&self, client: &Session, answers: &[Answer]) -> Result<Option<Proof>, StoreError> {
        let has_outcome = answers.iter().any(|answer| !matches!(answer, Answer::SetAside { .. }));
        #[cfg(feature = "sabotage")]
        if has_outcome && sabotage::has(Defect::LookupTakenForDurable) {
            return timed(self.trip_limit, client.batch_execute("ROLLBACK"))
                .await?
                .map_err(|error| StoreError::before_commit(&error))
                .map(|()| Some(Proof::forged()));
        }
        if has_outcome {
            return commit::within(self.trip_limit, commit::commit(client, false))
                .await?
                .map_err(|error| StoreError::around_commit(&error))
                .map(Some);
        }
        let rolled_back = timed(self.trip_limit, client.batch_execute("ROLLBACK")).await?;
        rolled_back.map_err(|error| StoreError::before_commit(&error))?;
        Ok(None)
    }

    async fn client(&self) -> Result<Object, StoreError> {
        self.pool.get().await.map_err(|error| StoreError::pool(&error))
    }

    /// The answer to what was asked outside a transaction.
    async fn answer<T>(
        &self,
        question: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreError> {
        timed(self.trip_limit, question).await?.map_err(|error| StoreError::before_commit(&error))
    }

    /// The stored tasks that matter: those another task contradicts, those whose outcome is asked
    /// for again, and those whose hold has run out. They are rare, and only they cost a round trip.
    async fn stored(
        &self,
        client: &Session,
        batch: &[Submission<'_>],
        expired: &[Uuid],
        known: &mut HashMap<Uuid, Known>,
    ) -> Result<HashMap<Uuid, StoredTask>, StoreError> {
        let contradicted = batch.iter().filter_map(|submission| {
            let task = submission.content.ok()?;
            let known = known.get(&task.id)?;
            let asks = submission.message.properties.reply_to.is_some();
            (asks || known.fingerprint != task.fingerprint).then_some(task.id)
        });
        let wanted: Vec<Uuid> = contradicted.chain(expired.iter().copied()).collect();
        if wanted.is_empty() {
            return Ok(HashMap::new());
        }
        let stored = timed(self.trip_limit, load_tasks(&***client, &wanted)).await?.map_err(|error| match error {
            super::queries::Error::Postgres(error) => StoreError::before_commit(&error),
            unreadable => StoreError::Broken(unreadable.to_string()),
        })?;
        for task in &stored {
            if let Some(known) = known.get_mut(&task.task.id) {
                known.task = Some(task.task.clone());
            }
        }
        Ok(stored.into_iter().map(|task| (task.task.id, task)).collect())
    }
}

impl BatchStore for PostgresStore {
    async fn commit(
        &self,
        batch: &[Submission<'_>],
        expired: &[Uuid],
        pending: &(impl Pending + Sync),
        leased: bool,
    ) -> Result<Committed, StoreError> {
        let client = self.client().await?;
        let result = self.commit_on(&client, batch, expired, pending, leased).await;
        let result = result.map_err(|error| error.after(client.ending()));
        if let Err(error) = &result {
            let clean = error.spares_the_connection()
                && timed(self.trip_limit, client.batch_execute("ROLLBACK")).await.is_ok_and(|ended| ended.is_ok());
            if !clean {
                // A connection in an unknown state never goes back into the pool.
                drop(Object::take(client));
            }
        }
        result
    }

    async fn due(&self, most: usize) -> Result<Due, StoreError> {
        let client = self.client().await?;
        let answered = self.answer(agenda::due(&client, most)).await;
        keep_if_well(client, answered)
    }

    async fn postpone(&self, task: Uuid, by: Duration) -> Result<(), StoreError> {
        let client = self.client().await?;
        let answered = self.answer(agenda::postpone(&client, task, by)).await;
        keep_if_well(client, answered)
    }

    async fn waiting(&self) -> Result<Waiting, StoreError> {
        let client = self.client().await?;
        let answered = self.answer(agenda::waiting(&client)).await;
        keep_if_well(client, answered)
    }
}

/// A connection in an unknown state never goes back into the pool.
fn keep_if_well<T>(client: Object, answered: Result<T, StoreError>) -> Result<T, StoreError> {
    if answered.is_err() {
        drop(Object::take(client));
    }
    answered
}

async fn timed<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, StoreError> {
    tokio::time::timeout(limit, work)
        .await
        .map_err(|_| StoreError::Unavailable(format!("no answer within {} s", limit.as_secs())))
}
