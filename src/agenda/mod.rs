//! What is done because its time has come, not because a message has: scheduled and parked tasks
//! are looked at again, holds that have run out end.
//!
//! Every daemon does it, from the same tables and by the database's clock; which of them is first
//! doesn't matter, since each looks again under the accounts' locks before it acts. A task that was
//! accepted is never lost here: what can't be committed now is tried again later.

mod gauges;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use self::gauges::Gauges;
pub use self::settings::PaymentSettings;
use crate::contract::{Message, Rejection};
use crate::disposition::Disposition;
use crate::ledger::{Arrival, NonePending};
use crate::retry::Delays;
use crate::store::{BatchStore, Committed, Due, StoreError, Submission};
use crate::telemetry::labels::Outcome;
use crate::worker::{Delivery, Pipeline};

/// How long a task is left alone that PostgreSQL refuses to have applied.
const POSTPONED: Duration = Duration::from_secs(60);

/// Looks after what waits.
pub struct Agenda<S, D> {
    pipeline: Arc<Pipeline<S, D>>,
    settings: PaymentSettings,
    stop: CancellationToken,
}

impl<S: BatchStore, D: Delivery> Agenda<S, D> {
    /// Works beside `pipeline` until `stop` is cancelled.
    pub const fn new(pipeline: Arc<Pipeline<S, D>>, settings: PaymentSettings, stop: CancellationToken) -> Self {
        Self { pipeline, settings, stop }
    }

    /// Runs until stopped.
    pub async fn run(self) {
        let mut rounds = tokio::time::interval(self.settings.interval);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut delays = Delays::new(&self.pipeline.retry);
        let mut gauges = Gauges::default();
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.pipeline.agenda.notified() => {}
                _ = rounds.tick() => {}
            }
            match self.sweep().await {
                Ok(()) => delays.reset(),
                Err(error) if Disposition::of_error(&error) == Disposition::Crash => {
                    error!(%error, "an invariant doesn't hold: stopping");
                    self.pipeline.broken.cancel();
                    return;
                }
                // The workers say what is wrong with the database.
                Err(error) => {
                    debug!(%error, "what is due has to wait");
                    tokio::select! {
                        biased;
                        () = self.stop.cancelled() => return,
                        () = tokio::time::sleep(delays.next_delay()) => {}
                    }
                }
            }
            gauges.measure(&self.pipeline).await;
        }
    }

    /// Does all that is due.
    async fn sweep(&self) -> Result<(), StoreError> {
        loop {
            let due = self.pipeline.store.due(self.pipeline.max_batch).await?;
            if due.is_empty() || self.stop.is_cancelled() {
                return Ok(());
            }
            let more = due.more;
            let moved = self.work_off(due).await?;
            // What a task has done can have made others due.
            if !more && !moved {
                return Ok(());
            }
        }
    }

    /// Has everything committed, in pieces if PostgreSQL refuses a task; answers whether another
    /// task has become due.
    async fn work_off(&self, due: Due) -> Result<bool, StoreError> {
        let Due { tasks, expired, .. } = due;
        let tasks = self.readable(tasks).await?;
        let mut woken = self.commit(&[], &expired).await?.is_some_and(|committed| committed.woken > 0);
        let mut pieces: Vec<&[Message]> = vec![&tasks];
        while let Some(piece) = pieces.pop().filter(|piece| !piece.is_empty()) {
            match self.commit(piece, &[]).await {
                Ok(committed) => woken |= committed.is_some_and(|committed| committed.woken > 0),
                Err(StoreError::Refused { .. }) if piece.len() > 1 => {
                    self.pipeline.metrics.bisections.increment(1);
                    let (first, second) = piece.split_at(piece.len() / 2);
                    pieces.extend([second, first]);
                }
                Err(error @ StoreError::Refused { .. }) => self.postpone(piece, &error).await?,
                Err(error) => return Err(error),
            }
        }
        Ok(woken)
    }

    /// Leaves alone what can't be read any more, for people to look at; answers the rest.
    async fn readable(&self, tasks: Vec<Message>) -> Result<Vec<Message>, StoreError> {
        let (readable, rest): (Vec<_>, Vec<_>) = tasks.into_iter().partition(|message| message.content.is_ok());
        for letter in rest.iter().filter_map(|message| message.content.as_ref().err()) {
            let Some(id) = letter.task_id else { continue };
            warn!(%id, detail = letter.detail, "a task that is due can't be read any more: it is tried again in a minute");
            self.pipeline.store.postpone(id, POSTPONED).await?;
        }
        Ok(readable)
    }

    async fn commit(&self, tasks: &[Message], expired: &[uuid::Uuid]) -> Result<Option<Committed>, StoreError> {
        if tasks.is_empty() && expired.is_empty() {
            return Ok(None);
        }
        let pipeline = &self.pipeline;
        let batch: Vec<Submission<'_>> = (0..)
            .zip(tasks)
            .map(|(n, message)| Submission { resumes: true, ..Submission::of(Arrival(n), message) })
            .collect();
        let Ok(_permit) = pipeline.transactions.acquire().await else {
            return Err(StoreError::Unavailable("the daemon is stopping".into()));
        };
        let mut conflicts = 0;
        let mut committed = loop {
            let room = pipeline.handover.reserve(tasks.len() + expired.len(), 0);
            match pipeline.store.commit(&batch, expired, &NonePending, room.is_some()).await {
                Ok(mut committed) => {
                    if let (Some(room), Some(parcel)) = (room, committed.parcel.take()) {
                        room.give(parcel);
                    }
                    break committed;
                }
                Err(StoreError::Conflict(_)) if conflicts < pipeline.retry.conflict_attempts => conflicts += 1,
                Err(error) => return Err(error),
            }
        };
        for (message, answer) in tasks.iter().zip(committed.answers.drain(..)) {
            let task = message.content.as_ref().ok().map(|task| task.body.task_type());
            if let Some(outcome) = Outcome::of(&answer).filter(|outcome| *outcome != Outcome::Duplicate) {
                pipeline.metrics.outcome(task, outcome).increment(1);
                if outcome == Outcome::Rejected(Rejection::Forbidden) {
                    pipeline.metrics.forbidden(&message.properties).increment(1);
                }
            }
        }
        pipeline.metrics.holds_expired.increment(committed.expired as u64);
        pipeline.metrics.shortfalls.increment(committed.shortfalls as u64);
        Ok(Some(committed))
    }

    /// A task was accepted, and now PostgreSQL refuses it: that is for people.
    async fn postpone(&self, piece: &[Message], error: &StoreError) -> Result<(), StoreError> {
        for task in piece.iter().filter_map(|message| message.content.as_ref().ok()) {
            warn!(id = %task.id, %error, "PostgreSQL refuses a task that was due: it is tried again in a minute");
            self.pipeline.store.postpone(task.id, POSTPONED).await?;
        }
        Ok(())
    }
}

/// How long a measurement may be on the database's mind, as a part of all time.
const SHARE: u32 = 50;

/// How often the gauges are set, at most.
const MEASURED_EVERY: Duration = Duration::from_secs(2);

/// When something may be measured again that took as long as this.
fn pause_after(took: Duration) -> Instant {
    Instant::now() + MEASURED_EVERY.max(took * SHARE)
}
