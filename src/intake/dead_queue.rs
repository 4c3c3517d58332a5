//! The broker's dead-letter queue: a consumer of a few messages at a time, on a connection of its own.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::poll_immediate;
use jiff::Timestamp;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer, ExchangeKind};

use tracing::warn;

use super::{BrokerSettings, message};
use crate::broker::inbound::{Budget, Held, Note, Reader};
use crate::broker::{Connector, reply_code};
use crate::contract::Message;
use crate::store::Proof;

/// Messages that are out at a time. They are what bounds the memory: the filter lets all of them pass, so that
/// no answer waits behind one.
const PREFETCH: u16 = 4;

/// How long the answer to a goodbye is waited for.
const GOODBYE: Duration = Duration::from_secs(1);

/// Why nothing can be taken from the queue.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeadQueueError {
    /// There is no such queue or exchange, or the user may not use it. Nobody's payment waits for it.
    #[error("{0}")]
    NotThere(String),
    /// The connection, or the broker.
    #[error("{0}")]
    Lost(String),
}

/// The way to it.
#[derive(Debug)]
pub struct DeadQueue {
    connector: Connector,
    settings: BrokerSettings,
    budget: Arc<Budget>,
}

/// A consumer of it.
pub(super) struct DeadSession {
    connection: Connection,
    channel: Channel,
    inbox: Reader,
    /// None where somebody else deals with the messages.
    consumer: Option<Consumer>,
    queue: String,
    limit: Duration,
}

/// A delivery that is to be acknowledged, and the memory that it takes until then.
#[derive(Debug)]
pub(super) struct Tag(u64, #[expect(dead_code, reason = "gives its bytes back when it is dropped")] Held);

impl DeadQueue {
    /// The dead-letter queue of `settings`.
    pub fn new(settings: BrokerSettings) -> Self {
        let connector = Connector::new(settings.clone(), "settled dead letters");
        Self { connector, settings, budget: Arc::new(Budget::new(usize::MAX)) }
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.settings.dead_letter_queue
    }

    /// Connects, and begins to consume. Returns also how many messages wait.
    pub(super) async fn open(&self) -> Result<(DeadSession, u32), DeadQueueError> {
        let lost = |reason: String| DeadQueueError::Lost(reason);
        let connected = self.connector.connect_to_consume(&self.budget).await;
        let (connection, inbox) = connected.map_err(|error| lost(error.to_string()))?;
        let limit = self.settings.connect_timeout * 2;
        match tokio::time::timeout(limit, self.consume(connection, inbox)).await {
            Ok(opened) => opened,
            Err(_) => Err(lost(format!("no answer within {limit:?}"))),
        }
    }

    async fn consume(&self, connection: Connection, inbox: Reader) -> Result<(DeadSession, u32), DeadQueueError> {
        let queue = self.settings.dead_letter_queue.clone();
        if let Err(error) = self.look_for_exchange(&connection).await {
            // The queue may be behind another exchange, which a policy names.
            warn!(%error, "what the broker gives up may be lost");
        }
        let channel = connection.create_channel().await.map_err(lost)?;
        let depth = depth(&channel, &queue).await.map_err(|error| missing("queue", &queue, error))?;
        let mut consumer = None;
        if self.settings.take_dead_letters {
            channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.map_err(lost)?;
            let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
            let consuming = channel.basic_consume(queue.as_str().into(), "settled".into(), options, none).await;
            consumer = Some(consuming.map_err(|error| missing("queue", &queue, error))?);
        }
        let limit = self.settings.connect_timeout * 2;
        Ok((DeadSession { connection, channel, inbox, consumer, queue, limit }, depth))
    }

    async fn look_for_exchange(&self, connection: &Connection) -> Result<(), DeadQueueError> {
        let exchange = &self.settings.dead_letter_exchange;
        let channel = connection.create_channel().await.map_err(lost)?;
        let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let name = exchange.as_str().into();
        let declared = channel.exchange_declare(name, ExchangeKind::Fanout, passive, FieldTable::default()).await;
        declared.map_err(|error| missing("exchange", exchange, error))
    }
}

impl DeadSession {
    /// The next message. From this call on, not from the first poll.
    pub(super) async fn next(&mut self) -> Result<(Tag, Message), DeadQueueError> {
        let Some(consumer) = &mut self.consumer else { return std::future::pending().await };
        read(&self.inbox, consumer.next().await)
    }

    /// The next message, if it is there already.
    pub(super) async fn next_waiting(&mut self) -> Option<Result<(Tag, Message), DeadQueueError>> {
        let next = poll_immediate(self.consumer.as_mut()?.next()).await?;
        Some(read(&self.inbox, next))
    }

    /// Acknowledges messages whose dead letters are committed.
    pub(super) async fn acknowledge(&self, tags: Vec<Tag>, _: &Proof) -> Result<(), DeadQueueError> {
        for Tag(tag, _) in tags {
            self.channel.basic_ack(tag, BasicAckOptions::default()).await.map_err(lost)?;
        }
        Ok(())
    }

    /// How many messages wait in the queue; those that are out are not counted.
    pub(super) async fn depth(&self) -> Result<u32, DeadQueueError> {
        match tokio::time::timeout(self.limit, depth(&self.channel, &self.queue)).await {
            Ok(depth) => depth.map_err(lost),
            Err(_) => Err(DeadQueueError::Lost(format!("no answer within {:?}", self.limit))),
        }
    }

    /// Says goodbye. What is out goes back.
    pub(super) async fn close(self) {
        let goodbye = self.connection.close(200, "settled is done".into());
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }
}

fn read(
    inbox: &Reader,
    next: Option<lapin::Result<lapin::message::Delivery>>,
) -> Result<(Tag, Message), DeadQueueError> {
    match next {
        Some(Ok(delivery)) => {
            let tag = delivery.delivery_tag;
            let Note { held, findings, .. } = inbox.take(tag);
            Ok((Tag(tag, held), message::read_given_up(findings.as_deref(), delivery, Timestamp::now())))
        }
        Some(Err(error)) => Err(lost(error)),
        None => Err(DeadQueueError::Lost("the broker cancelled the consumer: the queue was deleted or moved".into())),
    }
}

async fn depth(channel: &Channel, queue: &str) -> lapin::Result<u32> {
    let options = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
    Ok(channel.queue_declare(queue.into(), options, FieldTable::default()).await?.message_count())
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn lost(error: lapin::Error) -> DeadQueueError {
    DeadQueueError::Lost(error.to_string())
}

fn missing(what: &str, name: &str, error: lapin::Error) -> DeadQueueError {
    match reply_code(&error) {
        Some(404) => DeadQueueError::NotThere(format!("the dead-letter {what} `{name}` does not exist")),
        Some(403) => DeadQueueError::NotThere(format!("the dead-letter {what} `{name}`: {error}")),
        _ => lost(error),
    }
}
