//! Sessions on RabbitMQ.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer};
use tracing::warn;

use super::ack_window::Ack;
use super::session::{Acks, Next, OpenError, Session, SessionError, Source};
use super::topology::{self, TopologyError};
use super::{BrokerSettings, message};
use crate::broker::Connector;
use crate::broker::inbound::{Budget, Note, Reader};

/// The consumer's tag, as operators see it.
const CONSUMER: &str = "settled";

/// How long the answer to a cancel is waited for: a quorum queue gives it when it has written what
/// came before.
const CANCEL: Duration = Duration::from_secs(2);

/// How often it is looked whether there is memory for deliveries.
const ROOM: Duration = Duration::from_millis(20);

/// How long the answer to a goodbye is waited for, of a broker that has answered before.
const GOODBYE: Duration = Duration::from_secs(2);

/// Opens sessions on the brokers of the settings in turn.
#[derive(Debug)]
pub struct RabbitSource {
    connector: Connector,
    settings: BrokerSettings,
    events_exchange: String,
    budget: Arc<Budget>,
}

/// A consumer of the task queue.
#[derive(Debug)]
pub struct RabbitSession {
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
    inbox: Reader,
    /// How long the answer to the goodbye is waited for.
    goodbye: Duration,
}

impl RabbitSource {
    /// Consumes from the queue of `settings`; declares what is missing, the exchange for events
    /// included, if they say so.
    pub fn new(settings: BrokerSettings, events_exchange: &str) -> Self {
        let connector = Connector::new(settings.clone(), "settled intake");
        let budget = Arc::new(Budget::new(settings.prefetch_bytes));
        Self { connector, settings, events_exchange: events_exchange.to_owned(), budget }
    }

    /// The memory that deliveries take until they are settled.
    pub fn budget(&self) -> Arc<Budget> {
        Arc::clone(&self.budget)
    }

    async fn consume(&self, connection: &Connection, prefetch: u16) -> Result<(Channel, Consumer), TopologyError> {
        topology::ensure(connection, &self.settings, &self.events_exchange).await?;
        let channel = connection.create_channel().await?;
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let queue = self.settings.queue.as_str().into();
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(queue, CONSUMER.into(), options, FieldTable::default()).await?;
        Ok((channel, consumer))
    }
}

impl Source for RabbitSource {
    type Session = RabbitSession;

    async fn open(&self, prefetch: u16) -> Result<RabbitSession, OpenError> {
        let unavailable = |error: &dyn std::error::Error| OpenError::Unavailable(error.to_string());
        // RabbitMQ gives a connection up from which nothing is read for 30 seconds. Each one counts as a delivery of all
        // that is out: the next begins when there is room for it.
        while !self.budget.has_room() {
            tokio::time::sleep(ROOM).await;
        }
        let connected = self.connector.connect_to_consume(&self.budget).await;
        let (connection, inbox) = connected.map_err(|error| unavailable(&error))?;
        // A broker that is starting accepts connections before it answers on channels.
        let limit = self.settings.connect_timeout * 2;
        let error = match tokio::time::timeout(limit, self.consume(&connection, prefetch)).await {
            Ok(Ok((channel, consumer))) => {
                return Ok(RabbitSession { connection, channel, consumer, inbox, goodbye: GOODBYE });
            }
            Ok(Err(error @ TopologyError::Missing(_))) => OpenError::NoQueue(error.to_string()),
            Ok(Err(error)) => unavailable(&error),
            Err(_) => OpenError::Unavailable(format!("no answer within {limit:?}")),
        };
        drop(inbox);
        // A slow broker may have a consumer of it by now: beside the next one, tasks would be dealt
        // out to both, and lose their order.
        goodbye(&connection, GOODBYE).await;
        Err(error)
    }
}

impl Session for RabbitSession {
    type Acks = Channel;

    fn acks(&self) -> Channel {
        self.channel.clone()
    }

    async fn next(&mut self) -> Next {
        match self.consumer.next().await {
            Some(Ok(delivery)) => {
                let tag = delivery.delivery_tag;
                let Note { mut held, findings, .. } = self.inbox.take(tag);
                let message = message::read_with(findings.as_deref(), delivery, Timestamp::now());
                held.shrink_to(message.footprint());
                Next::Delivery(tag, message, held)
            }
            Some(Err(error)) => Next::Lost(error.to_string()),
            None => Next::Lost("the broker cancelled the consumer: the queue was deleted or moved".into()),
        }
    }

    async fn cancel(&mut self) {
        // Without an answer to the cancel, deliveries may still come: they go back with the close.
        self.inbox.close();
        let cancel = self.channel.basic_cancel(CONSUMER.into(), BasicCancelOptions::default());
        if tokio::time::timeout(CANCEL, cancel).await.is_err() {
            warn!(
                "the broker did not answer the cancel: what is acknowledged from here on may come again, and be known"
            );
            self.goodbye = GOODBYE / 2;
        }
    }

    async fn close(self) {
        self.inbox.close();
        goodbye(&self.connection, self.goodbye).await;
    }
}

async fn goodbye(connection: &Connection, limit: Duration) {
    let goodbye = connection.close(200, "settled is done".into());
    if tokio::time::timeout(limit, goodbye).await.is_err() {
        warn!("the broker did not answer the goodbye");
    }
}

impl Acks for Channel {
    async fn send(&self, ack: Ack) -> Result<(), SessionError> {
        let (tag, multiple) = match ack {
            Ack::Multiple(tag) => (tag, true),
            Ack::Single(tag) => (tag, false),
        };
        self.basic_ack(tag, BasicAckOptions { multiple }).await.map_err(|error| SessionError(error.to_string()))
    }
}
