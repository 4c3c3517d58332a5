//! A subscriber to all events: which came, how often, and when.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, bail};
use futures_util::StreamExt;
use hdrhistogram::Histogram;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, Consumer, ExchangeKind};
use serde::Deserialize;
use settled::contract::EventKind;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::broker::{self, EVENTS_EXCHANGE};
use crate::load::clock::now_micros;
use crate::plan::Mark;
use crate::report::model::empty_histogram;

const PREFETCH: u16 = 2000;
/// Deliveries that one acknowledgement covers at the most.
const CHUNK: usize = 200;
const BATCH: &str = "application/cloudevents-batch+json";
/// How many of the events that should not have come are kept.
const EXAMPLES: usize = 100;

/// How the queue of the subscriber is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum EventQueue {
    /// Durable, on one node: the cheapest that still survives the broker.
    Classic,
    /// The same with the newer storage (`x-queue-version` 2)
    #[value(name = "classic-v2")]
    ClassicV2,
    /// Replicated, as the queue of the tasks is.
    Quorum,
}

/// All events that came.
#[derive(Debug)]
pub(crate) struct Received {
    mark: Mark,
    /// Ids below this opened the accounts.
    first: usize,
    /// What came for each number of the run's ids, from `first` on.
    pub(crate) arrivals: Vec<Option<Arrival>>,
    /// Deliveries of the load, the repeated ones included.
    pub(crate) total: u64,
    /// Different events of the load.
    pub(crate) unique: u64,
    /// When the last new one came, in microseconds since 1970.
    pub(crate) last_at: i64,
    /// Events of other runs, or of no run at all.
    pub(crate) foreign: u64,
    /// How many contradicted others, or could not be read, or were of no first version.
    pub(crate) wrong: u64,
    /// Some of those.
    pub(crate) examples: Vec<String>,
    latency: Histogram<u64>,
}

/// The first delivery of an event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// What kind it was.
    pub(crate) kind: EventKind,
    /// When, in microseconds since 1970.
    pub(crate) at: i64,
}

/// A bound queue, and its subscriber once it consumes.
pub(crate) struct Sink {
    received: Arc<Mutex<Received>>,
    unique: Arc<AtomicU64>,
    consuming: Option<JoinHandle<Result<()>>>,
    channel: Channel,
    queue: String,
    // A connection whose last handle is dropped is closed.
    _connection: Connection,
}

impl Sink {
    /// Declares a queue and binds it to every event. To be called before the first task of the load
    /// is published, or the daemon has to hold events back.
    ///
    /// `first` is the number of the first id of the load.
    pub(crate) async fn bind(uri: &str, kind: EventQueue, mark: Mark, first: usize) -> Result<Self> {
        let connection = broker::connect(uri, "settled-loadtest subscriber").await?;
        let channel = connection.create_channel().await?;
        let queue = format!("{mark}.events");
        declare(&channel, &queue, kind).await?;
        let received = Arc::new(Mutex::new(Received::new(mark, first)));
        Ok(Self { received, unique: Arc::default(), consuming: None, channel, queue, _connection: connection })
    }

    /// Begins to consume.
    pub(crate) async fn consume(&mut self) -> Result<()> {
        self.channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumer = self.channel.basic_consume(self.queue.as_str().into(), "loadtest".into(), options, none).await?;
        let (received, unique) = (Arc::clone(&self.received), Arc::clone(&self.unique));
        self.consuming = Some(tokio::spawn(consume(consumer, self.channel.clone(), received, unique)));
        Ok(())
    }

    /// How many different events have come.
    pub(crate) fn unique(&self) -> u64 {
        self.unique.load(Ordering::Relaxed)
    }

    /// The times to the events that came since this was last asked, in microseconds.
    pub(crate) fn take_latency(&self) -> Histogram<u64> {
        std::mem::replace(&mut self.received().latency, empty_histogram())
    }

    /// Whether the subscription ended by itself, and why.
    pub(crate) async fn lost(&mut self) -> Option<anyhow::Error> {
        let consuming = self.consuming.take_if(|consuming| consuming.is_finished())?;
        consuming.await.ok()?.err()
    }

    /// Ends the subscription and deletes its queue; answers all that came.
    pub(crate) async fn finish(self) -> Result<Received> {
        if let Some(consuming) = &self.consuming {
            consuming.abort();
        }
        self.channel.queue_delete(self.queue.as_str().into(), QueueDeleteOptions::default()).await?;
        let empty = Received::new(self.received().mark, 0);
        Ok(std::mem::replace(&mut *self.received(), empty))
    }

    fn received(&self) -> std::sync::MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn declare(channel: &Channel, queue: &str, kind: EventQueue) -> Result<()> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(EVENTS_EXCHANGE.into(), ExchangeKind::Topic, durable, FieldTable::default()).await?;
    let mut arguments = FieldTable::default();
    let storage = if kind == EventQueue::Quorum { "quorum" } else { "classic" };
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(storage.into()));
    if kind == EventQueue::ClassicV2 {
        arguments.insert("x-queue-version".into(), AMQPValue::LongLongInt(2));
    }
    // If this process is killed nobody deletes the queue: the broker does, a while after the last
    // use, before it fills a disk.
    arguments.insert("x-expires".into(), AMQPValue::LongInt(EXPIRES_MILLIS));
    channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await?;
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    channel.queue_bind(queue.into(), EVENTS_EXCHANGE.into(), "#".into(), options, none).await?;
    Ok(())
}

/// Longer than any backlog takes that a late subscriber waits for.
const EXPIRES_MILLIS: i32 = 30 * 60 * 1000;

async fn consume(
    consumer: Consumer,
    channel: Channel,
    received: Arc<Mutex<Received>>,
    unique: Arc<AtomicU64>,
) -> Result<()> {
    // Whatever has come is taken at once, so one acknowledgement covers all of it.
    let mut chunks = consumer.ready_chunks(CHUNK);
    while let Some(chunk) = chunks.next().await {
        let deliveries = chunk.into_iter().collect::<lapin::Result<Vec<Delivery>>>()?;
        let Some(last) = deliveries.last().map(|delivery| delivery.delivery_tag) else { continue };
        let now_unique = {
            let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
            let now = now_micros();
            deliveries.iter().for_each(|delivery| received.take(delivery, now));
            received.unique
        };
        channel.basic_ack(last, BasicAckOptions { multiple: true }).await?;
        unique.store(now_unique, Ordering::Relaxed);
    }
    bail!("the broker ended the subscription")
}

impl Received {
    /// Nothing yet.
    pub(crate) fn new(mark: Mark, first: usize) -> Self {
        Self {
            mark,
            first,
            arrivals: Vec::new(),
            total: 0,
            unique: 0,
            last_at: 0,
            foreign: 0,
            wrong: 0,
            examples: Vec::new(),
            latency: empty_histogram(),
        }
    }

    /// The event of that number of the run's ids, if it came.
    pub(crate) fn arrival(&self, number: usize) -> Option<Arrival> {
        self.arrivals.get(number.checked_sub(self.first)?).copied().flatten()
    }

    /// The numbers of which an event came.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = usize> {
        let came = self.arrivals.iter().enumerate().filter(|(_, arrival)| arrival.is_some());
        came.map(|(place, _)| place + self.first)
    }

    fn take(&mut self, delivery: &Delivery, now: i64) {
        let properties = &delivery.properties;
        if properties.content_type().as_ref().is_some_and(|content_type| content_type.as_str() == BATCH) {
            return self.take_batch(&delivery.data, now);
        }
        match properties.message_id() {
            Some(id) => self.note(id.as_str(), delivery.routing_key.as_str(), now),
            None => self.complain("an event without a message_id".to_owned()),
        }
    }

    fn take_batch(&mut self, body: &[u8], now: i64) {
        #[derive(Deserialize)]
        struct Event<'a> {
            id: &'a str,
            #[serde(rename = "type")]
            kind: &'a str,
        }
        match serde_json::from_slice::<Vec<Event<'_>>>(body) {
            Ok(events) => events.iter().for_each(|event| self.note(event.id, event.kind, now)),
            Err(error) => self.complain(format!("a batch that cannot be read: {error}")),
        }
    }

    /// An event's id is `<task id>/<version>`.
    fn note(&mut self, id: &str, kind: &str, now: i64) {
        let task = id.split_once('/').and_then(|(task, version)| Some((task.parse::<Uuid>().ok()?, version)));
        let (Some((task, version)), Some(kind)) = (task, EventKind::from_name(kind)) else {
            return self.complain(format!("event {id} of type {kind}"));
        };
        let Some(stamp) = self.mark.read(task) else {
            self.foreign += 1;
            return;
        };
        let Some(place) = stamp.number.checked_sub(self.first) else { return };
        self.total += 1;
        if version != "1" {
            return self.complain(format!("event {id} of another version than the first"));
        }
        if self.arrivals.len() <= place {
            self.arrivals.resize(place + 1, None);
        }
        match self.arrivals[place] {
            None => {
                self.arrivals[place] = Some(Arrival { kind, at: now });
                self.unique += 1;
                self.last_at = now;
                self.latency.saturating_record(u64::try_from(now - stamp.scheduled).unwrap_or_default());
            }
            Some(first) if first.kind == kind => {}
            Some(first) => self.complain(format!("event {id} came as {} and as {}", first.kind.name(), kind.name())),
        }
    }

    fn complain(&mut self, what: String) {
        self.wrong += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Stamp;

    const NOW: i64 = 1_790_000_000_000_000;

    fn event(mark: Mark, number: usize) -> String {
        format!("{}/1", mark.id(Stamp { number, scheduled: NOW - 1500 }))
    }

    #[test]
    fn repeated_events_are_counted_and_contradictions_noted() {
        let mark = Mark::random();
        let id = event(mark, 12);
        let mut received = Received::new(mark, 10);
        received.note(&id, "payment.settled", NOW);
        received.take_batch(format!(r#"[{{"id":"{id}","type":"payment.settled","data":{{}}}}]"#).as_bytes(), NOW);
        assert_eq!((received.total, received.unique, received.wrong), (2, 1, 0));
        assert_eq!(received.arrival(12).map(|arrival| arrival.at), Some(NOW));
        assert_eq!(received.numbers().collect::<Vec<_>>(), [12]);
        received.note(&id, "payment.rejected", NOW);
        received.note("x", "payment.settled", NOW);
        received.take_batch(b"{", NOW);
        assert_eq!((received.unique, received.wrong), (1, 3));
    }

    #[test]
    fn events_of_others_and_of_the_opening_are_not_of_the_load() {
        let mark = Mark::random();
        let mut received = Received::new(mark, 10);
        received.note(&event(mark, 9), "account.opened", NOW);
        received.note(&format!("{}/1", Uuid::now_v7()), "payment.settled", NOW);
        assert_eq!((received.total, received.foreign, received.wrong), (0, 1, 0));
    }
}
