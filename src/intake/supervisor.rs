//! Owns the consuming connection: connects, consumes, and begins a new epoch when it is lost,
//! for ever.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use jiff::Timestamp;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer, ErrorKind};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::epoch::{Delivery, Epoch};
use super::topology::{self, TopologyError};
use super::{BrokerSettings, message};
use crate::broker::Connector;
use crate::health::Dependency;
use crate::retry::Delays;
use crate::store::BatchStore;
use crate::telemetry::labels;
use crate::worker::{Job, Pipeline};

/// The consumer's tag, as operators see it.
const CONSUMER: &str = "settled";

/// Why intake ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// There is no queue to consume from, and it is not to be declared.
    #[error("{0}")]
    Topology(TopologyError),
}

/// Why a session ended.
enum End {
    /// As asked.
    Drained,
    /// Connection or channel are gone.
    Lost(String),
    /// Something came that is not AMQP as lapin reads it: a property that isn't UTF-8, say. It
    /// takes the connection along, and will with each delivery.
    Unreadable(String),
    /// What could break the connection has been passed.
    Passed,
}

/// Takes tasks from the queue into the lanes.
pub struct Intake<S> {
    connector: Connector,
    settings: BrokerSettings,
    events_exchange: String,
    pipeline: Arc<Pipeline<S, Delivery>>,
    drain: CancellationToken,
}

struct Session {
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
}

impl<S: BatchStore> Intake<S> {
    /// Consumes as `settings` say until `drain` is cancelled.
    pub fn new(
        settings: BrokerSettings,
        events_exchange: &str,
        pipeline: Arc<Pipeline<S, Delivery>>,
        drain: CancellationToken,
    ) -> Self {
        let connector = Connector::new(settings.clone(), "settled intake");
        Self { connector, settings, events_exchange: events_exchange.to_owned(), pipeline, drain }
    }

    /// Runs until drained: no more is taken, and all that was taken is settled and acknowledged.
    ///
    /// # Errors
    ///
    /// A queue that is missing and not to be declared.
    pub async fn run(self) -> Result<(), IntakeError> {
        let mut delays = Delays::new(&self.pipeline.retry);
        let mut connected_before = false;
        // How many deliveries are still to be taken one by one.
        let mut suspects = 0;
        while !self.drain.is_cancelled() {
            self.wait_while_paused().await;
            let opened = tokio::select! {
                opened = self.open(self.prefetch(suspects)) => opened,
                () = self.drain.cancelled() => return Ok(()),
            };
            let reason = match opened {
                Ok(session) => {
                    if std::mem::replace(&mut connected_before, true) {
                        self.pipeline.metrics.reconnects(labels::Connection::Intake).increment(1);
                    }
                    self.pipeline.health.set_up(Dependency::BrokerIntake);
                    let began = Instant::now();
                    let end = self.consume(session, &mut suspects).await;
                    if began.elapsed() >= self.pipeline.retry.max {
                        // One that ends at once, again and again, is no reason to hurry.
                        delays.reset();
                    }
                    match end {
                        End::Drained => return Ok(()),
                        End::Passed => continue,
                        End::Lost(reason) => reason,
                        End::Unreadable(reason) => {
                            warn!("a message breaks the connection: taking tasks one by one until it is passed");
                            suspects = usize::from(self.settings.prefetch);
                            // The broker gives it up after so many deliveries: the sooner the better.
                            delays.reset();
                            reason
                        }
                    }
                }
                Err(OpenError::Topology(error @ TopologyError::Missing(_))) => {
                    return Err(IntakeError::Topology(error));
                }
                Err(error) => error.to_string(),
            };
            self.pipeline.health.set_down(Dependency::BrokerIntake, reason);
            tokio::select! {
                () = tokio::time::sleep(delays.next_delay()) => {}
                () = self.drain.cancelled() => {}
            }
        }
        Ok(())
    }

    /// Whatever is out when the connection breaks counts as delivered once more, and the broker
    /// gives up what was delivered too often. What broke the last one is among the prefetch that
    /// was out: until that many have passed nothing else is out beside it.
    const fn prefetch(&self, suspects: usize) -> u16 {
        if suspects > 0 { 1 } else { self.settings.prefetch }
    }

    /// What nothing can be committed of is not taken again: each delivery counts, and the broker
    /// gives up what was delivered too often, though the fault is the database's.
    async fn wait_while_paused(&self) {
        while self.pipeline.health.is_paused() && !self.drain.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn open(&self, prefetch: u16) -> Result<Session, OpenError> {
        let connection = self.connector.connect().await?;
        // A broker that is starting accepts connections before it answers on channels.
        let limit = self.settings.connect_timeout * 2;
        let set_up = async {
            topology::ensure(&connection, &self.settings, &self.events_exchange).await?;
            let channel = connection.create_channel().await?;
            channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            let queue = self.settings.queue.as_str().into();
            let options = BasicConsumeOptions::default();
            let consumer = channel.basic_consume(queue, CONSUMER.into(), options, FieldTable::default()).await?;
            Ok::<_, OpenError>((channel, consumer))
        };
        match tokio::time::timeout(limit, set_up).await {
            Ok(Ok((channel, consumer))) => Ok(Session { connection, channel, consumer }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(OpenError::Timeout(limit)),
        }
    }

    async fn consume(&self, session: Session, suspects: &mut usize) -> End {
        let Session { connection, channel, mut consumer } = session;
        let prefetch = self.prefetch(*suspects);
        // Behind a slow lane the others go on until a quarter of the prefetch is left for them.
        let epoch = Epoch::begin(usize::from(prefetch) / 4 * 3);
        let metrics = Arc::clone(&self.pipeline.metrics);
        let mut acknowledging = tokio::spawn(Arc::clone(&epoch).acknowledge(channel.clone(), metrics));
        info!(queue = %self.settings.queue, prefetch, "taking tasks");
        let end = loop {
            let next = tokio::select! {
                biased;
                () = self.drain.cancelled() => break End::Drained,
                next = consumer.next() => next,
            };
            match next {
                // A full lane empties while draining too, so this is never cut short.
                Some(Ok(delivery)) => {
                    self.take(&epoch, delivery).await;
                    if *suspects > 0 {
                        *suspects -= 1;
                        if *suspects == 0 {
                            break End::Passed;
                        }
                    }
                }
                Some(Err(error)) if matches!(error.kind(), ErrorKind::ParsingError(_)) => {
                    break End::Unreadable(error.to_string());
                }
                Some(Err(error)) => break End::Lost(error.to_string()),
                None => break End::Lost("the broker cancelled the consumer: the queue was deleted or moved".into()),
            }
        };
        if matches!(end, End::Drained | End::Passed) {
            self.finish(&epoch, &channel, &mut acknowledging).await;
        }
        epoch.end();
        acknowledging.abort();
        self.pipeline.metrics.ack_lag.set(0.0);
        let goodbye = connection.close(200, "settled is done".into());
        if tokio::time::timeout(Duration::from_secs(2), goodbye).await.is_err() {
            warn!("the broker did not answer the goodbye");
        }
        end
    }

    /// Puts a delivery into its lane; waits while the lane is full, and so does the broker.
    async fn take(&self, epoch: &Arc<Epoch>, delivery: lapin::message::Delivery) {
        let pipeline = &self.pipeline;
        pipeline.metrics.tasks_received.increment(1);
        let tag = delivery.delivery_tag;
        let message = message::read(delivery, Timestamp::now());
        let delivery = epoch.deliver(tag);
        pipeline.health.progress().entered(1);
        let arrived = pipeline.in_flight.arrive(message.content.as_ref().ok());
        let job = Job { arrival: arrived.arrival, message, taken: Instant::now(), delivery };
        pipeline.lanes.push(arrived.lane, job).await;
    }

    /// No more is taken; what was taken is waited for and acknowledged.
    async fn finish(&self, epoch: &Arc<Epoch>, channel: &Channel, acknowledging: &mut JoinHandle<()>) {
        // Without an answer to the cancel, deliveries may still come: they go back with the close.
        let cancel = channel.basic_cancel(CONSUMER.into(), BasicCancelOptions::default());
        let _ = tokio::time::timeout(Duration::from_secs(1), cancel).await;
        while self.pipeline.in_flight.count() > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // What it has taken out of the window it also sends.
        epoch.end();
        let _ = tokio::time::timeout(Duration::from_secs(1), acknowledging).await;
        if let Err(error) = epoch.acknowledge_rest(channel, &self.pipeline.metrics).await {
            warn!(%error, "the last acknowledgements were not sent: these tasks will come again, and be known");
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("{0}")]
    Connect(#[from] crate::broker::ConnectError),
    #[error("{0}")]
    Topology(#[from] TopologyError),
    #[error("{0}")]
    Broker(#[from] lapin::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}
