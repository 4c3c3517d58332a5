//! Owns the consuming session: opens it, consumes, and begins a new epoch whenever it is lost.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::backlog::Backlog;
use super::epoch::{Delivery, Epoch};
use super::source::{Acks, Next, OpenError, Session, SessionError, Source};
use crate::admission::Admission;
use crate::budget::Held;
use crate::health::{Dependency, Health, Outage};
use crate::labels;
use crate::maintenance::Maintenance;
use crate::metrics::Metrics;
use crate::reflex::Quarantine;
use crate::retry::{Delays, RetrySettings};
use crate::settings::Live;
use crate::shutdown::sleep_unless;
use settled_core::contract::{Authority, Message};

/// Interval between acknowledgements during a drain.
const DRAINED_EVERY: Duration = Duration::from_secs(1);

/// Why intake ended without a drain.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The queue doesn't exist and the daemon must not declare it.
    #[error("{0}")]
    NoQueue(String),
    /// The user lacks permissions that the daemon needs, and it has just started: somebody has to grant them.
    #[error("{0}")]
    Forbidden(String),
}

/// Why a session ended.
enum End {
    /// A drain or maintenance was requested, and everything is settled.
    Drained,
    /// A reflex keeps tasks from being taken. Everything that was taken is settled.
    Held,
    /// The connection or the channel was closed, for this reason.
    Lost(String),
}

/// The queue to consume and the prefetch limit.
#[derive(Clone, Debug)]
pub struct Consumption {
    /// Name of the task queue.
    pub queue: String,
    /// Maximum number of unacknowledged deliveries.
    pub prefetch: u16,
}

/// Consumes the task queue and submits each message to admission. Tasks that `authority` forbids are submitted as dead
/// letters.
pub struct Intake<B> {
    pub(crate) source: B,
    pub(crate) consumption: Consumption,
    pub(crate) authority: Live<Authority>,
    pub(crate) admission: Arc<Admission<Delivery>>,
    pub(crate) retry: Live<RetrySettings>,
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: Arc<Metrics>,
    /// Suspends the consumption: everything is settled, and the connection closed.
    pub(crate) maintenance: Maintenance,
    pub(crate) backlog: Arc<Backlog>,
    pub(crate) quarantine: Arc<Quarantine>,
    /// Ends the consumption when it is cancelled.
    pub(crate) drain: CancellationToken,
}

impl<B: Source> Intake<B> {
    /// Runs until drained: the consumer is cancelled, and all deliveries are settled and acknowledged.
    ///
    /// # Errors
    ///
    /// [`IntakeError::NoQueue`] if the queue is missing and must not be declared. [`IntakeError::Forbidden`] if the
    /// first session lacks permissions; a daemon that has worked waits until it has them again.
    pub async fn run(self) -> Result<(), IntakeError> {
        let mut delays = Delays::new(&self.retry);
        let mut connected_before = false;
        while !self.drain.is_cancelled() {
            self.wait_while_paused().await;
            let Some(_at_work) = self.maintenance.entered(&self.drain).await else { return Ok(()) };
            let opened = tokio::select! {
                biased;
                () = self.drain.cancelled() => return Ok(()),
                opened = self.source.open(self.consumption.prefetch) => opened,
            };
            let outage = match opened {
                Ok(session) => {
                    if std::mem::replace(&mut connected_before, true) {
                        self.metrics.reconnects(labels::Connection::Intake).increment(1);
                    }
                    self.health.set_up(Dependency::BrokerIntake);
                    let began = Instant::now();
                    let end = self.consume(session).await;
                    delays.session_ended(began.elapsed());
                    match end {
                        End::Drained | End::Held => continue,
                        End::Lost(reason) => reason.into(),
                    }
                }
                Err(OpenError::NoQueue(reason)) => return Err(IntakeError::NoQueue(reason)),
                Err(OpenError::Unavailable(reason)) => reason.into(),
                Err(OpenError::Forbidden(reason)) if !connected_before => return Err(IntakeError::Forbidden(reason)),
                Err(OpenError::Refused(reason) | OpenError::Forbidden(reason)) => Outage::refused(reason),
            };
            self.health.set_down(Dependency::BrokerIntake, outage);
            sleep_unless(&self.drain, delays.next_delay()).await;
        }
        Ok(())
    }

    /// Waits while PostgreSQL is unavailable or a reflex has paused intake. Taking deliveries meanwhile would raise their
    /// delivery count, and the broker would dead-letter good messages.
    async fn wait_while_paused(&self) {
        while (self.health.is_paused() || self.health.is_held()) && !self.drain.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn consume(&self, mut session: B::Session) -> End {
        let prefetch = self.consumption.prefetch;
        // While one slow lane blocks acknowledgements, a quarter of the prefetch stays usable for the others.
        let epoch = Epoch::begin(usize::from(prefetch) / 4 * 3);
        let metrics = Arc::clone(&self.metrics);
        let mut acknowledging = tokio::spawn(Arc::clone(&epoch).acknowledge(session.acks(), metrics));
        info!(queue = %self.consumption.queue, prefetch, "taking tasks");
        let mut held = pin!(self.health.held());
        let end = loop {
            let next = tokio::select! {
                biased;
                () = self.drain.cancelled() => break End::Drained,
                () = self.maintenance.begins() => break End::Drained,
                () = &mut held => break End::Held,
                ended = &mut acknowledging => break End::Lost(why(ended)),
                next = session.next() => next,
            };
            match next {
                // Lanes empty during a drain too, so waiting for a full lane needs no cancellation.
                Next::Delivery(tag, message, held) => self.take(&epoch, tag, message, held).await,
                Next::Lost(reason) => break End::Lost(reason),
            }
        };
        if matches!(end, End::Drained | End::Held) {
            self.finish(&epoch, &mut session, &mut acknowledging).await;
        }
        epoch.end();
        acknowledging.abort();
        self.metrics.ack_lag.set(0.0);
        session.close().await;
        end
    }

    /// Submits a delivery to admission. While its lane is full this waits, and no further delivery is read.
    async fn take(&self, epoch: &Arc<Epoch>, tag: u64, mut message: Message, held: Held) {
        self.metrics.tasks_received.increment(1);
        self.backlog.took(&message);
        self.authority.get().judge(&mut message);
        self.quarantine.judge(&mut message, &self.metrics);
        self.admission.admit(message, epoch.deliver(tag, held)).await;
    }

    /// Cancels the consumer, waits until all deliveries are settled, and acknowledges them.
    ///
    /// Sends few acknowledgements: a RabbitMQ channel has up to 32 on their way to a slow quorum queue, holds the
    /// others back, and drops them when the channel is closed. It replies to the cancel after processing what came
    /// before, and then forwards what it held back.
    async fn finish(&self, epoch: &Arc<Epoch>, session: &mut B::Session, acknowledging: &mut Acknowledging) {
        epoch.drain();
        // Let it finish: it sends all acknowledgements that it has taken out of the window.
        let _ = tokio::time::timeout(Duration::from_secs(1), acknowledging).await;
        let acks = session.acks();
        let ((), acknowledged) = tokio::join!(session.cancel(), self.settled(epoch, &acks));
        let acknowledged = match acknowledged {
            Ok(()) => epoch.acknowledge_rest(&acks, &self.metrics).await,
            lost => lost,
        };
        if let Err(error) = acknowledged {
            warn!(%error, "the last acknowledgements were not sent: these tasks will come again, and be known");
        }
    }

    /// Waits until all deliveries are settled. Acknowledges every now and then, so that little is redelivered if the
    /// drain is aborted.
    async fn settled(&self, epoch: &Epoch, acks: &impl Acks) -> Result<(), SessionError> {
        let metrics = &self.metrics;
        let mut acknowledged = Instant::now();
        let mut result = Ok(());
        while self.admission.in_flight() > 0 {
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

/// Returns why acknowledging ended. The epoch is lost then, even if deliveries still arrive.
fn why(ended: Result<Result<(), SessionError>, tokio::task::JoinError>) -> String {
    match ended {
        Ok(Ok(())) => "the epoch is over".to_owned(),
        Ok(Err(error)) => format!("acknowledgements can't be sent: {error}"),
        Err(died) => format!("acknowledging has died: {died}"),
    }
}
