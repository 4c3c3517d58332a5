//! The names of the contract that the load test meets on the broker, and its connections.

use anyhow::Result;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};

/// Where tasks are published, and where they wait: the daemon's defaults.
pub(crate) const TASKS_EXCHANGE: &str = "payments";
/// Where tasks wait.
pub(crate) const TASKS_QUEUE: &str = "payments.tasks";
/// What the broker gave up on.
pub(crate) const DEAD_QUEUE: &str = "payments.tasks.dead";
/// Where the daemon publishes events.
pub(crate) const EVENTS_EXCHANGE: &str = "payments.events";

/// A connection with a name that shows in the broker's own tools.
pub(crate) async fn connect(uri: &str, name: &str) -> Result<Connection> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    Ok(Connection::connect(uri, properties).await?)
}

/// How many messages wait in a queue. To be asked when nobody consumes: a message that was
/// delivered and not yet acknowledged does not count.
pub(crate) async fn waiting(connection: &Connection, queue: &str) -> Result<u32> {
    let options = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
    let channel = connection.create_channel().await?;
    Ok(channel.queue_declare(queue.into(), options, FieldTable::default()).await?.message_count())
}
