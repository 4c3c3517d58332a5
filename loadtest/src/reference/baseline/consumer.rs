//! Takes deliveries one by one and gives each to a connection that is idle.

use std::sync::Arc;

use anyhow::{Context, Result};
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use jiff::Timestamp;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use settled::config::Config;
use settled_amqp::Connector;
use settled_core::contract::Message;
use settled_pipeline::metrics::Metrics;
use settled_pipeline::shutdown::Shutdown;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::books::{AccountIds, Books};

const CONSUMER: &str = "baseline";

/// Deliveries that are out, for each connection: enough that none ever waits for the broker.
const PREFETCH_PER_CONNECTION: u16 = 16;

pub(super) struct Consumer {
    connection: Connection,
    channel: Channel,
    deliveries: lapin::Consumer,
    give_back: mpsc::Sender<Books>,
    idle: mpsc::Receiver<Books>,
    metrics: Arc<Metrics>,
}

impl Consumer {
    /// Connects to the database as often as asked, and to the broker once.
    pub(super) async fn start(config: &Config, connections: usize, metrics: Arc<Metrics>) -> Result<Self> {
        let (give_back, idle) = mpsc::channel(connections);
        let ids = Arc::new(AccountIds::default());
        let books = (0..connections).map(|_| Books::open(&config.postgres, Arc::clone(&ids)));
        for books in try_join_all(books).await.context("connect to PostgreSQL")? {
            give_back.send(books).await?;
        }
        let connection = Connector::new(config.broker.clone(), "settled-loadtest baseline").connect().await?;
        settled_amqp::ensure_topology(&connection, &config.broker, &config.outlet()).await?;
        let channel = connection.create_channel().await?;
        let most = u16::try_from(connections).unwrap_or(u16::MAX).saturating_mul(PREFETCH_PER_CONNECTION);
        channel.basic_qos(most.min(config.broker.prefetch), BasicQosOptions::default()).await?;
        let (queue, options) = (config.broker.queue.as_str().into(), BasicConsumeOptions::default());
        let deliveries = channel.basic_consume(queue, CONSUMER.into(), options, FieldTable::default()).await?;
        Ok(Self { connection, channel, deliveries, give_back, idle, metrics })
    }

    /// Consumes until a drain is asked for, and then finishes what it has begun.
    pub(super) async fn run(mut self, shutdown: &Shutdown) -> Result<()> {
        let mut begun = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = shutdown.drain().cancelled() => break,
                Some(done) = begun.join_next() => done??,
                next = self.deliveries.next() => {
                    let delivery = next.context("the broker cancelled the consumer")??;
                    let books = self.idle.recv().await.context("no connections")?;
                    self.begin(delivery, books, &mut begun);
                }
            }
        }
        self.channel.basic_cancel(CONSUMER.into(), BasicCancelOptions::default()).await?;
        while let Some(done) = begun.join_next().await {
            done??;
        }
        Ok(self.connection.close(200, "the baseline is done".into()).await?)
    }

    /// Commits and acknowledges a delivery in the background. Payments of one account may overtake
    /// each other, as they usually may in such a consumer: its accounts are to be opened, and to
    /// have their money, before.
    fn begin(&self, delivery: lapin::message::Delivery, mut books: Books, begun: &mut JoinSet<Result<()>>) {
        let (channel, metrics, give_back) = (self.channel.clone(), Arc::clone(&self.metrics), self.give_back.clone());
        begun.spawn(async move {
            let tag = delivery.delivery_tag;
            let message = settled_amqp::read(delivery, Timestamp::now());
            let settled = settle(&mut books, &message, &metrics).await;
            // Whatever came of it: a consumer without connections would wait for ever.
            give_back.send(books).await?;
            settled?;
            Ok(channel.basic_ack(tag, BasicAckOptions { multiple: false }).await?)
        });
    }
}

async fn settle(books: &mut Books, message: &Message, metrics: &Metrics) -> Result<()> {
    let outcome = books.book(message).await?;
    let task_type = message.content.as_ref().ok().map(|task| task.body.task_type());
    metrics.outcome(task_type, outcome).increment(1);
    Ok(())
}
