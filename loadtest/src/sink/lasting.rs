//! A subscriber that outlives whatever happens to the broker: its queue is durable, what it has
//! noted is acknowledged, and a connection that is lost is made again, for ever. So an event that
//! does not come was never published.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use lapin::options::{BasicConsumeOptions, BasicQosOptions, ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::{EventQueue, PREFETCH, Received, consume, declare};
use crate::broker::{self, EVENTS_EXCHANGE};
use crate::plan::Mark;

/// From one attempt to connect to the next.
const AGAIN: Duration = Duration::from_millis(50);
/// How long a broker may take to do what it is asked for.
const ANSWER: Duration = Duration::from_secs(10);

/// The subscriber.
pub(crate) struct LastingSink {
    uri: String,
    queue: String,
    kind: EventQueue,
    received: Arc<Mutex<Received>>,
    unique: Arc<AtomicU64>,
    consuming: JoinHandle<()>,
}

impl LastingSink {
    /// Binds a queue to every event and consumes it from here on. `first` is the number of the first
    /// id of the load.
    pub(crate) async fn open(uri: &str, kind: EventQueue, mark: Mark, first: usize) -> Result<Self> {
        let (uri, queue) = (uri.to_owned(), format!("{mark}.events"));
        bind(&uri, &queue, kind).await?;
        let received = Arc::new(Mutex::new(Received::new(mark, first)));
        let unique: Arc<AtomicU64> = Arc::default();
        let consuming = tokio::spawn(for_ever(uri.clone(), queue.clone(), Arc::clone(&received), Arc::clone(&unique)));
        Ok(Self { uri, queue, kind, received, unique, consuming })
    }

    /// How many different events have come.
    pub(crate) fn unique(&self) -> u64 {
        self.unique.load(Ordering::Relaxed)
    }

    /// Takes the queue off the exchange: no queue takes events then.
    pub(crate) async fn unbind(&self) -> Result<()> {
        let connection = broker::connect(&self.uri, "settled-loadtest").await?;
        let channel = connection.create_channel().await?;
        let (queue, exchange) = (self.queue.as_str().into(), EVENTS_EXCHANGE.into());
        Ok(channel.queue_unbind(queue, exchange, "#".into(), FieldTable::default()).await?)
    }

    /// Deletes the exchange, for whomever it is.
    pub(crate) async fn delete_exchange(&self) -> Result<()> {
        let connection = broker::connect(&self.uri, "settled-loadtest").await?;
        let channel = connection.create_channel().await?;
        Ok(channel.exchange_delete(EVENTS_EXCHANGE.into(), ExchangeDeleteOptions::default()).await?)
    }

    /// Binds the queue again, to an exchange that is made if it is not there.
    pub(crate) async fn rebind(&self) -> Result<()> {
        bind(&self.uri, &self.queue, self.kind).await
    }

    /// Ends the subscription and deletes its queue; answers all that came.
    pub(crate) async fn finish(self) -> Result<Received> {
        self.consuming.abort();
        let connection = broker::connect(&self.uri, "settled-loadtest").await?;
        let channel = connection.create_channel().await?;
        channel.queue_delete(self.queue.as_str().into(), QueueDeleteOptions::default()).await?;
        Ok(self.received.lock().unwrap_or_else(PoisonError::into_inner).take_all())
    }
}

impl Drop for LastingSink {
    fn drop(&mut self) {
        self.consuming.abort();
    }
}

async fn bind(uri: &str, queue: &str, kind: EventQueue) -> Result<()> {
    let connection = broker::connect(uri, "settled-loadtest").await?;
    let channel = connection.create_channel().await?;
    let declared = timeout(ANSWER, declare(&channel, queue, kind)).await;
    declared.context("the broker does not bind a queue")?
}

async fn for_ever(uri: String, queue: String, received: Arc<Mutex<Received>>, unique: Arc<AtomicU64>) {
    loop {
        // Why it ended does not matter: whatever was not acknowledged comes again.
        let _ = session(&uri, &queue, &received, &unique).await;
        sleep(AGAIN).await;
    }
}

async fn session(uri: &str, queue: &str, received: &Arc<Mutex<Received>>, unique: &Arc<AtomicU64>) -> Result<()> {
    let connection = timeout(ANSWER, broker::connect(uri, "settled-loadtest subscriber")).await??;
    let channel = connection.create_channel().await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let consumer = channel.basic_consume(queue.into(), "loadtest".into(), options, none).await?;
    consume(consumer, channel, Arc::clone(received), Arc::clone(unique)).await
}
