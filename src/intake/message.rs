//! From a delivery to a [`Message`]: lapin's types end here.

use std::borrow::Cow;

use compact_str::CompactString;
use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, ShortString};

use crate::contract::{Message, MessageId, Properties};

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
        message_id: amqp.message_id().as_ref().map(|id| MessageId::from(&*clean(id.as_str()))),
        publisher: short(amqp.app_id()),
        // Under another name somebody else would be answered.
        reply_to: amqp.reply_to().as_ref().map(ShortString::as_str).filter(|queue| !queue.contains('\0')).map(text),
        correlation_id: short(amqp.correlation_id()),
        traceparent: header("traceparent"),
        tracestate: header("tracestate"),
        timestamp: *amqp.timestamp(),
        routing_key: None,
    }
}

/// PostgreSQL can't store a NUL. A property isn't worth a dead letter.
fn clean(value: &str) -> Cow<'_, str> {
    if value.contains('\0') { value.replace('\0', "\u{fffd}").into() } else { value.into() }
}

fn text(value: &str) -> CompactString {
    clean(value).into()
}
