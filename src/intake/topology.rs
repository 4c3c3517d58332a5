//! The exchanges and queues that the daemon needs. What exists is used as it is; what is
//! missing is declared, or named, as the settings say.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, ErrorKind, ExchangeKind};
use tracing::warn;

use super::BrokerSettings;

/// Why there is nothing to consume from.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// The queue is not there, and the settings say not to declare it.
    #[error("the queue `{0}` does not exist and broker.declare is false: declare it, or set broker.declare = true")]
    Missing(String),
    /// The broker's own.
    #[error("{0}")]
    Broker(#[from] lapin::Error),
}

/// Sees to it that tasks can be consumed; events' exchange included.
///
/// # Errors
///
/// A missing queue that is not to be declared, and the broker's own.
pub(super) async fn ensure(
    connection: &Connection,
    settings: &BrokerSettings,
    events_exchange: &str,
) -> Result<(), TopologyError> {
    let queue = &settings.queue;
    let exists = match passive(&connection.create_channel().await?, queue).await {
        Ok(()) => true,
        Err(error) if is_not_found(&error) => false,
        Err(error) => return Err(error.into()),
    };
    if !settings.declare {
        return if exists { Ok(()) } else { Err(TopologyError::Missing(queue.clone())) };
    }
    let channel = connection.create_channel().await?;
    exchange(&channel, &settings.exchange, ExchangeKind::Topic).await?;
    exchange(&channel, events_exchange, ExchangeKind::Topic).await?;
    exchange(&channel, &settings.dead_letter_exchange, ExchangeKind::Fanout).await?;
    declare(&channel, &settings.dead_letter_queue, quorum()).await?;
    bind(&channel, &settings.dead_letter_queue, &settings.dead_letter_exchange, "").await?;
    match declare(&channel, queue, task_queue_arguments(settings)).await {
        Ok(()) => {}
        // Somebody declared it otherwise. It works; they should know what they go without.
        Err(error) if exists && is_precondition(&error) => {
            warn!(%queue, difference = %error, "the queue exists with other arguments than the daemon's: used as it is");
            let channel = connection.create_channel().await?;
            return Ok(bind(&channel, queue, &settings.exchange, "task.#").await?);
        }
        Err(error) => return Err(error.into()),
    }
    Ok(bind(&channel, queue, &settings.exchange, "task.#").await?)
}

/// Delivery limit and dead-letter exchange are explicit: brokers differ in their defaults, and
/// some drop what nobody takes.
fn task_queue_arguments(settings: &BrokerSettings) -> FieldTable {
    let mut arguments = quorum();
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(settings.delivery_limit.into()));
    let exchange = AMQPValue::LongString(settings.dead_letter_exchange.as_str().into());
    arguments.insert("x-dead-letter-exchange".into(), exchange);
    arguments
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments
}

async fn passive(channel: &Channel, queue: &str) -> lapin::Result<()> {
    let options = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name(queue), options, FieldTable::default()).await.map(drop)
}

async fn declare(channel: &Channel, queue: &str, arguments: FieldTable) -> lapin::Result<()> {
    channel.queue_declare(name(queue), QueueDeclareOptions::durable(), arguments).await.map(drop)
}

async fn exchange(channel: &Channel, exchange: &str, kind: ExchangeKind) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(name(exchange), kind, options, FieldTable::default()).await
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> lapin::Result<()> {
    let options = QueueBindOptions::default();
    channel.queue_bind(name(queue), name(exchange), key.into(), options, FieldTable::default()).await
}

/// The settings admit no longer names.
fn name(text: &str) -> ShortString {
    text.into()
}

fn is_not_found(error: &lapin::Error) -> bool {
    reply_code(error) == Some(404)
}

fn is_precondition(error: &lapin::Error) -> bool {
    reply_code(error) == Some(406)
}

fn reply_code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}
