//! From a delivery to a [`Message`]: lapin's types end here.

use compact_str::CompactString;
use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, ShortString};

use crate::contract::{Message, Properties};

/// Reads a delivery that came at `received_at`.
pub fn read(delivery: Delivery, received_at: Timestamp) -> Message {
    let mut properties = properties(&delivery.properties);
    properties.routing_key = Some(text(delivery.routing_key.as_str()));
    Message::read(delivery.data, properties, received_at)
}

fn properties(amqp: &BasicProperties) -> Properties {
    let short = |value: &Option<ShortString>| value.as_ref().map(|value| text(value.as_str()));
    let header = |name: &str| match amqp.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(value) => Some(text(&String::from_utf8_lossy(value.as_bytes()))),
        AMQPValue::ShortString(value) => Some(text(value.as_str())),
        _ => None,
    };
    Properties {
        content_type: short(amqp.content_type()),
        message_id: short(amqp.message_id()),
        publisher: short(amqp.app_id()),
        // Under another name somebody else would be answered.
        reply_to: short(&amqp.reply_to().clone().filter(|queue| !queue.as_str().contains('\0'))),
        correlation_id: short(amqp.correlation_id()),
        traceparent: header("traceparent"),
        tracestate: header("tracestate"),
        timestamp: *amqp.timestamp(),
        routing_key: None,
    }
}

/// PostgreSQL can't store a NUL. A property isn't worth a dead letter.
fn text(value: &str) -> CompactString {
    if value.contains('\0') { value.replace('\0', "\u{fffd}").into() } else { value.into() }
}
