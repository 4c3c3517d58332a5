//! The store on PostgreSQL: one transaction for a batch.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use uuid::Uuid;

use super::commit::{self, timed};
use super::decided::DecidedBatch;
use super::events::Lines;
use super::plan::Plan;
use super::write::{self, Outboxes, Written};
use super::{lock, references};
use crate::PostgresSettings;
use crate::agenda;
use crate::error;
use crate::names::Names;
use crate::pool::{ConnectionGuard, Pool};
use crate::queries;
use crate::queries::payment::{StoredTask, load_tasks};
use crate::session::Session;
use settled_core::contract::Authority;
use settled_core::ledger::{Known, Pending, Rules};
use settled_pipeline::settings::Live;
use settled_pipeline::store::{Answer, BatchStore, Committed, Due, EventBatch, Proof, StoreError, Submission};

pub struct PostgresStore {
    pool: Pool,
    names: Names,
    rules: Live<Rules>,
    source: String,
    lease: Duration,
    trip_limit: Duration,
    authority: Live<Authority>,
    tells_dead_letters: bool,
    has_stream: bool,
}

impl PostgresStore {
    /// Creates a store on `pool` that caches the ids of `account_cache` names. The ledger applies `rules`; events have
    /// the source `source` and are leased to this process for `lease`.
    pub fn new(
        pool: Pool,
        settings: &PostgresSettings,
        rules: impl Into<Live<Rules>>,
        account_cache: usize,
        source: &str,
        lease: Duration,
    ) -> Self {
        Self {
            pool,
            rules: rules.into(),
            names: Names::new(account_cache),
            source: source.to_owned(),
            lease,
            // The server's own limit applies first; this one is for a server that does not respond.
            trip_limit: settings.statement_timeout + Duration::from_secs(5),
            authority: Authority::default().into(),
            tells_dead_letters: false,
            has_stream: false,
        }
    }

    /// Keeps events for a stream, instead of having them published to the exchange with the replies.
    #[must_use]
    pub fn streaming(self, has_stream: bool) -> Self {
        Self { has_stream, ..self }
    }

    /// Sets which publishers may act on which payments, and whether each dead letter gets an event.
    #[must_use]
    pub fn with(self, authority: impl Into<Live<Authority>>, tells_dead_letters: bool) -> Self {
        Self { authority: authority.into(), tells_dead_letters, ..self }
    }

    async fn commit_on(
        &self,
        client: &Session,
        batch: &[Submission<'_>],
        expired: &[Uuid],
        pending: &(impl Pending + Sync),
        leased: bool,
    ) -> Result<Committed, StoreError> {
        // One version of each for the whole batch, whatever is reloaded meanwhile.
        let (rules, authority) = (self.rules.get(), self.authority.get());
        let mut plan = Plan::of(batch);
        plan.referred.extend_from_slice(expired);
        let ids = timed(self.trip_limit, self.names.ids(client, &plan.names)).await??;
        let others = timed(self.trip_limit, references::accounts(client, &plan.referred)).await??;
        let mut layout = plan.layout(&ids, &others);
        layout.restrict(&authority, &plan, batch);
        let task_ids: Vec<Uuid> = layout.items.iter().filter(|item| !item.resumes).map(|item| item.task.id).collect();
        let limit = self.trip_limit;
        let accounts = (&*layout.account_ids, &*layout.names);
        let locked = lock::begin_and_lock(client, accounts, &task_ids, &plan.referred, limit).await;
        if let Err(StoreError::Conflict(_)) = &locked {
            self.names.forget(&plan.names);
        }
        let mut locked = locked?;
        let stored = self.stored(client, batch, expired, &mut locked.known).await?;
        let mut decided = DecidedBatch::by(&rules, (batch, &plan, &layout), expired, locked, stored, pending);
        decided.tells_dead_letters = self.tells_dead_letters;
        decided.has_stream = self.has_stream;
        let (answers, rows) = decided.rows();
        let (expired, shortfalls) = (decided.expired.len(), decided.shortfalls());
        if rows.is_empty() {
            let proof = self.looked_up(client, &answers).await?;
            let (event_batch, stream_batch) = (None, None);
            return Ok(Committed { proof, answers, event_batch, stream_batch, woken: 0, expired, shortfalls });
        }
        let lease = if leased { self.lease } else { Duration::ZERO };
        let outboxes = Outboxes { lease, has_stream: self.has_stream };
        let tell = || decided.events(&self.source, &rows.dead_letters);
        let written = write::write_and_commit(client, &rows, decided.locked.now, outboxes, limit, tell).await?;
        let Written { proof, events, outbox, stream, woken } = written;
        let events = events.unwrap_or_default();
        let event_batch = outbox.map(|id| told(id, events.outbox));
        let stream_batch = stream.zip(events.stream).map(|(id, lines)| told(id, lines));
        Ok(Committed { proof: Some(proof), answers, event_batch, stream_batch, woken, expired, shortfalls })
    }

    /// Ends a transaction that has no rows to write. If it has found outcomes of earlier commits, returns the proof
    /// that they are durable.
    async fn looked_up(&self, client: &Session, answers: &[Answer]) -> Result<Option<Proof>, StoreError> {
        let has_outcome = answers.iter().any(|answer| !matches!(answer, Answer::Deferred { .. }));
        if has_outcome {
            return commit::within(self.trip_limit, commit::commit(client, false))
                .await?
                .map_err(error::around_commit)
                .map(Some);
        }
        let rolled_back = timed(self.trip_limit, client.batch_execute("ROLLBACK")).await?;
        rolled_back.map_err(error::before_commit)?;
        Ok(None)
    }

    /// Runs a statement outside a transaction, within the time limit.
    async fn answer<T>(
        &self,
        question: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreError> {
        timed(self.trip_limit, question).await?.map_err(error::before_commit)
    }

    /// Loads the stored tasks that are needed as a whole: those whose id came again with another content, those whose
    /// outcome is asked for again, and those whose hold has run out. Costs a round trip only if there are any.
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
            queries::Error::Postgres(error) => error::before_commit(error),
            unreadable @ queries::Error::Unreadable { .. } => StoreError::Broken(unreadable.to_string()),
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
        let client = ConnectionGuard::take(&self.pool).await?;
        let result = self.commit_on(&client, batch, expired, pending, leased).await;
        let result = result.map_err(|error| error::after(error, client.ending()));
        let is_clean = match &result {
            Ok(_) => true,
            Err(error) if error::spares_the_connection(error) => {
                timed(self.trip_limit, client.batch_execute("ROLLBACK")).await.is_ok_and(|ended| ended.is_ok())
            }
            Err(_) => false,
        };
        if is_clean {
            client.keep();
        }
        result
    }

    async fn due(&self, most: usize) -> Result<Due, StoreError> {
        let client = ConnectionGuard::take(&self.pool).await?;
        let answered = self.answer(agenda::due(&client, most)).await;
        client.keep_if_well(answered)
    }

    async fn postpone(&self, task: Uuid, by: Duration) -> Result<(), StoreError> {
        let client = ConnectionGuard::take(&self.pool).await?;
        let answered = self.answer(agenda::postpone(&client, task, by)).await;
        client.keep_if_well(answered)
    }
}

fn told(id: i64, Lines { body, count }: Lines) -> EventBatch {
    EventBatch { id, body, events: count.unsigned_abs(), held_key: None, held_reason: None }
}
