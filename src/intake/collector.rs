//! Takes what the broker has given up out of its dead-letter queue, and commits it as dead letters
//! before it is acknowledged.
//!
//! Beside the lanes, a few messages at a time: dead letters have no account and no order, and nobody
//! waits for them. Nothing else depends on it: where the queue can't be consumed, payments go on.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::dead_queue::{DeadQueue, DeadQueueError, DeadSession, Tag};
use super::epoch::Delivery;
use crate::contract::{Authority, Message};
use crate::disposition::Disposition;
use crate::ledger::{Arrival, NonePending};
use crate::retry::Delays;
use crate::store::{BatchStore, Committed, Submission};
use crate::telemetry::labels::{self, Outcome};
use crate::worker::Pipeline;

/// The most messages of a commit.
const MOST: usize = 8;

/// How often the queue is measured.
const MEASURED_EVERY: Duration = Duration::from_secs(15);

/// How long a queue that can't be used is left alone.
const LEFT_ALONE: Duration = Duration::from_secs(60);

/// The collector.
pub struct Collector<S> {
    queue: DeadQueue,
    pipeline: Arc<Pipeline<S, Delivery>>,
    drain: CancellationToken,
    authority: Authority,
}

impl<S: BatchStore> Collector<S> {
    /// Takes from `queue` until `drain` is cancelled. A reply goes to where `authority` lets it go.
    pub const fn new(
        queue: DeadQueue,
        pipeline: Arc<Pipeline<S, Delivery>>,
        drain: CancellationToken,
        authority: Authority,
    ) -> Self {
        Self { queue, pipeline, drain, authority }
    }

    /// Runs until drained; connects again for ever.
    pub async fn run(self) {
        let mut delays = Delays::new(&self.pipeline.retry);
        let (mut connected_before, mut told) = (false, None);
        loop {
            tokio::select! {
                biased;
                () = self.drain.cancelled() => return,
                () = self.intake_works() => {}
            }
            let began = Instant::now();
            let Err(error) = self.collect(&mut connected_before, &mut told).await else { return };
            if began.elapsed() >= self.pipeline.retry.max {
                delays.reset();
            }
            let wait = match &error {
                DeadQueueError::NotThere(_) => {
                    self.pipeline.metrics.dead_letter_queue_depth.set(f64::NAN);
                    LEFT_ALONE
                }
                DeadQueueError::Lost(_) => delays.next_delay(),
            };
            self.tell(&error, &mut told);
            tokio::select! {
                biased;
                () = self.drain.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Waits until tasks are taken: then the queue is declared, if it is to be, and what is found can
    /// be committed.
    async fn intake_works(&self) {
        let health = &self.pipeline.health;
        let mut changed = health.subscribe();
        loop {
            let now = health.readiness();
            let mut needed =
                now.dependencies.iter().filter(|dependency| dependency.name != labels::Dependency::BrokerRelay.name());
            if now.paused.is_none() && needed.all(|dependency| dependency.up) {
                return;
            }
            // Health outlives whoever waits for it.
            let _ = changed.changed().await;
        }
    }

    /// Once for each reason, not for each attempt.
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

    /// Takes messages until drained.
    async fn collect(&self, connected_before: &mut bool, told: &mut Option<String>) -> Result<(), DeadQueueError> {
        let opened = tokio::select! {
            biased;
            () = self.drain.cancelled() => return Ok(()),
            opened = self.queue.open() => opened,
        };
        let (mut session, waiting) = opened?;
        if std::mem::replace(connected_before, true) {
            self.pipeline.metrics.reconnects(labels::Connection::DeadLetters).increment(1);
        }
        if told.take().is_some() {
            info!(queue = self.queue.name(), "the dead-letter queue is consumed");
        }
        let depth = &self.pipeline.metrics.dead_letter_queue_depth;
        depth.set(f64::from(waiting));
        let mut measuring = tokio::time::interval_at(Instant::now() + MEASURED_EVERY, MEASURED_EVERY);
        loop {
            tokio::select! {
                biased;
                () = self.drain.cancelled() => break,
                _ = measuring.tick() => depth.set(f64::from(session.depth().await?)),
                next = session.next() => {
                    if !self.take(&mut session, next?).await? {
                        break;
                    }
                    depth.set(f64::from(session.depth().await?));
                }
            }
        }
        session.close().await;
        Ok(())
    }

    /// Commits a message and those that are there already, and acknowledges them. `false` if the
    /// daemon stops before they are committed: they come again.
    async fn take(&self, session: &mut DeadSession, first: (Tag, Message)) -> Result<bool, DeadQueueError> {
        let mut taken = vec![first];
        let mut ended = None;
        while taken.len() < MOST && ended.is_none() {
            match session.next_waiting().await {
                Some(Ok(next)) => taken.push(next),
                Some(Err(error)) => ended = Some(error),
                None => break,
            }
        }
        taken.iter_mut().for_each(|(_, message)| self.authority.judge(message));
        let mut pieces = vec![taken];
        while let Some(mut piece) = pieces.pop() {
            match self.commit(&mut piece).await {
                Some(Attempt::Committed(committed)) => {
                    self.count(&piece, &committed);
                    if let (None, Some(proof)) = (&ended, &committed.proof) {
                        let tags = piece.into_iter().map(|(tag, _)| tag).collect();
                        session.acknowledge(tags, proof).await?;
                    }
                }
                Some(Attempt::Refused) => {
                    let second = piece.split_off(piece.len() / 2);
                    pieces.extend([second, piece]);
                }
                None => return Ok(false),
            }
        }
        ended.map_or(Ok(true), Err)
    }

    /// Tries for as long as it takes, unless the daemon stops.
    async fn commit(&self, piece: &mut [(Tag, Message)]) -> Option<Attempt> {
        let pipeline = &self.pipeline;
        let batch: Vec<Submission<'_>> =
            (0..).zip(piece.iter()).map(|(n, (_, message))| Submission::of(Arrival(n), message)).collect();
        let mut delays = Delays::new(&pipeline.retry);
        let mut is_told = false;
        loop {
            let _permit = pipeline.transactions.acquire().await.ok()?;
            let error = match pipeline.store.commit(&batch, &[], &NonePending, false).await {
                Ok(committed) => return Some(Attempt::Committed(committed)),
                Err(error) => error,
            };
            drop(_permit);
            if Disposition::of_error(&error) == Disposition::Bisect && batch.len() > 1 {
                return Some(Attempt::Refused);
            }
            if !std::mem::replace(&mut is_told, true) {
                warn!(%error, "what the broker gave up can't be committed: it stays in the dead-letter queue until it can");
            }
            tokio::select! {
                biased;
                () = self.drain.cancelled() => return None,
                () = tokio::time::sleep(delays.next_delay()) => {}
            }
        }
    }

    fn count(&self, taken: &[(Tag, Message)], committed: &Committed) {
        for ((_, message), answer) in taken.iter().zip(&committed.answers) {
            let Some(outcome @ Outcome::DeadLettered(reason)) = Outcome::of(answer) else { continue };
            self.pipeline.metrics.dead_letters(reason).increment(1);
            self.pipeline.metrics.outcome(None, outcome).increment(1);
            let Err(letter) = &message.content else { continue };
            let id = letter.task_id.map(tracing::field::display);
            let publisher = message.properties.publisher.as_deref();
            warn!(id, reason = reason.name(), detail = letter.detail, publisher, "dead letter, given up by the broker");
        }
    }
}

/// What came of an attempt to commit.
enum Attempt {
    Committed(Committed),
    /// PostgreSQL refuses one of several.
    Refused,
}
