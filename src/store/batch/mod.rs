//! A batch as one transaction in two round trips: begin, lock, read; write, commit. Between
//! them the pure ledger decides.
//!
//! The seam to the database: the pipeline hands over a batch and gets an answer per task, and
//! with it the only [`Proof`] that settles a delivery.

mod column;
mod events;
mod plan;
mod prepared;
mod read;
mod write;

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Object, Pool};
use uuid::Uuid;

use self::events::Events;
use self::plan::Plan;
pub use self::prepared::Prepared;
use self::read::Locked;
use super::names::Names;
use super::queries::payment::{StoredTask, load_tasks};
use super::{PostgresSettings, StoreError};
use crate::contract::{DeadLetter, DeadReason, Message, Rejection, Task};
use crate::ledger::{self, Arrival, Known, Pending};

/// A message with its place in the order, for the store to decide.
#[derive(Clone, Copy, Debug)]
pub struct Submission<'a> {
    /// When it came.
    pub arrival: Arrival,
    /// The message.
    pub message: &'a Message,
    /// What is to be done with it: its task, or a dead letter.
    pub content: Result<&'a Task, &'a DeadLetter>,
}

impl<'a> Submission<'a> {
    /// The message as it was read.
    pub const fn of(arrival: Arrival, message: &'a Message) -> Self {
        Self { arrival, message, content: message.content.as_ref() }
    }
}

/// That a commit happened. Only the store can make one, and only after it did.
#[derive(Debug)]
pub struct Proof(());

#[cfg(feature = "sabotage")]
impl Proof {
    /// Of nothing: that no other build can make one is what a broken daemon has to do without.
    pub(crate) const fn forged() -> Self {
        Self(())
    }
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Committed: the payment is posted, the account open.
    Settled,
    /// Committed: declined.
    Rejected(Rejection),
    /// An earlier commit holds the outcome.
    Duplicate,
    /// Committed as a dead letter.
    DeadLettered(DeadReason),
    /// Nothing was committed: see [`ledger::Outcome::SetAside`].
    SetAside {
        /// The account on which it waits.
        waits_on: Option<crate::contract::AccountName>,
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
}

/// A batch that was committed.
#[derive(Debug)]
pub struct Committed {
    /// For settling the deliveries of all answers but those set aside.
    pub proof: Proof,
    /// One per submission, in the same order.
    pub answers: Vec<Answer>,
    /// What is to be published.
    pub parcel: Option<Parcel>,
}

impl Committed {
    /// Whether a task was set aside: it has no outcome, and stays in its lane.
    pub fn sets_aside(&self) -> bool {
        self.answers.iter().any(|answer| matches!(answer, Answer::SetAside { .. }))
    }
}

/// The seam.
pub trait BatchStore: Send + Sync + 'static {
    /// Decides and commits a batch in order of arrival. On an error nothing of it is known to
    /// be committed, and it may be submitted again as it is. With `leased`, the events are for
    /// this process to publish; without, for whoever sweeps first.
    fn commit(
        &self,
        batch: &[Submission<'_>],
        pending: &(impl Pending + Sync),
        leased: bool,
    ) -> impl Future<Output = Result<Committed, StoreError>> + Send;
}

/// The store on PostgreSQL.
pub struct PostgresStore {
    pool: Pool,
    names: Names,
    source: String,
    lease: Duration,
    trip_limit: Duration,
}

impl PostgresStore {
    /// A store over `pool` that remembers `account_cache` names; events name `source` and are
    /// leased for `lease` to this daemon's relay.
    pub fn new(pool: Pool, settings: &PostgresSettings, account_cache: usize, source: &str, lease: Duration) -> Self {
        Self {
            pool,
            names: Names::new(account_cache),
            source: source.to_owned(),
            lease,
            // The server's own limits come first; this one is for a server that doesn't answer.
            trip_limit: settings.statement_timeout * 2 + Duration::from_secs(5),
        }
    }

    async fn commit_on(
        &self,
        client: &ClientWrapper,
        batch: &[Submission<'_>],
        pending: &(impl Pending + Sync),
        leased: bool,
    ) -> Result<Committed, StoreError> {
        let plan = Plan::of(batch);
        let ids = timed(self.trip_limit, self.names.ids(client, &plan.names)).await??;
        let (account_ids, items) = plan.items(&ids);
        let task_ids: Vec<Uuid> = items.iter().map(|item| item.task.id).collect();
        let mut locked = read::begin_and_lock(client, &account_ids, &task_ids, self.trip_limit).await?;
        let stored = self.stored(client, batch, &mut locked.known).await?;
        let Locked { accounts: before, known, now } = locked;
        let mut accounts = before.clone();
        let outcomes = ledger::apply(&items, &mut accounts, &known, pending);
        let decided = plan::Decided { batch, plan: &plan, items: &items, outcomes, accounts, before, stored };
        let (answers, rows) = decided.rows();
        if rows.is_empty() {
            let rolled_back = timed(self.trip_limit, client.batch_execute("ROLLBACK")).await?;
            rolled_back.map_err(|error| StoreError::before_commit(&error))?;
            return Ok(Committed { proof: Proof(()), answers, parcel: None });
        }
        let lease = if leased { self.lease } else { Duration::ZERO };
        let tell = || decided.events(now, &self.source);
        let outbox = write::write_and_commit(client, &rows, now, lease, self.trip_limit, tell).await?;
        let parcel = outbox.map(|(id, Events { body, count })| Parcel {
            id,
            body,
            events: count.unsigned_abs(),
            held_key: None,
        });
        Ok(Committed { proof: Proof(()), answers, parcel })
    }

    /// The stored tasks that matter: those another task contradicts, and those whose outcome is
    /// asked for again. Both are rare, and only they cost a round trip.
    async fn stored(
        &self,
        client: &ClientWrapper,
        batch: &[Submission<'_>],
        known: &mut HashMap<Uuid, Known>,
    ) -> Result<HashMap<Uuid, StoredTask>, StoreError> {
        let wanted: Vec<Uuid> = batch
            .iter()
            .filter_map(|submission| {
                let task = submission.content.ok()?;
                let known = known.get(&task.id)?;
                let asks = submission.message.properties.reply_to.is_some();
                (asks || known.fingerprint != task.fingerprint).then_some(task.id)
            })
            .collect();
        if wanted.is_empty() {
            return Ok(HashMap::new());
        }
        let stored = timed(self.trip_limit, load_tasks(&**client, &wanted)).await?.map_err(|error| match error {
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
        pending: &(impl Pending + Sync),
        leased: bool,
    ) -> Result<Committed, StoreError> {
        let client = self.pool.get().await.map_err(|error| StoreError::pool(&error))?;
        let result = self.commit_on(&client, batch, pending, leased).await;
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
}

async fn timed<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, StoreError> {
    tokio::time::timeout(limit, work)
        .await
        .map_err(|_| StoreError::Unavailable(format!("no answer within {} s", limit.as_secs())))
}
