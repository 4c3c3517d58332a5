//! The exchanges and queues that the daemon uses: declares those that are missing, and finds what can lose tasks.
//!
//! An exchange or queue that exists is used as it is, whatever its arguments.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, ExchangeKind};
use settled_pipeline::precondition::{Precondition, Verdict, sentences};
use tracing::warn;

use crate::connection::{reply_code, use_as_it_is};
use crate::difference::{self, Difference};
use crate::outlet::Outlet;
use crate::preconditions;
use crate::settings::BrokerSettings;

/// Why the task queue cannot be consumed from.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// The queue does not exist, and `broker.declare` is false.
    #[error("the queue `{0}` does not exist and broker.declare is false: declare it, or set broker.declare = true")]
    Missing(String),
    /// The user lacks permissions without which no task can be taken.
    #[error("RabbitMQ refuses what the daemon needs: {0}")]
    Forbidden(String),
    /// The broker refused a request, or the connection was lost.
    #[error("{0}")]
    Broker(#[from] lapin::Error),
}

impl TopologyError {
    /// Sorts the error of a consumer of the task queue.
    pub(super) fn of_consume(error: lapin::Error, settings: &BrokerSettings, outlet: &Outlet) -> Self {
        match reply_code(&error) {
            Some(403) => {
                let remedy = preconditions::permissions(settings, outlet);
                let found = Precondition::failed(format!("consume {}", settings.queue), error.to_string(), remedy);
                Self::Forbidden(sentences([&found]))
            }
            _ => Self::Broker(error),
        }
    }
}

/// Declares the exchanges, queues and bindings of `settings`, and the exchange of `outlet`. If `broker.declare` is
/// false, only checks that the task queue exists.
///
/// # Errors
///
/// When the task queue does not exist and must not be declared, the user lacks a permission, or the broker refuses a
/// request. A permission without which payments are processed nevertheless is a warning in the log.
pub async fn ensure(connection: &Connection, settings: &BrokerSettings, outlet: &Outlet) -> Result<(), TopologyError> {
    let unmet = match preconditions::fulfil(connection, settings, outlet).await {
        Err(error) if reply_code(&error) == Some(404) && !settings.declare => {
            return Err(TopologyError::Missing(settings.queue.clone()));
        }
        fulfilled => fulfilled?,
    };
    let (failed, impaired): (Vec<_>, Vec<_>) = unmet.into_iter().partition(|found| found.verdict == Verdict::Failed);
    if !impaired.is_empty() {
        warn!("RabbitMQ: payments are processed, but not all that belongs to them: {}", sentences(&impaired));
    }
    if failed.is_empty() { Ok(()) } else { Err(TopologyError::Forbidden(sentences(&failed))) }
}

/// States delivery limit and dead-letter exchange: by default, broker versions differ in the limit, and drop the
/// messages that reach it.
pub(super) fn task_queue_arguments(settings: &BrokerSettings) -> FieldTable {
    let mut arguments = quorum();
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(settings.delivery_limit.into()));
    let exchange = AMQPValue::LongString(settings.dead_letter_exchange.as_str().into());
    arguments.insert("x-dead-letter-exchange".into(), exchange);
    arguments
}

/// Declares the dead-letter queue with a delivery limit that is never reached. It has no dead-letter exchange itself,
/// so it would lose the messages that RabbitMQ 4 gives up after 20 deliveries by default. A queue that an earlier
/// version of the daemon declared has no such argument.
pub(super) async fn declare_dead_letter_queue(connection: &Connection, queue: &str) -> lapin::Result<()> {
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

/// Returns what can lose tasks, as far as AMQP tells it: differing arguments of the task queue, and a missing
/// dead-letter exchange or queue. Changes nothing.
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
        let say = |difference: &Difference| difference.warning(queue, dead_letter_exchange);
        found.extend(differences(connection, queue, task_queue_arguments(settings), say).await?);
    }
    Ok(found)
}

/// Returns a sentence for each argument in which a queue or stream, which exists, differs from these. The broker names
/// only the first of them, so it is declared again with that one adopted, until they agree.
pub(super) async fn differences(
    connection: &Connection,
    queue: &str,
    mut arguments: FieldTable,
    say: impl Fn(&Difference) -> String,
) -> lapin::Result<Vec<String>> {
    const MOST: usize = 10;
    let mut found = Vec::new();
    for _ in 0..MOST {
        let channel = connection.create_channel().await?;
        let declared = channel.queue_declare(name(queue), QueueDeclareOptions::durable(), arguments.clone()).await;
        let Err(error) = declared else { break };
        match (reply_code(&error), difference::parse(&error.to_string())) {
            (Some(406), Some(difference)) => {
                difference.adopt(&mut arguments);
                found.push(say(&difference));
            }
            (Some(403 | 406), _) => {
                found.push(format!("the arguments of `{queue}` can't be compared: {error}"));
                break;
            }
            _ => return Err(error),
        }
    }
    Ok(found)
}

/// Returns false for a 404. A user who may not look (403) cannot know, and is told that it exists.
pub(super) fn is_there<T>(exists: lapin::Result<T>) -> lapin::Result<bool> {
    match exists {
        Err(error) if reply_code(&error) == Some(404) => Ok(false),
        Err(error) if reply_code(&error) != Some(403) => Err(error),
        _ => Ok(true),
    }
}

pub(super) async fn queue_exists(connection: &Connection, queue: &str) -> lapin::Result<u32> {
    message_count(&connection.create_channel().await?, queue).await
}

/// Looks for an exchange, on a channel of its own: the broker closes it if there is none.
///
/// # Errors
///
/// 404 if there is no such exchange, 403 if the user may not look.
pub(super) async fn exchange_exists(connection: &Connection, exchange: &str) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(name(exchange), ExchangeKind::Fanout, options, FieldTable::default()).await
}

/// Returns how many messages are ready in a queue.
///
/// # Errors
///
/// 404 if there is no such queue, 403 if the user may not look; the broker closes the channel then.
pub(super) async fn message_count(channel: &Channel, queue: &str) -> lapin::Result<u32> {
    let options = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
    Ok(channel.queue_declare(name(queue), options, FieldTable::default()).await?.message_count())
}

/// Declares a queue on a channel of its own: the broker closes it if the arguments differ.
pub(super) async fn declare_queue(connection: &Connection, queue: &str, arguments: FieldTable) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    let declared = channel.queue_declare(name(queue), QueueDeclareOptions::durable(), arguments).await;
    use_as_it_is("queue", queue, declared.map(drop))
}

/// Binds a queue, on a channel of its own: the broker closes it if the user may not.
pub(super) async fn bind(connection: &Connection, queue: &str, exchange: &str, key: &str) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    let options = QueueBindOptions::default();
    channel.queue_bind(name(queue), name(exchange), key.into(), options, FieldTable::default()).await
}

/// Converts a name of the settings, which they limit to AMQP's 255 bytes.
pub(super) fn name(text: &str) -> ShortString {
    text.into()
}
