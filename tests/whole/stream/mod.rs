//! The client for RabbitMQ's stream protocol, against a real RabbitMQ: what it appends is read by a consumer of AMQP
//! 0-9-1, as anybody would.

mod appending;
mod checks;
mod faults;
mod lines;
mod partitions;
mod refusals;
mod settings;
mod told;

use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection};
use settled_amqp::{BrokerSettings, StreamLog, StreamSession, StreamSettings};
use settled_pipeline::outbox::{
    Encoding, EventFormat, EventLog, HeaderPrefix, LogSession, Publication, SessionLost, publications,
};
use settled_testkit::harness::{SOON, World, amqp};
use tokio::time::timeout;

/// Whose publishing ids are counted.
const NAME: &str = "settled";

const SINGLE: Encoding = Encoding {
    format: EventFormat::Single,
    header_prefix: HeaderPrefix::Colon,
    batch_events: 500,
    batch_bytes: 1 << 20,
};

/// A broker whose only node is the one of this URI.
fn broker(uri: &str) -> BrokerSettings {
    BrokerSettings { uris: vec![uri.parse().expect("a URI")], ..BrokerSettings::default() }
}

fn settings(world: &World) -> StreamSettings {
    StreamSettings { name: world.stream.clone(), port: world.stream_port, ..StreamSettings::default() }
}

fn log(world: &World) -> StreamLog {
    StreamLog::new(broker(&world.amqp_uri), &settings(world))
}

async fn session(world: &World) -> StreamSession {
    log(world).open(NAME).await.expect("a session")
}

/// Returns outbox lines of events with these numbers, whose data is `length` bytes longer than it has to be.
fn lines(numbers: impl IntoIterator<Item = u64>, length: usize) -> String {
    let padding = "x".repeat(length);
    let line = |n: u64| {
        format!(
            r#"{{"specversion":"1.0","id":"task-{n}/1","source":"settled","type":"payment.settled","subject":"task-{n}","time":"2026-11-30T12:00:00Z","datacontenttype":"application/json","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","tracestate":"a=b","data":{{"n":{n},"padding":"{padding}"}}}}"#
        ) + "\n"
    };
    numbers.into_iter().map(line).collect()
}

fn events(lines: &str) -> Vec<Publication<'_>> {
    publications(1, lines.as_bytes(), SINGLE).expect("events")
}

/// Waits until as many ids are confirmed, and returns them in order.
async fn confirms(session: &mut StreamSession, count: usize) -> Result<Vec<u64>, SessionLost> {
    let mut ids = Vec::new();
    let confirmed = async {
        while ids.len() < count {
            session.confirmed(&mut ids).await?;
        }
        Ok(())
    };
    timeout(SOON, confirmed).await.expect("they are confirmed, or the session is lost")?;
    ids.sort_unstable();
    Ok(ids)
}

/// Waits until the session is lost. Returns the reason.
async fn lost(session: &mut StreamSession) -> String {
    let lost = async {
        loop {
            if let Err(SessionLost(reason)) = session.confirmed(&mut Vec::new()).await {
                return reason;
            }
        }
    };
    timeout(SOON * 2, lost).await.expect("the session is lost")
}

/// Appends events with these numbers as their publishing ids, and waits for the confirms.
async fn append(session: &mut StreamSession, numbers: std::ops::RangeInclusive<u64>) {
    let lines = lines(numbers.clone(), 10);
    let left_out = session.append(*numbers.start(), &events(&lines)).await.expect("appended");
    assert_eq!(left_out, [0; 0]);
    let ids: Vec<u64> = numbers.collect();
    assert_eq!(confirms(session, ids.len()).await.expect("confirmed"), ids);
}

/// A message of the stream, as a consumer of AMQP 0-9-1 gets it.
struct Read {
    properties: BasicProperties,
    body: Vec<u8>,
}

impl Read {
    /// The number of the event.
    fn number(&self) -> u64 {
        let body: serde_json::Value = serde_json::from_slice(&self.body).expect("JSON");
        body["n"].as_u64().expect("a number")
    }
}

/// Reads the world's stream from its beginning: `count` messages, and then whatever comes within a moment.
async fn read(world: &World, count: usize) -> Vec<Read> {
    read_stream(world, &world.stream, count).await
}

/// Reads a stream from its beginning: `count` messages, and then whatever comes within a moment.
async fn read_stream(world: &World, stream: &str, count: usize) -> Vec<Read> {
    const MOMENT: Duration = Duration::from_millis(300);
    let connection = amqp::connect(&world.amqp_uri).await;
    let channel = connection.create_channel().await.expect("a channel");
    channel.basic_qos(1000, BasicQosOptions::default()).await.expect("a prefetch");
    let first = amqp::table(&[("x-stream-offset", "first".into())]);
    let consumer = channel.basic_consume(stream.into(), "".into(), BasicConsumeOptions::default(), first);
    let mut consumer = consumer.await.expect("a consumer");
    let mut read = Vec::new();
    loop {
        let limit = if read.len() < count { SOON } else { MOMENT };
        let Ok(next) = timeout(limit, consumer.next()).await else { break };
        let delivery = next.expect("the stream is there").expect("a message");
        delivery.ack(BasicAckOptions::default()).await.expect("acknowledged");
        read.push(Read { properties: delivery.properties, body: delivery.data });
    }
    read
}

/// Returns the numbers of the events in the stream, of which there are at least `count`.
async fn numbers(world: &World, count: usize) -> Vec<u64> {
    read(world, count).await.iter().map(Read::number).collect()
}

async fn delete(connection: &Connection, queue: &str) {
    let channel = connection.create_channel().await.expect("a channel");
    channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.expect("deleted");
}

async fn declare_classic(connection: &Connection, queue: &str) {
    let channel = connection.create_channel().await.expect("a channel");
    let none = FieldTable::default();
    channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), none).await.expect("a queue");
}

/// Returns the headers without what the broker adds to a message of a stream.
fn headers(properties: &BasicProperties) -> Vec<(String, AMQPValue)> {
    let headers = properties.headers().as_ref().expect("headers").inner().iter();
    let mut headers: Vec<_> = headers.map(|(name, value)| (name.to_string(), value.clone())).collect();
    headers.retain(|(name, _)| name != "x-stream-offset");
    headers.sort_by(|a, b| a.0.cmp(&b.0));
    headers
}
