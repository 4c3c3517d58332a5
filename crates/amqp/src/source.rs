//! Consumes the task queue: RabbitMQ's side of [`settled_pipeline::intake::Source`].

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use lapin::options::{BasicAckOptions, BasicCancelOptions};
use lapin::{Channel, Connection, Consumer};
use settled_pipeline::budget::Budget;
use settled_pipeline::intake::{Ack, Acks, Next, OpenError, Session, SessionError, Source};
use settled_pipeline::settings::Live;
use tracing::warn;

use crate::connection::{self, Connector, within};
use crate::consumer::{CONSUMER_TAG, consume, with_note};
use crate::inbound::{InboxReader, Note};
use crate::message;
use crate::outlet::Outlet;
use crate::settings::BrokerSettings;
use crate::topology::{self, TopologyError};

/// How long `cancel-ok` is waited for. A quorum queue sends it once it has written what came before.
const CANCEL_LIMIT: Duration = Duration::from_secs(2);

/// How often it is checked whether the budget has room for a new connection.
const ROOM_CHECK: Duration = Duration::from_millis(20);

/// How long `close-ok` is waited for, of a broker that has answered before.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Opens sessions on the task queue, on the nodes of the settings in turn.
#[derive(Debug)]
pub struct RabbitSource {
    connector: Connector,
    outlet: Outlet,
    budget: Arc<Budget>,
}

/// A consumer of the task queue.
#[derive(Debug)]
pub struct RabbitSession {
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
    inbox: InboxReader,
    close_limit: Duration,
}

impl RabbitSource {
    /// Consumes from the queue of `settings`. If they say so, each session declares what is missing, including
    /// the exchange of `outlet`.
    pub fn new(settings: impl Into<Live<BrokerSettings>>, outlet: Outlet) -> Self {
        let connector = Connector::new(settings, "settled intake");
        let budget = Arc::new(Budget::new(connector.settings.prefetch_bytes));
        Self { connector, outlet, budget }
    }

    /// Returns the memory budget that deliveries of all sessions share until they are settled.
    pub fn budget(&self) -> Arc<Budget> {
        Arc::clone(&self.budget)
    }

    async fn consume(&self, connection: &Connection, prefetch: u16) -> Result<(Channel, Consumer), TopologyError> {
        topology::ensure(connection, &self.connector.settings, &self.outlet).await?;
        let channel = connection.create_channel().await?;
        let settings = &self.connector.settings;
        let consumer = consume(&channel, &settings.queue, prefetch).await;
        let consumer = consumer.map_err(|error| TopologyError::of_consume(error, settings, &self.outlet))?;
        Ok((channel, consumer))
    }
}

impl Source for RabbitSource {
    type Session = RabbitSession;

    async fn open(&self, prefetch: u16) -> Result<RabbitSession, OpenError> {
        // RabbitMQ closes a connection that has not been read from for 30 seconds, which counts as a delivery of each
        // unacknowledged message. So connect only once there is room to read.
        while !self.budget.has_room() {
            tokio::time::sleep(ROOM_CHECK).await;
        }
        let connected = self.connector.connect_to_consume(&self.budget).await;
        let (connection, inbox) = connected.map_err(|error| match error.is_refused() {
            true => OpenError::Refused(error.to_string()),
            false => OpenError::Unavailable(error.to_string()),
        })?;
        // A broker that is starting accepts connections before it answers on channels.
        let limit = self.connector.settings.connect_timeout * 2;
        let error = match within(limit, self.consume(&connection, prefetch)).await {
            Ok(Ok((channel, consumer))) => {
                return Ok(RabbitSession { connection, channel, consumer, inbox, close_limit: CLOSE_LIMIT });
            }
            Ok(Err(error @ TopologyError::Missing(_))) => OpenError::NoQueue(error.to_string()),
            Ok(Err(error @ TopologyError::Forbidden(_))) => OpenError::Forbidden(error.to_string()),
            Ok(Err(error)) => OpenError::Unavailable(error.to_string()),
            Err(reason) => OpenError::Unavailable(reason),
        };
        drop(inbox);
        // A slow broker may have registered the consumer by now. Beside the next session's, it would get a share of the
        // tasks, and they would lose their order.
        close(&connection, CLOSE_LIMIT).await;
        Err(error)
    }
}

impl Session for RabbitSession {
    type Acks = ChannelAcks;

    fn acks(&self) -> ChannelAcks {
        ChannelAcks(self.channel.clone())
    }

    async fn next(&mut self) -> Next {
        match with_note(&self.inbox, self.consumer.next().await) {
            Ok((delivery, Note { mut held, findings, .. })) => {
                let tag = delivery.delivery_tag;
                let message = message::read_with(findings.as_deref(), delivery, Timestamp::now());
                held.shrink_to(message.footprint());
                Next::Delivery(tag, message, held)
            }
            Err(reason) => Next::Lost(reason),
        }
    }

    async fn cancel(&mut self) {
        // Without `cancel-ok` deliveries may still come. They go back to the queue when the connection is closed.
        self.inbox.close();
        let cancel = self.channel.basic_cancel(CONSUMER_TAG.into(), BasicCancelOptions::default());
        if within(CANCEL_LIMIT, cancel).await.is_err() {
            warn!(
                "the broker did not answer the cancel: what is acknowledged from here on may come again, and be known"
            );
            self.close_limit = CLOSE_LIMIT / 2;
        }
    }

    async fn close(self) {
        self.inbox.close();
        close(&self.connection, self.close_limit).await;
    }
}

async fn close(connection: &Connection, limit: Duration) {
    if !connection::close(connection, limit).await {
        warn!("the broker did not answer the goodbye");
    }
}

/// Acknowledges on the channel that the deliveries came on.
#[derive(Clone, Debug)]
pub struct ChannelAcks(Channel);

impl Acks for ChannelAcks {
    async fn send(&self, ack: Ack) -> Result<(), SessionError> {
        let (tag, multiple) = match ack {
            Ack::Multiple(tag) => (tag, true),
            Ack::Single(tag) => (tag, false),
        };
        self.0.basic_ack(tag, BasicAckOptions { multiple }).await.map_err(|error| SessionError(error.to_string()))
    }
}
