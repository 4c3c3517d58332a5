//! The exchanges and queues that the daemon needs. What exists is used as it is; what is
//! missing is declared, or named, as the settings say.

use lapin::options::{QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, ExchangeKind};

use super::BrokerSettings;
use crate::broker::{declare_exchange, reply_code, use_as_it_is};

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
pub async fn ensure(
    connection: &Connection,
    settings: &BrokerSettings,
    events_exchange: &str,
) -> Result<(), TopologyError> {
    let queue = &settings.queue;
    if !settings.declare {
        return match passive(&connection.create_channel().await?, queue).await {
            Err(error) if reply_code(&error) == Some(404) => Err(TopologyError::Missing(queue.clone())),
            exists => Ok(exists?),
        };
    }
    declare_exchange(connection, &settings.exchange, ExchangeKind::Topic).await?;
    declare_exchange(connection, events_exchange, ExchangeKind::Topic).await?;
    declare_exchange(connection, &settings.dead_letter_exchange, ExchangeKind::Fanout).await?;
    declare_queue(connection, &settings.dead_letter_queue, quorum()).await?;
    declare_queue(connection, queue, task_queue_arguments(settings)).await?;
    let channel = connection.create_channel().await?;
    // A fanout takes any key; an exchange that was declared as a topic needs this one.
    bind(&channel, &settings.dead_letter_queue, &settings.dead_letter_exchange, "#").await?;
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

/// On a channel of its own: the broker closes it if the arguments differ.
async fn declare_queue(connection: &Connection, queue: &str, arguments: FieldTable) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    let declared = channel.queue_declare(name(queue), QueueDeclareOptions::durable(), arguments).await;
    use_as_it_is("queue", queue, declared.map(drop))
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> lapin::Result<()> {
    let options = QueueBindOptions::default();
    channel.queue_bind(name(queue), name(exchange), key.into(), options, FieldTable::default()).await
}

/// The settings admit no longer names.
fn name(text: &str) -> ShortString {
    text.into()
}
