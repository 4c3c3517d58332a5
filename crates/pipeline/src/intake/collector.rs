//! Consumes the broker's dead-letter queue. Each message is committed as a dead letter before it is acknowledged.
//!
//! The messages bypass the lanes and are committed a few at a time, never in a batch with payments. Such a message
//! may have crashed a process or been refused by PostgreSQL, and it can be many times as long as a task. In a lane it
//! would delay payments, and a refusal would stop the daemon. Here it stays in the queue until it can be committed.
//! It has no account and no order, so it needs neither an arrival number nor a lane.
//!
//! Nothing else depends on the collector: payments continue if the queue can't be consumed.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::backlog::{Backlog, Measured};
use super::source::{DeadLetterSession, DeadLetterSource, DeadQueueError};
use crate::committer::{Committer, Patience, Uncommitted};
use crate::health::Health;
use crate::labels;
use crate::maintenance::Maintenance;
use crate::retry::{Delays, RetrySettings};
use crate::settings::Live;
use crate::shutdown::sleep_unless;
use crate::store::{Answer, BatchStore, Submission};
use crate::traces::Commit;
use settled_core::contract::{Authority, Message};
use settled_core::ledger::{Arrival, NonePending};

/// Maximum number of messages in a commit.
const MOST: usize = 8;

/// Interval between measurements of this queue's depth and the task queue's.
const MEASURED_EVERY: Duration = Duration::from_secs(5);

/// Delay before the next attempt to use a queue that doesn't exist or is forbidden.
const LEFT_ALONE: Duration = Duration::from_secs(60);

type TagOf<Q> = <<Q as DeadLetterSource>::Session as DeadLetterSession>::Tag;

/// Why the queue is no longer consumed, if that works.
enum End {
    /// The daemon stops.
    Stop,
    /// Maintenance has begun.
    Maintenance,
}

/// Consumes the dead-letter queue.
pub struct Collector<Q, S> {
    queue: Q,
    authority: Live<Authority>,
    committer: Arc<Committer<S>>,
    retry: Live<RetrySettings>,
    health: Arc<Health>,
    maintenance: Maintenance,
    backlog: Arc<Backlog>,
    drain: CancellationToken,
}

impl<Q: DeadLetterSource, S: BatchStore> Collector<Q, S> {
    /// Creates a collector that consumes `queue` until `drain` is cancelled, and not during `maintenance`. `authority`
    /// decides which replies may be sent. The task queue's length goes to `backlog`: this connection is never held up by
    /// deliveries, so that it is measured while intake waits.
    #[expect(clippy::too_many_arguments, reason = "each is another part of the daemon")]
    pub const fn new(
        queue: Q,
        authority: Live<Authority>,
        committer: Arc<Committer<S>>,
        retry: Live<RetrySettings>,
        health: Arc<Health>,
        maintenance: Maintenance,
        backlog: Arc<Backlog>,
        drain: CancellationToken,
    ) -> Self {
        Self { queue, authority, committer, retry, health, maintenance, backlog, drain }
    }

    /// Runs until drained. Reconnects without limit.
    pub async fn run(self) {
        let mut delays = Delays::new(&self.retry);
        let (mut connected_before, mut told) = (false, None);
        loop {
            tokio::select! {
                biased;
                () = self.drain.cancelled() => return,
                () = self.intake_works() => {}
            }
            let Some(_at_work) = self.maintenance.entered(&self.drain).await else { return };
            let began = Instant::now();
            let error = match self.collect(&mut connected_before, &mut told).await {
                Ok(End::Maintenance) => {
                    self.backlog.unknown();
                    continue;
                }
                Ok(End::Stop) => return,
                Err(error) => error,
            };
            self.backlog.unknown();
            delays.session_ended(began.elapsed());
            let wait = match &error {
                DeadQueueError::NotThere(_) => {
                    self.committer.metrics().dead_letter_queue_depth.set(f64::NAN);
                    LEFT_ALONE
                }
                DeadQueueError::Lost(_) => delays.next_delay(),
            };
            self.tell(&error, &mut told);
            if !sleep_unless(&self.drain, wait).await {
                return;
            }
        }
    }

    /// Waits until intake is connected and not paused. By then the queue has been declared, if configured, and
    /// PostgreSQL accepts commits.
    async fn intake_works(&self) {
        let health = &self.health;
        let mut changed = health.subscribe();
        loop {
            let now = health.readiness();
            let publishing = [labels::Dependency::BrokerRelay, labels::Dependency::BrokerStream].map(|of| of.name());
            let mut needed = now.dependencies.iter().filter(|dependency| !publishing.contains(&dependency.name));
            if now.paused.is_none() && needed.all(|dependency| dependency.up) {
                return;
            }
            // The sender can't be dropped: `self` owns it.
            let _ = changed.changed().await;
        }
    }

    /// Logs an error, unless it repeats the last reason.
    fn tell(&self, error: &DeadQueueError, told: &mut Option<String>) {
        let (reason, queue) = (error.to_string(), self.queue.name());
        if told.as_ref() == Some(&reason) {
            return;
        }
        match error {
            DeadQueueError::NotThere(_) => {
                warn!(reason, "what the broker gives up is lost or stays where it is: it can't be taken");
            }
            DeadQueueError::Lost(_) => warn!(queue, reason, "the dead-letter queue can't be consumed at the moment"),
        }
        *told = Some(reason);
    }

    /// Connects and consumes until drained, or until maintenance begins.
    async fn collect(&self, connected_before: &mut bool, told: &mut Option<String>) -> Result<End, DeadQueueError> {
        let opened = tokio::select! {
            biased;
            () = self.drain.cancelled() => return Ok(End::Stop),
            opened = self.queue.open() => opened,
        };
        let (mut session, waiting) = opened?;
        if std::mem::replace(connected_before, true) {
            self.committer.metrics().reconnects(labels::Connection::DeadLetters).increment(1);
        }
        if told.take().is_some() {
            info!(queue = self.queue.name(), "the dead-letter queue is consumed");
        }
        let depth = &self.committer.metrics().dead_letter_queue_depth;
        depth.set(f64::from(waiting));
        let mut measuring = tokio::time::interval(MEASURED_EVERY);
        measuring.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut measured = Measured::default();
        let end = loop {
            tokio::select! {
                biased;
                () = self.drain.cancelled() => break End::Stop,
                () = self.maintenance.begins() => break End::Maintenance,
                _ = measuring.tick() => {
                    depth.set(f64::from(session.depth().await?));
                    self.backlog.measured(&mut measured, session.tasks().await?, MEASURED_EVERY);
                }
                next = session.next(), if !self.health.is_held() => {
                    if !self.take(&mut session, next?).await? {
                        break End::Stop;
                    }
                    depth.set(f64::from(session.depth().await?));
                }
            }
        };
        session.close().await;
        Ok(end)
    }

    /// Commits a message and those already received behind it, then acknowledges them. Returns false if the daemon
    /// stops before the commit; the messages are then redelivered.
    async fn take(&self, session: &mut Q::Session, first: (TagOf<Q>, Message)) -> Result<bool, DeadQueueError> {
        let mut taken = vec![first];
        let mut ended = None;
        while taken.len() < MOST && ended.is_none() {
            match session.next_waiting().await {
                Some(Ok(next)) => taken.push(next),
                Some(Err(error)) => ended = Some(error),
                None => break,
            }
        }
        let authority = self.authority.get();
        taken.iter_mut().for_each(|(_, message)| authority.judge(message));
        let mut batch = self.committer.begin(taken.len(), Patience::Brief);
        let (mut delays, mut is_told) = (Delays::new(&self.retry), false);
        while let Some(committed) = batch.next(|size| submissions(&taken[..size]), &NonePending, || ()).await {
            match committed {
                Ok((size, committed, commit)) => {
                    let (tags, messages): (Vec<TagOf<Q>>, Vec<Message>) = taken.drain(..size).unzip();
                    self.count(&messages, &committed.answers, commit);
                    if let (None, Some(proof)) = (&ended, &committed.proof) {
                        session.acknowledge(tags, proof).await?;
                    }
                }
                Err(Uncommitted::Broken) => return Ok(false),
                Err(Uncommitted::Refused(error) | Uncommitted::Failed(error)) => {
                    if !std::mem::replace(&mut is_told, true) {
                        warn!(%error, "what the broker gave up can't be committed: it stays in the dead-letter queue until it can");
                    }
                    if !sleep_unless(&self.drain, delays.next_delay()).await {
                        return Ok(false);
                    }
                }
            }
        }
        ended.map_or(Ok(true), Err)
    }

    fn count(&self, taken: &[Message], answers: &[Answer], commit: Option<Commit>) {
        let mut traces = self.committer.traces().batch(taken.len(), commit);
        for (message, answer) in taken.iter().zip(answers) {
            let outcome = self.committer.count(message, answer);
            traces.settled(message, outcome);
            let (Some(outcome), Err(letter)) = (outcome, &message.content) else { continue };
            let id = letter.task_id.map(tracing::field::display);
            let publisher = message.properties.publisher.as_deref();
            warn!(
                id,
                reason = outcome.reason(),
                detail = letter.detail,
                publisher,
                "dead letter, given up by the broker"
            );
        }
    }
}

fn submissions<T>(taken: &[(T, Message)]) -> Vec<Submission<'_>> {
    (0..).zip(taken).map(|(n, (_, message))| Submission::of(Arrival(n), message)).collect()
}
