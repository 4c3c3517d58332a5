//! What the relay says to the broker: a session's set-up, and a publication as a message.

use std::borrow::Cow;
use std::pin::Pin;
use std::time::Duration;

use futures_util::future::{maybe_done, poll_immediate};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ExchangeKind, PublisherConfirm};

use super::publication::Publication;
use crate::broker::declare_exchange;

/// A connection with a channel for each publisher.
pub(super) struct Session {
    pub(super) connection: Connection,
    pub(super) channels: Vec<Channel>,
}

impl Session {
    /// Declares the exchange, if one is to be declared, and opens the channels.
    pub(super) async fn set_up(
        connection: Connection,
        declared: Option<&str>,
        publishers: usize,
    ) -> lapin::Result<Self> {
        if let Some(exchange) = declared {
            declare_exchange(&connection, exchange, ExchangeKind::Topic).await?;
        }
        let mut channels = Vec::with_capacity(publishers);
        for _ in 0..publishers {
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            channels.push(channel);
        }
        Ok(Self { connection, channels })
    }

    /// Says goodbye; a broker that doesn't answer is not waited for.
    pub(super) async fn close(self) {
        if self.connection.status().blocked() {
            return; // Nothing is written on it, goodbyes included.
        }
        let goodbye = self.connection.close(200, "settled is done".into());
        let _ = tokio::time::timeout(Duration::from_secs(1), goodbye).await;
    }
}

/// Publishes `messages` in order: all of them are handed to lapin before the first is waited for.
pub(super) async fn send_all(
    channel: &Channel,
    exchange: &str,
    messages: &[&Publication<'_>],
    confirms: &mut Vec<PublisherConfirm>,
) -> lapin::Result<()> {
    let mut sent: Vec<_> =
        messages.iter().map(|message| maybe_done(Box::pin(send(channel, exchange, message)))).collect();
    for sending in &mut sent {
        // Polled once it is in lapin's queue; whether it is done shows below.
        let _ = poll_immediate(&mut *sending).await;
    }
    for mut sending in sent {
        (&mut sending).await;
        confirms.extend(Pin::new(&mut sending).take_output().transpose()?);
    }
    Ok(())
}

/// Publishes one message: an event to `exchange`, a reply to its queue.
async fn send(channel: &Channel, exchange: &str, message: &Publication<'_>) -> lapin::Result<PublisherConfirm> {
    let (exchange, key) = match &message.reply_to {
        Some(queue) => ("", &**queue),
        None => (exchange, &*message.routing_key),
    };
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    channel.basic_publish(exchange.into(), key.into(), options, &message.body, properties(message)).await
}

/// The `message_id` on the wire: a reply's tells it from the event.
pub(super) fn message_id<'a>(message: &'a Publication<'_>) -> Cow<'a, str> {
    match &message.reply_to {
        Some(_) => format!("{}/reply", message.message_id).into(),
        None => (&*message.message_id).into(),
    }
}

fn properties(message: &Publication<'_>) -> BasicProperties {
    const PERSISTENT: u8 = 2;
    let mut headers = FieldTable::default();
    let text = |value: &str| AMQPValue::LongString(value.into());
    for (name, value) in message.attributes.iter().flatten() {
        headers.insert((*name).into(), text(value));
    }
    for (name, value) in [("traceparent", &message.traceparent), ("tracestate", &message.tracestate)] {
        if let Some(value) = value {
            headers.insert(name.into(), text(value));
        }
    }
    let mut properties = BasicProperties::default()
        .with_content_type(message.content_type.into())
        .with_delivery_mode(PERSISTENT)
        .with_message_id((&*message_id(message)).into())
        .with_type((&*message.routing_key).into())
        .with_headers(headers);
    if let Some(id) = message.correlation_id.as_deref().and_then(|id| ShortString::try_new(id).ok()) {
        properties = properties.with_correlation_id(id);
    }
    properties
}
