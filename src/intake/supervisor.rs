//! Owns the consuming session: opens one, consumes, and begins a new epoch when it is lost,
//! for ever.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::BrokerSettings;
use super::epoch::{Delivery, Epoch};
use super::session::{Acks, Next, OpenError, Session, SessionError, Source};
use crate::broker::inbound::Held;
use crate::contract::{Authority, Message};
use crate::health::Dependency;
use crate::retry::Delays;
use crate::store::BatchStore;
use crate::telemetry::labels;
use crate::worker::{Job, Pipeline};

/// How often a drain acknowledges what it has done so far.
const DRAINED_EVERY: Duration = Duration::from_secs(1);

/// Why intake ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// There is no queue to consume from, and it is not to be declared.
    #[error("{0}")]
    NoQueue(String),
}

/// Why a session ended.
enum End {
    /// As asked.
    Drained,
    /// Connection or channel are gone.
    Lost(String),
}

/// Takes tasks from the queue into the lanes.
pub struct Intake<B, S> {
    source: B,
    settings: BrokerSettings,
    pipeline: Arc<Pipeline<S, Delivery>>,
    drain: CancellationToken,
    authority: Authority,
}

impl<B: Source, S: BatchStore> Intake<B, S> {
    /// Consumes from `source`, as `settings` say, until `drain` is cancelled. What `authority` forbids
    /// goes on as a dead letter.
    pub const fn new(
        source: B,
        settings: BrokerSettings,
        pipeline: Arc<Pipeline<S, Delivery>>,
        drain: CancellationToken,
        authority: Authority,
    ) -> Self {
        Self { source, settings, pipeline, drain, authority }
    }

    /// Runs until drained: no more is taken, and all that was taken is settled and acknowledged.
    ///
    /// # Errors
    ///
    /// A queue that is missing and not to be declared.
    pub async fn run(self) -> Result<(), IntakeError> {
        let mut delays = Delays::new(&self.pipeline.retry);
        let mut connected_before = false;
        while !self.drain.is_cancelled() {
            self.wait_while_paused().await;
            let opened = tokio::select! {
                biased;
                () = self.drain.cancelled() => return Ok(()),
                opened = self.source.open(self.settings.prefetch) => opened,
            };
            let reason = match opened {
                Ok(session) => {
                    if std::mem::replace(&mut connected_before, true) {
                        self.pipeline.metrics.reconnects(labels::Connection::Intake).increment(1);
                    }
                    self.pipeline.health.set_up(Dependency::BrokerIntake);
                    let began = Instant::now();
                    let end = self.consume(session).await;
                    if began.elapsed() >= self.pipeline.retry.max {
                        // One that ends at once, again and again, is no reason to hurry.
                        delays.reset();
                    }
                    match end {
                        End::Drained => return Ok(()),
                        End::Lost(reason) => reason,
                    }
                }
                Err(OpenError::NoQueue(reason)) => return Err(IntakeError::NoQueue(reason)),
                Err(OpenError::Unavailable(reason)) => reason,
            };
            self.pipeline.health.set_down(Dependency::BrokerIntake, reason);
            tokio::select! {
                biased;
                () = self.drain.cancelled() => {}
                () = tokio::time::sleep(delays.next_delay()) => {}
            }
        }
        Ok(())
    }

    /// What nothing can be committed of is not taken again: each delivery counts, and the broker
    /// gives up what was delivered too often, though the fault is the database's.
    async fn wait_while_paused(&self) {
        while self.pipeline.health.is_paused() && !self.drain.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn consume(&self, mut session: B::Session) -> End {
        let prefetch = self.settings.prefetch;
        // Behind a slow lane the others go on until a quarter of the prefetch is left for them.
        let epoch = Epoch::begin(usize::from(prefetch) / 4 * 3);
        let metrics = Arc::clone(&self.pipeline.metrics);
        let mut acknowledging = tokio::spawn(Arc::clone(&epoch).acknowledge(session.acks(), metrics));
        info!(queue = %self.settings.queue, prefetch, "taking tasks");
        let end = loop {
            let next = tokio::select! {
                biased;
                () = self.drain.cancelled() => break End::Drained,
                ended = &mut acknowledging => break End::Lost(why(ended)),
                next = session.next() => next,
            };
            match next {
                // A full lane empties while draining too, so this is never cut short.
                Next::Delivery(tag, message, held) => self.take(&epoch, tag, message, held).await,
                Next::Lost(reason) => break End::Lost(reason),
            }
        };
        if matches!(end, End::Drained) {
            self.finish(&epoch, &mut session, &mut acknowledging).await;
        }
        epoch.end();
        acknowledging.abort();
        self.pipeline.metrics.ack_lag.set(0.0);
        session.close().await;
        end
    }

    /// Puts a delivery into its lane; waits while the lane is full, and so does the broker.
    async fn take(&self, epoch: &Arc<Epoch>, tag: u64, mut message: Message, held: Held) {
        let pipeline = &self.pipeline;
        pipeline.metrics.tasks_received.increment(1);
        self.authority.judge(&mut message);
        let delivery = epoch.deliver(tag, held);
        pipeline.health.progress().entered(1);
        let arrived = pipeline.in_flight.arrive(message.content.as_ref().ok());
        let job = Job { arrival: arrived.arrival, message, taken: std::time::Instant::now(), delivery };
        pipeline.lanes.push(arrived.lane, job).await;
    }

    /// No more is taken; what was taken is waited for and acknowledged.
    ///
    /// In few acknowledgements: a channel of RabbitMQ has up to 32 on their way to a quorum queue
    /// that writes slowly, keeps back the others, and forgets them when it is closed. It answers
    /// the cancel after what came before that, and passes on what it kept back.
    async fn finish(&self, epoch: &Arc<Epoch>, session: &mut B::Session, acknowledging: &mut Acknowledging) {
        epoch.drain();
        // What it has taken out of the window it also sends.
        let _ = tokio::time::timeout(Duration::from_secs(1), acknowledging).await;
        let acks = session.acks();
        let ((), acknowledged) = tokio::join!(session.cancel(), self.settled(epoch, &acks));
        let acknowledged = match acknowledged {
            Ok(()) => epoch.acknowledge_rest(&acks, &self.pipeline.metrics).await,
            lost => lost,
        };
        if let Err(error) = acknowledged {
            warn!(%error, "the last acknowledgements were not sent: these tasks will come again, and be known");
        }
    }

    /// Waits until all that was taken is settled. A drain that is cut short should have
    /// acknowledged most of it.
    async fn settled(&self, epoch: &Epoch, acks: &impl Acks) -> Result<(), SessionError> {
        let metrics = &self.pipeline.metrics;
        let mut acknowledged = Instant::now();
        let mut result = Ok(());
        while self.pipeline.in_flight.count() > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
            metrics.ack_lag.set(epoch.lag() as f64);
            if result.is_ok() && acknowledged.elapsed() >= DRAINED_EVERY {
                result = epoch.acknowledge_prefix(acks, metrics).await;
                acknowledged = Instant::now();
            }
        }
        result
    }
}

type Acknowledging = JoinHandle<Result<(), SessionError>>;

/// An epoch that can't acknowledge is lost, even if deliveries still come.
fn why(ended: Result<Result<(), SessionError>, tokio::task::JoinError>) -> String {
    match ended {
        Ok(Ok(())) => "the epoch is over".to_owned(),
        Ok(Err(error)) => format!("acknowledgements can't be sent: {error}"),
        Err(died) => format!("acknowledging has died: {died}"),
    }
}
