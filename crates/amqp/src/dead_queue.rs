//! Consumes the broker's dead-letter queue, a few messages at a time, on a connection of its own.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::poll_immediate;
use jiff::Timestamp;
use lapin::message::Delivery;
use lapin::options::BasicAckOptions;
use lapin::{Channel, Connection, Consumer};
use settled_core::contract::Message;
use settled_pipeline::budget::{Budget, Held};
use settled_pipeline::intake::{DeadLetterSession, DeadLetterSource, DeadQueueError};
use settled_pipeline::settings::Live;
use settled_pipeline::store::Proof;
use tracing::warn;

use crate::connection::{self, Connector, reply_code, within};
use crate::consumer::{consume, with_note};
use crate::inbound::{InboxReader, Note};
use crate::settings::BrokerSettings;
use crate::{message, topology};

/// Messages that may be unacknowledged. They bound the memory: the byte budget of these connections has no limit, so
/// that the broker's replies never wait behind a delivery.
const PREFETCH: u16 = 4;

/// How long `close-ok` is waited for.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Opens sessions on the dead-letter queue.
#[derive(Debug)]
pub struct DeadQueue {
    connector: Connector,
    budget: Arc<Budget>,
}

/// A connection to the dead-letter queue, which consumes it or measures its length only.
pub struct DeadSession {
    connection: Connection,
    channel: Channel,
    inbox: InboxReader,
    /// `None` if `broker.take_dead_letters` is false.
    consumer: Option<Consumer>,
    queue: String,
    /// The task queue, which is measured on this connection, too.
    tasks: String,
    limit: Duration,
}

/// The tag of a delivery that is not acknowledged yet, and the memory that it takes until then.
#[derive(Debug)]
pub struct Tag(u64, #[expect(dead_code, reason = "gives its bytes back when it is dropped")] Held);

impl DeadQueue {
    /// Creates a source for `broker.dead_letter_queue`.
    pub fn new(settings: impl Into<Live<BrokerSettings>>) -> Self {
        Self { connector: Connector::new(settings, "settled dead letters"), budget: Arc::new(Budget::new(usize::MAX)) }
    }

    async fn consume(&self, connection: Connection, inbox: InboxReader) -> Result<(DeadSession, u32), DeadQueueError> {
        let BrokerSettings { dead_letter_exchange: exchange, dead_letter_queue: queue, .. } = &*self.connector.settings;
        if let Err(error) = topology::exchange_exists(&connection, exchange).await {
            // A policy may name another exchange for the queue.
            let error = missing("exchange", exchange, error);
            warn!(%error, "what the broker gives up may be lost");
        }
        let channel = connection.create_channel().await.map_err(lost)?;
        let of_queue = |error| missing("queue", queue, error);
        let depth = topology::message_count(&channel, queue).await.map_err(of_queue)?;
        let consumer = match self.connector.settings.take_dead_letters {
            true => Some(consume(&channel, queue, PREFETCH).await.map_err(of_queue)?),
            false => None,
        };
        let (queue, limit) = (queue.clone(), self.connector.settings.connect_timeout * 2);
        let tasks = self.connector.settings.queue.clone();
        Ok((DeadSession { connection, channel, inbox, consumer, queue, tasks, limit }, depth))
    }
}

impl DeadLetterSource for DeadQueue {
    type Session = DeadSession;

    fn name(&self) -> &str {
        &self.connector.settings.dead_letter_queue
    }

    async fn open(&self) -> Result<(DeadSession, u32), DeadQueueError> {
        let (connection, inbox) = self.connector.connect_to_consume(&self.budget).await.map_err(lost)?;
        within(self.connector.settings.connect_timeout * 2, self.consume(connection, inbox)).await.map_err(lost)?
    }
}

impl DeadLetterSession for DeadSession {
    type Tag = Tag;

    async fn next(&mut self) -> Result<(Tag, Message), DeadQueueError> {
        let Some(consumer) = &mut self.consumer else { return std::future::pending().await };
        read(&self.inbox, consumer.next().await)
    }

    async fn next_waiting(&mut self) -> Option<Result<(Tag, Message), DeadQueueError>> {
        let next = poll_immediate(self.consumer.as_mut()?.next()).await?;
        Some(read(&self.inbox, next))
    }

    async fn acknowledge(&self, tags: Vec<Tag>, _: &Proof) -> Result<(), DeadQueueError> {
        for Tag(tag, _) in tags {
            self.channel.basic_ack(tag, BasicAckOptions::default()).await.map_err(lost)?;
        }
        Ok(())
    }

    async fn depth(&self) -> Result<u32, DeadQueueError> {
        within(self.limit, topology::message_count(&self.channel, &self.queue)).await.map_err(lost)?.map_err(lost)
    }

    async fn tasks(&self) -> Result<u32, DeadQueueError> {
        within(self.limit, topology::message_count(&self.channel, &self.tasks)).await.map_err(lost)?.map_err(lost)
    }

    async fn close(self) {
        connection::close(&self.connection, CLOSE_LIMIT).await;
    }
}

fn read(inbox: &InboxReader, next: Option<lapin::Result<Delivery>>) -> Result<(Tag, Message), DeadQueueError> {
    let (delivery, Note { held, findings, .. }) = with_note(inbox, next).map_err(lost)?;
    let tag = Tag(delivery.delivery_tag, held);
    Ok((tag, message::read_given_up(findings.as_deref(), delivery, Timestamp::now())))
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn lost(error: impl ToString) -> DeadQueueError {
    DeadQueueError::Lost(error.to_string())
}

fn missing(what: &str, name: &str, error: lapin::Error) -> DeadQueueError {
    match reply_code(&error) {
        Some(404) => DeadQueueError::NotThere(format!("the dead-letter {what} `{name}` does not exist")),
        Some(403) => DeadQueueError::NotThere(format!("the dead-letter {what} `{name}`: {error}")),
        _ => lost(error),
    }
}
