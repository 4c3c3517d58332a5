//! Runs what is due: tries scheduled and parked tasks again, and ends expired holds.
//!
//! All daemons do this, with the same tables and the database's clock. It doesn't matter which one is first, because
//! each checks again under the locks of the accounts before it acts. An accepted task is never lost here: what can't
//! be committed now is tried again later.
//!
//! Resumed tasks bypass [`crate::admission`]: their order is given by their due times, not by arrival, and the locks
//! of their accounts keep them correct. In a lane, a task would be read as due and admitted again and again until it
//! is committed, and it would wait behind other tasks although it may have a deadline.

mod settings;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

pub use self::settings::PaymentSettings;
use crate::committer::{Committer, Patience, Uncommitted};
use crate::maintenance::Maintenance;
use crate::retry::{Delays, RetrySettings};
use crate::settings::Live;
use crate::shutdown::sleep_unless;
use crate::store::{Answer, BatchStore, Due, StoreError, Submission};
use crate::traces::Commit;
use settled_core::contract::Message;
use settled_core::ledger::{Arrival, NonePending};

/// How long to postpone a task that PostgreSQL refuses.
const POSTPONED: Duration = Duration::from_secs(60);

/// Resumes waiting tasks and ends expired holds.
pub struct Scheduler<S> {
    pub(crate) store: Arc<S>,
    pub(crate) committer: Arc<Committer<S>>,
    /// The most tasks that are read and resumed at a time.
    pub(crate) max_batch: usize,
    pub(crate) settings: PaymentSettings,
    pub(crate) retry: Live<RetrySettings>,
    pub(crate) maintenance: Maintenance,
    pub(crate) stop: CancellationToken,
}

impl<S: BatchStore> Scheduler<S> {
    /// Runs until stopped or until an invariant is found broken.
    pub async fn run(self) {
        let mut rounds = tokio::time::interval(self.settings.interval);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut delays = Delays::new(&self.retry);
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.committer.woken() => {}
                _ = rounds.tick() => {}
            }
            if self.committer.is_held() {
                continue;
            }
            let Some(_at_work) = self.maintenance.enter() else { continue };
            match self.sweep().await {
                Ok(()) => delays.reset(),
                Err(Uncommitted::Broken) => return,
                // The workers log what is wrong with the database.
                Err(Uncommitted::Refused(error) | Uncommitted::Failed(error)) => {
                    debug!(%error, "what is due has to wait");
                    if !sleep_unless(&self.stop, delays.next_delay()).await {
                        return;
                    }
                }
            }
        }
    }

    /// Runs everything that is due. Tasks that become due by this wake the scheduler again.
    async fn sweep(&self) -> Result<(), Uncommitted> {
        loop {
            let due = self.store.due(self.max_batch).await.map_err(|error| self.committer.failed(error))?;
            if due.is_empty() || self.stop.is_cancelled() || self.maintenance.is_on() {
                return Ok(());
            }
            let Due { tasks, expired, more } = due;
            let tasks = self.readable(tasks).await?;
            if !expired.is_empty() {
                self.committer.expire(&expired).await?;
            }
            self.resume(&tasks).await?;
            if !more {
                return Ok(());
            }
        }
    }

    /// Postpones and logs tasks that can't be parsed any more. Returns the others.
    async fn readable(&self, tasks: Vec<Message>) -> Result<Vec<Message>, Uncommitted> {
        let (readable, rest): (Vec<_>, Vec<_>) = tasks.into_iter().partition(|message| message.content.is_ok());
        for letter in rest.iter().filter_map(|message| message.content.as_ref().err()) {
            let Some(id) = letter.task_id else { continue };
            warn!(%id, detail = letter.detail, "a task that is due can't be read any more: it is tried again in a minute");
            self.postpone(id).await?;
        }
        Ok(readable)
    }

    /// Commits tasks that are due. A task that PostgreSQL refuses was accepted before, so it doesn't become a dead
    /// letter: it is postponed and logged, for an operator to look at.
    async fn resume(&self, mut tasks: &[Message]) -> Result<(), Uncommitted> {
        let mut batch = self.committer.begin(tasks.len(), Patience::Brief);
        while let Some(committed) = batch.next(|size| resumed(&tasks[..size]), &NonePending, || ()).await {
            match (committed, tasks.split_first()) {
                (Ok((size, committed, commit)), _) => {
                    let (done, rest) = tasks.split_at(size);
                    self.count(done, &committed.answers, commit);
                    tasks = rest;
                }
                (Err(Uncommitted::Refused(error)), Some((refused, rest))) => {
                    self.refused(refused, &error).await?;
                    batch.skip();
                    tasks = rest;
                }
                (Err(error), _) => return Err(error),
            }
        }
        Ok(())
    }

    /// Counts and traces the outcomes, except of tasks that another daemon resumed first.
    fn count(&self, tasks: &[Message], answers: &[Answer], commit: Option<Commit>) {
        let mut traces = self.committer.traces().batch(tasks.len(), commit);
        for (message, answer) in tasks.iter().zip(answers).filter(|(_, answer)| **answer != Answer::Duplicate) {
            traces.resumed(message, self.committer.count(message, answer));
        }
    }

    async fn refused(&self, message: &Message, error: &StoreError) -> Result<(), Uncommitted> {
        let Ok(task) = &message.content else { return Ok(()) };
        warn!(id = %task.id, %error, "PostgreSQL refuses a task that was due: it is tried again in a minute");
        self.postpone(task.id).await
    }

    async fn postpone(&self, task: Uuid) -> Result<(), Uncommitted> {
        self.store.postpone(task, POSTPONED).await.map_err(|error| self.committer.failed(error))
    }
}

/// Returns stored tasks as submissions that resume them.
fn resumed(tasks: &[Message]) -> Vec<Submission<'_>> {
    let submission = |(n, message)| Submission { resumes: true, ..Submission::of(Arrival(n), message) };
    (0..).zip(tasks).map(submission).collect()
}
