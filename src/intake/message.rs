//! From a delivery to a [`Message`]: lapin's types end here.

use std::borrow::Cow;

use compact_str::CompactString;
use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::contract::{DeadReason, Message, MessageId, Properties};

/// Reads a delivery that came at `received_at`.
pub fn read(delivery: Delivery, received_at: Timestamp) -> Message {
    let mut properties = properties(&delivery.properties);
    properties.routing_key = Some(text(delivery.routing_key.as_str()));
    Message::read(delivery.data, properties, received_at)
}

/// Reads a delivery from the broker's dead-letter queue.
pub(super) fn read_given_up(delivery: Delivery, received_at: Timestamp) -> Message {
    let deaths = deaths(&delivery.properties);
    let mut properties = properties(&delivery.properties);
    let (reason, detail) = story(&deaths);
    // As it was published; the exchange between may have changed it.
    let published_with = deaths.last().and_then(|death| death.routing_key.clone());
    properties.routing_key = Some(published_with.unwrap_or_else(|| text(delivery.routing_key.as_str())));
    Message::given_up(delivery.data, properties, received_at, reason, detail)
}

/// An entry of `x-death`: a queue that gave the message up.
struct Death {
    reason: String,
    queue: String,
    exchange: String,
    routing_key: Option<CompactString>,
    count: i64,
    at: Option<Timestamp>,
}

/// What the broker says of the message's way, the last step first.
fn deaths(amqp: &BasicProperties) -> Vec<Death> {
    let header = amqp.headers().as_ref().and_then(|headers| headers.inner().get("x-death"));
    let Some(AMQPValue::FieldArray(entries)) = header else { return Vec::new() };
    let tables = entries.as_slice().iter().filter_map(AMQPValue::as_field_table);
    let death = |table: &FieldTable| {
        let value = |name: &str| table.inner().get(name);
        let string = |name: &str| value(name).and_then(string).map(|text| text.to_string());
        let routing_keys = value("routing-keys").and_then(AMQPValue::as_array);
        Death {
            reason: string("reason").unwrap_or_default(),
            queue: string("queue").unwrap_or_default(),
            exchange: string("exchange").unwrap_or_default(),
            routing_key: routing_keys.and_then(|keys| string_of_first(keys.as_slice())),
            count: value("count").and_then(AMQPValue::as_long_long_int).unwrap_or(1),
            at: match value("time") {
                Some(AMQPValue::Timestamp(seconds)) => {
                    i64::try_from(*seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok())
                }
                _ => None,
            },
        }
    };
    tables.map(death).collect()
}

/// Why the broker gave a message up, as a reason and for people.
fn story(deaths: &[Death]) -> (DeadReason, String) {
    let Some(last) = deaths.first() else {
        return (DeadReason::Returned, "it was in the broker's dead-letter queue, without `x-death`".to_owned());
    };
    let reason = match last.reason.as_str() {
        "expired" => DeadReason::Expired,
        "maxlen" => DeadReason::QueueFull,
        "delivery_limit" => DeadReason::DeliveryLimit,
        _ => DeadReason::Returned,
    };
    let step = |death: &Death| {
        let Death { reason, queue, exchange, routing_key, count, at } = death;
        let key = routing_key.as_deref().unwrap_or_default();
        let at = at.map_or_else(String::new, |at| format!(" at {at}"));
        format!("{reason} in queue `{queue}`{at}, {count} in all, published to `{exchange}` with `{key}`")
    };
    let steps: Vec<String> = deaths.iter().map(step).collect();
    (reason, format!("the broker gave it up: {}", steps.join("; before that ")))
}

fn string_of_first(values: &[AMQPValue]) -> Option<CompactString> {
    values.first().and_then(string)
}

fn string(value: &AMQPValue) -> Option<CompactString> {
    match value {
        AMQPValue::LongString(value) => Some(text(&String::from_utf8_lossy(value.as_bytes()))),
        AMQPValue::ShortString(value) => Some(text(value.as_str())),
        _ => None,
    }
}

fn properties(amqp: &BasicProperties) -> Properties {
    let short = |value: &Option<ShortString>| value.as_ref().map(|value| text(value.as_str()));
    let header = |name: &str| amqp.headers().as_ref()?.inner().get(name).and_then(string);
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
