//! The names of the contract that the load test meets on the broker, and its connections.

use std::time::Duration;

use anyhow::Result;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a server may take to introduce itself.
const GREETING: Duration = Duration::from_secs(2);

/// Where tasks are published, and where they wait: the daemon's defaults.
pub(crate) const TASKS_EXCHANGE: &str = "payments";
pub(crate) const TASKS_QUEUE: &str = "payments.tasks";
pub(crate) const DEAD_QUEUE: &str = "payments.tasks.dead";
pub(crate) const EVENTS_EXCHANGE: &str = "payments.events";

/// A connection with a name that shows in the broker's own tools.
async fn connect(uri: &str, name: &str) -> Result<Connection> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    Ok(Connection::connect(uri, properties).await?)
}

/// A channel on a connection of its own, which is closed when it is dropped.
pub(crate) async fn channel(uri: &str, name: &str) -> Result<(Connection, Channel)> {
    let connection = connect(uri, name).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

/// How many messages wait in a queue. A message that was delivered and not yet acknowledged does
/// not count.
pub(crate) async fn waiting(channel: &Channel, queue: &str) -> Result<u32> {
    let options = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
    Ok(channel.queue_declare(queue.into(), options, FieldTable::default()).await?.message_count())
}

/// The version of the server, as it introduces itself; `None` if it cannot be had.
///
/// lapin keeps what a server says of itself to itself, so it is asked once more: the first frame
/// that it sends has a table with a string called `version`.
pub(crate) async fn version(uri: &str) -> Option<String> {
    let uri: AMQPUri = uri.parse().ok()?;
    let greeting = async {
        let mut stream = TcpStream::connect((uri.authority.host.as_str(), uri.authority.port)).await.ok()?;
        stream.write_all(b"AMQP\0\0\x09\x01").await.ok()?;
        let mut frame = vec![0; 7];
        stream.read_exact(&mut frame).await.ok()?;
        let length = u32::from_be_bytes(frame[3..7].try_into().ok()?).min(1 << 16);
        frame.resize(length as usize, 0);
        stream.read_exact(&mut frame).await.ok()?;
        Some(frame)
    };
    let frame = timeout(GREETING, greeting).await.ok()??;
    string_in(&frame, "version")
}

/// A string in the bytes of an AMQP table: the length of its name, its name, `S`, its length, itself.
fn string_in(table: &[u8], name: &str) -> Option<String> {
    let key = [&[name.len() as u8], name.as_bytes(), b"S"].concat();
    let at = table.windows(key.len()).position(|bytes| bytes == key)? + key.len();
    let length = u32::from_be_bytes(table.get(at..at + 4)?.try_into().ok()?) as usize;
    String::from_utf8(table.get(at + 4..at + 4 + length)?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_found_in_a_table() {
        let table = b"\x07productS\0\0\0\x08RabbitMQ\x07versionS\0\0\0\x063.10.8\x04restt\x01";
        assert_eq!(string_in(table, "version").as_deref(), Some("3.10.8"));
        assert_eq!(string_in(table, "nothing"), None);
        assert_eq!(string_in(&table[..30], "version"), None);
    }
}
