//! What the relay says to the broker: a session's set-up, and a publication as a message.

use std::time::Duration;

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
        let goodbye = self.connection.close(200, "settled is done".into());
        let _ = tokio::time::timeout(Duration::from_secs(2), goodbye).await;
    }
}

/// Publishes one message: an event to `exchange`, a reply to its queue.
pub(super) async fn send(channel: &Channel, exchange: &str, message: &Publication) -> lapin::Result<PublisherConfirm> {
    let (exchange, key) = match &message.reply_to {
        Some(queue) => ("", queue.as_str()),
        None => (exchange, message.routing_key.as_str()),
    };
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    channel.basic_publish(exchange.into(), key.into(), options, &message.body, properties(message)).await
}

/// The `message_id` on the wire: a reply's tells it from the event.
pub(super) fn message_id(message: &Publication) -> String {
    match &message.reply_to {
        Some(_) => format!("{}/reply", message.message_id),
        None => message.message_id.clone(),
    }
}

fn properties(message: &Publication) -> BasicProperties {
    const PERSISTENT: u8 = 2;
    let mut headers = FieldTable::default();
    let text = |value: &str| AMQPValue::LongString(value.into());
    for (name, value) in &message.attributes {
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
        .with_message_id(message_id(message).into())
        .with_type(message.routing_key.as_str().into())
        .with_headers(headers);
    if let Some(id) = message.correlation_id.as_deref().and_then(|id| ShortString::try_new(id).ok()) {
        properties = properties.with_correlation_id(id);
    }
    properties
}
