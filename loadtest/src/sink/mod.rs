//! A subscriber to all events: which came, how often, and when.

mod received;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use hdrhistogram::Histogram;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
    QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ExchangeKind};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::broker::{self, EVENTS_EXCHANGE};
use crate::load::clock::now_micros;
use crate::plan::Mark;
use crate::report::model::empty_histogram;
pub(crate) use received::Received;

const PREFETCH: u16 = 2000;
/// Time from one attempt to connect to the next.
const AGAIN: Duration = Duration::from_millis(50);
/// How long a broker may take to do what it is asked for.
const ANSWER: Duration = Duration::from_secs(10);
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

/// A bound queue, and its subscriber once it consumes. It outlives whatever happens to the broker: the queue is durable,
/// what is noted is acknowledged, and a connection that is lost is made again. So an event that does not come was never
/// published.
pub(crate) struct Sink {
    uri: String,
    queue: String,
    kind: EventQueue,
    received: Arc<Mutex<Received>>,
    consuming: Option<JoinHandle<()>>,
}

impl Sink {
    /// Binds a queue to every event. To be called before the first task of the load is published, or the daemon has to
    /// hold events back. `first` is the number of the first id of the load.
    pub(crate) async fn bind(uri: &str, kind: EventQueue, mark: Mark, first: usize) -> Result<Self> {
        let (uri, queue) = (uri.to_owned(), format!("{mark}.events"));
        let received = Arc::new(Mutex::new(Received::new(mark, first)));
        let sink = Self { uri, queue, kind, received, consuming: None };
        sink.rebind().await?;
        Ok(sink)
    }

    /// Consumes the queue from here on, in the background.
    pub(crate) fn consume(&mut self) {
        let (uri, queue) = (self.uri.clone(), self.queue.clone());
        let received = Arc::clone(&self.received);
        self.consuming = Some(tokio::spawn(async move {
            loop {
                // Why it ended does not matter: whatever was not acknowledged comes again.
                let _ = session(&uri, &queue, &received).await;
                sleep(AGAIN).await;
            }
        }));
    }

    /// Returns the number of different events that have come.
    pub(crate) fn unique(&self) -> u64 {
        self.received().unique
    }

    /// Returns the times to the events that came since the last call, in microseconds.
    pub(crate) fn take_latency(&self) -> Histogram<u64> {
        std::mem::replace(&mut self.received().latency, empty_histogram())
    }

    /// Unbinds the queue: no queue takes events then.
    pub(crate) async fn unbind(&self) -> Result<()> {
        let (queue, exchange) = (self.queue.as_str().into(), EVENTS_EXCHANGE.into());
        let (_connection, channel) = self.channel().await?;
        Ok(channel.queue_unbind(queue, exchange, "#".into(), FieldTable::default()).await?)
    }

    pub(crate) async fn delete_exchange(&self) -> Result<()> {
        let (_connection, channel) = self.channel().await?;
        Ok(channel.exchange_delete(EVENTS_EXCHANGE.into(), ExchangeDeleteOptions::default()).await?)
    }

    /// Binds the queue again, to an exchange that is declared if it is missing.
    pub(crate) async fn rebind(&self) -> Result<()> {
        let (_connection, channel) = self.channel().await?;
        let declared = timeout(ANSWER, declare(&channel, &self.queue, self.kind)).await;
        declared.context("the broker does not bind a queue")?
    }

    /// Ends the subscription and deletes its queue; returns all that came.
    pub(crate) async fn finish(mut self) -> Result<Received> {
        if let Some(consuming) = self.consuming.take() {
            consuming.abort();
        }
        let (_connection, channel) = self.channel().await?;
        channel.queue_delete(self.queue.as_str().into(), QueueDeleteOptions::default()).await?;
        Ok(self.received().take_all())
    }

    async fn channel(&self) -> Result<(Connection, Channel)> {
        broker::channel(&self.uri, "settled-loadtest").await
    }

    fn received(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(consuming) = &self.consuming {
            consuming.abort();
        }
    }
}

async fn session(uri: &str, queue: &str, received: &Mutex<Received>) -> Result<()> {
    let (_connection, channel) = timeout(ANSWER, broker::channel(uri, "settled-loadtest subscriber")).await??;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let consumer = channel.basic_consume(queue.into(), "loadtest".into(), options, none).await?;
    // Whatever has come is taken at once, so one acknowledgement covers all of it.
    let mut chunks = consumer.ready_chunks(CHUNK);
    while let Some(chunk) = chunks.next().await {
        let deliveries = chunk.into_iter().collect::<lapin::Result<Vec<Delivery>>>()?;
        let Some(last) = deliveries.last().map(|delivery| delivery.delivery_tag) else { continue };
        {
            let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
            let now = now_micros();
            deliveries.iter().for_each(|delivery| received.take(delivery, now));
        }
        channel.basic_ack(last, BasicAckOptions { multiple: true }).await?;
    }
    bail!("the broker ended the subscription")
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
