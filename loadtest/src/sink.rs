//! A subscriber to all events: which came, how often, and when the last new one did.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, Consumer, ExchangeKind};
use serde::Deserialize;
use settled::contract::EventKind;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::broker::{self, EVENTS_EXCHANGE};
use crate::publisher::now_micros;

/// The queue that takes all events.
const QUEUE: &str = "loadtest.events";
const PREFETCH: u16 = 2000;
/// Deliveries that one acknowledgement covers at the most.
const CHUNK: usize = 200;
const BATCH: &str = "application/cloudevents-batch+json";

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
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// What kind of event each id had.
    pub(crate) kinds: HashMap<EventId, EventKind>,
    /// Deliveries, the repeated ones included.
    pub(crate) total: u64,
    /// When the last new one came, in microseconds since 1970.
    pub(crate) last_at: i64,
    /// What should not have come.
    pub(crate) wrong: Vec<String>,
}

/// `<task id>/<version>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EventId {
    /// Of the task.
    pub(crate) task: Uuid,
    /// Of the payment.
    pub(crate) version: u32,
}

/// The subscriber. It consumes until it is dropped.
pub(crate) struct Sink {
    received: Arc<Mutex<Received>>,
    unique: watch::Receiver<u64>,
    consuming: JoinHandle<Result<()>>,
    // A connection whose last handle is dropped is closed.
    _connection: Connection,
}

impl Sink {
    /// Declares the queue, binds it to every event, and begins to consume. To be called before
    /// the first task is published, or the daemon has to hold events back.
    pub(crate) async fn start(uri: &str, queue: EventQueue) -> Result<Self> {
        let connection = broker::connect(uri, "settled-loadtest subscriber").await?;
        let channel = connection.create_channel().await?;
        let consumer = subscribe(&channel, queue).await?;
        let received = Arc::new(Mutex::new(Received::default()));
        let (count, unique) = watch::channel(0);
        let consuming = tokio::spawn(consume(consumer, channel, Arc::clone(&received), count));
        Ok(Self { received, unique, consuming, _connection: connection })
    }

    /// Waits until that many different events have come.
    pub(crate) async fn wait_for(&self, unique: u64) -> Result<()> {
        let mut seen = self.unique.clone();
        let enough = seen.wait_for(|seen| *seen >= unique).await;
        enough.map(drop).context("the subscriber has lost its connection")
    }

    /// How many different events have come.
    pub(crate) fn unique(&self) -> u64 {
        *self.unique.borrow()
    }

    /// Ends the subscription; answers all that came.
    pub(crate) fn finish(self) -> Received {
        self.consuming.abort();
        std::mem::take(&mut *self.received.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn subscribe(channel: &Channel, queue: EventQueue) -> Result<Consumer> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(EVENTS_EXCHANGE.into(), ExchangeKind::Topic, durable, FieldTable::default()).await?;
    let kind = match queue {
        EventQueue::Classic | EventQueue::ClassicV2 => "classic",
        EventQueue::Quorum => "quorum",
    };
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
    if queue == EventQueue::ClassicV2 {
        arguments.insert("x-queue-version".into(), AMQPValue::LongLongInt(2));
    }
    channel.queue_declare(QUEUE.into(), QueueDeclareOptions::durable(), arguments).await?;
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    channel.queue_bind(QUEUE.into(), EVENTS_EXCHANGE.into(), "#".into(), options, none).await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    Ok(channel.basic_consume(QUEUE.into(), "loadtest".into(), options, none).await?)
}

async fn consume(
    consumer: Consumer,
    channel: Channel,
    received: Arc<Mutex<Received>>,
    count: watch::Sender<u64>,
) -> Result<()> {
    // Whatever has come is taken at once, so one acknowledgement covers all of it.
    let mut chunks = consumer.ready_chunks(CHUNK);
    while let Some(chunk) = chunks.next().await {
        let deliveries = chunk.into_iter().collect::<lapin::Result<Vec<Delivery>>>()?;
        let Some(last) = deliveries.last().map(|delivery| delivery.delivery_tag) else { continue };
        let unique = {
            let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
            for delivery in &deliveries {
                received.take(delivery);
            }
            received.kinds.len() as u64
        };
        channel.basic_ack(last, BasicAckOptions { multiple: true }).await?;
        count.send_replace(unique);
    }
    bail!("the broker ended the subscription")
}

impl Received {
    fn take(&mut self, delivery: &Delivery) {
        let properties = &delivery.properties;
        if properties.content_type().as_ref().is_some_and(|content_type| content_type.as_str() == BATCH) {
            return self.take_batch(&delivery.data);
        }
        match properties.message_id() {
            Some(id) => self.note(id.as_str(), delivery.routing_key.as_str()),
            None => self.wrong.push("an event without a message_id".to_owned()),
        }
    }

    fn take_batch(&mut self, body: &[u8]) {
        #[derive(Deserialize)]
        struct Event<'a> {
            id: &'a str,
            #[serde(rename = "type")]
            kind: &'a str,
        }
        match serde_json::from_slice::<Vec<Event<'_>>>(body) {
            Ok(events) => events.iter().for_each(|event| self.note(event.id, event.kind)),
            Err(error) => self.wrong.push(format!("a batch that cannot be read: {error}")),
        }
    }

    fn note(&mut self, id: &str, kind: &str) {
        self.total += 1;
        let (Some(event), Some(kind)) = (EventId::parse(id), EventKind::from_name(kind)) else {
            return self.wrong.push(format!("event {id} of type {kind}"));
        };
        match self.kinds.entry(event) {
            Entry::Vacant(place) => {
                place.insert(kind);
                self.last_at = now_micros();
            }
            Entry::Occupied(place) if *place.get() == kind => {}
            Entry::Occupied(place) => {
                self.wrong.push(format!("event {id} came as {} and as {}", place.get().name(), kind.name()));
            }
        }
    }
}

impl EventId {
    fn parse(text: &str) -> Option<Self> {
        let (task, version) = text.split_once('/')?;
        Some(Self { task: task.parse().ok()?, version: version.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_events_are_counted_and_contradictions_noted() {
        let id = format!("{}/1", Uuid::now_v7());
        let mut received = Received::default();
        received.note(&id, "payment.settled");
        received.take_batch(format!(r#"[{{"id":"{id}","type":"payment.settled","data":{{}}}}]"#).as_bytes());
        assert_eq!((received.total, received.kinds.len(), received.wrong.len()), (2, 1, 0));
        received.note(&id, "payment.rejected");
        received.note("x", "payment.settled");
        received.take_batch(b"{");
        assert_eq!((received.kinds.len(), received.wrong.len()), (1, 3));
    }
}
