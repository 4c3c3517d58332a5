//! Shared by the consumers of the task queue and of the dead-letter queue.

use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};

use crate::inbound::{Inbox, Note};

/// The consumer tag, as operators see it.
pub(crate) const CONSUMER_TAG: &str = "settled";

/// Begins to consume from `queue`, with at most `prefetch` deliveries unacknowledged.
pub(crate) async fn consume(channel: &Channel, queue: &str, prefetch: u16) -> lapin::Result<Consumer> {
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    channel.basic_consume(queue.into(), CONSUMER_TAG.into(), options, FieldTable::default()).await
}

/// Pairs what a consumer yielded with the note that the connection made of it.
///
/// # Errors
///
/// Why there are no more deliveries, for operators.
pub(crate) fn with_note(inbox: &Inbox, next: Option<lapin::Result<Delivery>>) -> Result<(Delivery, Note), String> {
    let delivery = next
        .ok_or("the broker cancelled the consumer: the queue was deleted or moved")?
        .map_err(|error| error.to_string())?;
    let note = inbox.take(delivery.delivery_tag);
    Ok((delivery, note))
}
