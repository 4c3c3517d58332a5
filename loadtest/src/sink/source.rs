//! Where a subscriber has its events from: a queue that is bound to the exchange, or a stream.

use anyhow::Result;
use lapin::options::{
    BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Consumer, ExchangeKind};

use crate::broker::EVENTS_EXCHANGE;

const PREFETCH: u16 = 2000;
/// A stream delivers whole chunks: with more of them on their way, none is waited for.
const PREFETCH_OF_STREAM: u16 = 10_000;
/// Longer than any backlog takes that a late subscriber waits for.
const EXPIRES_MILLIS: i32 = 30 * 60 * 1000;

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

/// Where events come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A queue of the subscriber's own.
    Queue { name: String, kind: EventQueue },
    /// The stream that the daemons declare and append to.
    Stream { name: String },
}

impl Source {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Queue { name, .. } | Self::Stream { name } => name,
        }
    }

    /// Declares and binds a queue. A stream is declared by those who append to it.
    pub(super) async fn declare(&self, channel: &Channel) -> Result<()> {
        let Self::Queue { name, kind } = self else { return Ok(()) };
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel.exchange_declare(EVENTS_EXCHANGE.into(), ExchangeKind::Topic, durable, FieldTable::default()).await?;
        let mut arguments = FieldTable::default();
        let storage = if *kind == EventQueue::Quorum { "quorum" } else { "classic" };
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(storage.into()));
        if *kind == EventQueue::ClassicV2 {
            arguments.insert("x-queue-version".into(), AMQPValue::LongLongInt(2));
        }
        // If this process is killed nobody deletes the queue: the broker does, a while after the last
        // use, before it fills a disk.
        arguments.insert("x-expires".into(), AMQPValue::LongInt(EXPIRES_MILLIS));
        channel.queue_declare(name.as_str().into(), QueueDeclareOptions::durable(), arguments).await?;
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        channel.queue_bind(name.as_str().into(), EVENTS_EXCHANGE.into(), "#".into(), options, none).await?;
        Ok(())
    }

    /// Consumes it; a stream from the offset `next` on, which is 0 at its beginning.
    pub(super) async fn consume(&self, channel: &Channel, next: u64) -> Result<Consumer> {
        let (prefetch, mut arguments) = (self.prefetch(), FieldTable::default());
        if let Self::Stream { .. } = self {
            let first = AMQPValue::LongString("first".into());
            let offset = if next == 0 { first } else { AMQPValue::LongLongInt(next.cast_signed()) };
            arguments.insert("x-stream-offset".into(), offset);
        }
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        Ok(channel.basic_consume(self.name().into(), "loadtest".into(), options, arguments).await?)
    }

    const fn prefetch(&self) -> u16 {
        match self {
            Self::Queue { .. } => PREFETCH,
            Self::Stream { .. } => PREFETCH_OF_STREAM,
        }
    }
}
