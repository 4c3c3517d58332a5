//! A subscriber to all events: which came, how often, and when.

mod log;
mod received;
mod source;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use futures_util::StreamExt;
use hdrhistogram::Histogram;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::broker::{self, EVENTS_EXCHANGE};
use crate::load::clock::now_micros;
use crate::plan::Mark;
use crate::report::model::empty_histogram;
pub(crate) use log::Log;
pub(crate) use received::Received;
pub(crate) use source::{EventQueue, Source};

/// Time from one attempt to connect to the next.
const AGAIN: Duration = Duration::from_millis(50);
/// How long a broker may take to do what it is asked for.
const ANSWER: Duration = Duration::from_secs(10);
/// Deliveries that one acknowledgement covers at the most.
const CHUNK: usize = 200;

/// A bound queue or a stream, and its subscriber once it consumes. It outlives whatever happens to the broker: both are
/// durable, what is noted of a queue is acknowledged, a stream is read from behind what was noted, and a connection that
/// is lost is made again. So an event that does not come was never published.
pub(crate) struct Sink {
    uri: String,
    source: Source,
    received: Arc<Mutex<Received>>,
    consuming: Option<JoinHandle<()>>,
}

impl Sink {
    /// Binds a queue to every event. To be called before the first task of the load is published, or the daemon has to
    /// hold events back. `first` is the number of the first id of the load.
    pub(crate) async fn bind(uri: &str, source: Source, mark: Mark, first: usize) -> Result<Self> {
        let received = match source {
            Source::Queue { .. } => Received::new(mark, first),
            Source::Stream { .. } => Received::of_stream(mark, first),
        };
        let received = Arc::new(Mutex::new(received));
        let sink = Self { uri: uri.to_owned(), source, received, consuming: None };
        sink.rebind().await?;
        Ok(sink)
    }

    /// Consumes from here on, in the background.
    pub(crate) fn consume(&mut self) {
        let (uri, source) = (self.uri.clone(), self.source.clone());
        let received = Arc::clone(&self.received);
        self.consuming = Some(tokio::spawn(async move {
            loop {
                // Why it ended does not matter: whatever was not noted comes again.
                let _ = session(&uri, &source, &received).await;
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
        let (queue, exchange) = (self.source.name().into(), EVENTS_EXCHANGE.into());
        let (_connection, channel) = self.channel().await?;
        Ok(channel.queue_unbind(queue, exchange, "#".into(), FieldTable::default()).await?)
    }

    pub(crate) async fn delete_exchange(&self) -> Result<()> {
        let (_connection, channel) = self.channel().await?;
        Ok(channel.exchange_delete(EVENTS_EXCHANGE.into(), ExchangeDeleteOptions::default()).await?)
    }

    /// Deletes the stream when all that is in it was read, and reads the next one of its name from its beginning. To be
    /// called while nobody can declare it. Returns how many events were in it.
    pub(crate) async fn delete_stream(&self) -> Result<u64> {
        let (_connection, channel) = self.channel().await?;
        let end = self.read_to_the_end(&channel).await?;
        channel.queue_delete(self.source.name().into(), QueueDeleteOptions::default()).await?;
        self.received().begin_generation();
        Ok(end)
    }

    /// Appends a mark to the stream, and waits until it is read: what was appended before was read then. Returns how many
    /// messages these are. (What RabbitMQ 3.10 counts in a stream is some seconds old.)
    async fn read_to_the_end(&self, channel: &Channel) -> Result<u64> {
        let mark = log::new_mark();
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let properties = BasicProperties::default().with_message_id(mark.as_str().into());
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let appended = channel.basic_publish("".into(), self.source.name().into(), options, &[], properties).await?;
        ensure!(appended.await? == Confirmation::Ack(None), "the stream does not take a mark");
        loop {
            if let Some(before) = self.received().log.as_ref().and_then(|log| log.before(&mark)) {
                return Ok(before);
            }
            sleep(AGAIN).await;
        }
    }

    /// Binds the queue again, to an exchange that is declared if it is missing.
    pub(crate) async fn rebind(&self) -> Result<()> {
        let (_connection, channel) = self.channel().await?;
        let declared = timeout(ANSWER, self.source.declare(&channel)).await;
        declared.context("the broker does not bind a queue")?
    }

    /// Ends the subscription and deletes its queue or stream; returns all that came. A stream is read to its end, as what
    /// came last may be in it again.
    pub(crate) async fn finish(mut self) -> Result<Received> {
        let (_connection, channel) = self.channel().await?;
        // One that was not read has no event, or all of them are missing.
        if self.received().position().1 > 0 {
            let read = timeout(ANSWER, self.read_to_the_end(&channel)).await;
            read.context("the stream was not read to its end")??;
        }
        if let Some(consuming) = self.consuming.take() {
            consuming.abort();
        }
        channel.queue_delete(self.source.name().into(), QueueDeleteOptions::default()).await?;
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

async fn session(uri: &str, source: &Source, received: &Mutex<Received>) -> Result<()> {
    let (_connection, channel) = timeout(ANSWER, broker::channel(uri, "settled-loadtest subscriber")).await??;
    let received = || received.lock().unwrap_or_else(PoisonError::into_inner);
    let (generation, next) = received().position();
    let consumer = source.consume(&channel, next).await?;
    // What a deleted stream had left is not read any more: no daemon knows that it was in it.
    let is_the_same = |received: &Received| match received.position().0 == generation {
        true => Ok(()),
        false => Err(anyhow!("the stream is another one by now")),
    };
    is_the_same(&received())?;
    // Whatever has come is taken at once, so one acknowledgement covers all of it.
    let mut chunks = consumer.ready_chunks(CHUNK);
    while let Some(chunk) = chunks.next().await {
        let deliveries = chunk.into_iter().collect::<lapin::Result<Vec<Delivery>>>()?;
        let Some(last) = deliveries.last().map(|delivery| delivery.delivery_tag) else { continue };
        {
            let mut received = received();
            is_the_same(&received)?;
            let now = now_micros();
            deliveries.iter().for_each(|delivery| received.take(delivery, now));
        }
        channel.basic_ack(last, BasicAckOptions { multiple: true }).await?;
    }
    bail!("the broker ended the subscription")
}
