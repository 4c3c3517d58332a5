//! A subscriber to all events: which came, how often, and when.

mod lasting;
mod received;

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
use tokio::task::JoinHandle;

use crate::broker::{self, EVENTS_EXCHANGE};
use crate::load::clock::now_micros;
use crate::plan::Mark;
use crate::report::model::empty_histogram;
pub(crate) use lasting::LastingSink;
pub(crate) use received::Received;

const PREFETCH: u16 = 2000;
/// Deliveries that one acknowledgement covers at the most.
const CHUNK: usize = 200;

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
        Ok(self.received().take_all())
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
