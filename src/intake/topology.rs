//! The exchanges and queues that the daemon needs. What exists is used as it is; what is
//! missing is declared, or named, as the settings say.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, ExchangeKind};

use super::{BrokerSettings, difference};
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
    declare_dead_letter_queue(connection, &settings.dead_letter_queue).await?;
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

/// What is given up by this queue, which has nowhere to pass it on to, is lost: RabbitMQ 4 gives up
/// after 20 deliveries unless it is told otherwise. One of an earlier version has no such limit.
async fn declare_dead_letter_queue(connection: &Connection, queue: &str) -> lapin::Result<()> {
    const NEVER: i64 = 1_000_000_000;
    let mut arguments = quorum();
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(NEVER));
    let channel = connection.create_channel().await?;
    match channel.queue_declare(name(queue), QueueDeclareOptions::durable(), arguments).await {
        Err(error) if reply_code(&error) == Some(406) => declare_queue(connection, queue, quorum()).await,
        declared => declared.map(drop),
    }
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments
}

/// What of the broker's queues and exchanges can lose tasks, as far as it can be known over AMQP:
/// arguments of the task queue, and a dead-letter target that is missing. Nothing is changed.
///
/// # Errors
///
/// The connection's.
pub(super) async fn dangers(connection: &Connection, settings: &BrokerSettings) -> lapin::Result<Vec<String>> {
    let BrokerSettings { queue, dead_letter_exchange, dead_letter_queue, .. } = settings;
    let mut found = Vec::new();
    let lost = "what the broker gives up is lost";
    if !is_there(queue_exists(connection, dead_letter_queue).await)? {
        found.push(format!("the dead-letter queue `{dead_letter_queue}` does not exist: {lost}"));
    }
    if !is_there(exchange_exists(connection, dead_letter_exchange).await)? {
        found.push(format!("the dead-letter exchange `{dead_letter_exchange}` does not exist: {lost}"));
    }
    if is_there(queue_exists(connection, queue).await)? {
        found.extend(differences(connection, settings).await?);
    } else {
        found.push(format!("the task queue `{queue}` does not exist yet"));
    }
    Ok(found)
}

/// The arguments in which the task queue differs, one after the other: the broker names the first
/// one when a queue that exists is declared.
async fn differences(connection: &Connection, settings: &BrokerSettings) -> lapin::Result<Vec<String>> {
    const MOST: usize = 10;
    let (queue, mut arguments, mut found) = (&settings.queue, task_queue_arguments(settings), Vec::new());
    for _ in 0..MOST {
        let channel = connection.create_channel().await?;
        let declared = channel.queue_declare(name(queue), QueueDeclareOptions::durable(), arguments.clone()).await;
        let Err(error) = declared else { return Ok(found) };
        match (reply_code(&error), difference::parse(&error.to_string())) {
            (Some(406), Some(difference)) => {
                found.push(difference.warning(queue, &settings.dead_letter_exchange));
                if !difference.adopt(&mut arguments) {
                    return Ok(found);
                }
            }
            (Some(406), None) => found.push(format!("the queue `{queue}` has other arguments: {error}")),
            (Some(403), _) => found.push(format!("the arguments of `{queue}` can't be checked: {error}")),
            _ => return Err(error),
        }
        if found.last().is_some_and(|last| last.ends_with(&error.to_string())) {
            return Ok(found);
        }
    }
    Ok(found)
}

/// `false` is a 404; whoever may not look takes it to be there.
fn is_there(exists: lapin::Result<()>) -> lapin::Result<bool> {
    match exists {
        Err(error) if reply_code(&error) == Some(404) => Ok(false),
        Err(error) if reply_code(&error) != Some(403) => Err(error),
        _ => Ok(true),
    }
}

async fn queue_exists(connection: &Connection, queue: &str) -> lapin::Result<()> {
    passive(&connection.create_channel().await?, queue).await
}

async fn exchange_exists(connection: &Connection, exchange: &str) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(name(exchange), ExchangeKind::Fanout, options, FieldTable::default()).await
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
