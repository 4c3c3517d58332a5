//! Converts deliveries to [`Message`]s. lapin's types go no further.

use std::borrow::Cow;

use compact_str::CompactString;
use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use settled_core::contract::{
    Bytes, DeadReason, Evidence, Findings, MAX_BODY_BYTES, MAX_TRACE_BYTES, Message, MessageId, Properties,
};

use crate::headers;

/// Converts a delivery that came at `received_at`.
pub fn read(delivery: Delivery, received_at: Timestamp) -> Message {
    read_with(None, delivery, received_at)
}

/// Converts a delivery that came at `received_at`, with what the connection's filter found out about it.
pub(super) fn read_with(findings: Option<&Findings>, delivery: Delivery, received_at: Timestamp) -> Message {
    let properties = properties_of(&delivery, findings);
    match findings {
        None => Message::read(delivery.data, properties, received_at),
        Some(findings) => Message::read_with(findings, body(delivery.data, findings), properties, received_at),
    }
}

/// Shortens an oversize body to what is stored of it.
fn body(mut data: Vec<u8>, findings: &Findings) -> Vec<u8> {
    if findings.oversize.is_some() {
        // lapin has allocated more than it needs.
        data.truncate(MAX_BODY_BYTES);
        data.shrink_to_fit();
    }
    data
}

fn properties_of(delivery: &Delivery, findings: Option<&Findings>) -> Properties {
    let mut unusual = Unusual::default();
    let mut properties = properties(&delivery.properties, &mut unusual);
    properties.exchange = Some(unusual.text("exchange", &delivery.exchange));
    properties.routing_key = Some(unusual.text("routing_key", &delivery.routing_key));
    properties.redelivered = delivery.redelivered;
    for flaw in findings.iter().flat_map(|findings| &findings.flaws) {
        // The filter has put a NUL in place of each byte that is not UTF-8.
        unusual.evidence().with_nul.insert(flaw.field.into(), Bytes(flaw.bytes.clone()));
    }
    properties.evidence = unusual.0;
    properties
}

/// Converts a delivery from the broker's dead-letter queue.
pub(super) fn read_given_up(findings: Option<&Findings>, delivery: Delivery, received_at: Timestamp) -> Message {
    let deaths = deaths(&delivery.properties);
    let mut properties = properties_of(&delivery, findings);
    // Exchange and routing key as the publisher chose them: dead-lettering changes those of the delivery.
    if let Some(first) = deaths.last() {
        properties.exchange = Some(first.exchange.as_str().into());
        properties.routing_key = first.routing_key.clone().or(properties.routing_key);
    }
    let nothing = Findings::default();
    let findings = findings.unwrap_or(&nothing);
    Message::given_up(findings, body(delivery.data, findings), properties, received_at, death_reason(&deaths))
}

/// An entry of the header `x-death`: a queue that dead-lettered the message.
struct Death {
    reason: String,
    queue: String,
    exchange: String,
    routing_key: Option<CompactString>,
    count: i64,
    at: Option<Timestamp>,
}

/// The most entries of `x-death` that are read, beside the oldest.
const MOST_DEATHS: usize = 8;

/// Reads the header `x-death`, the newest entry first.
fn deaths(amqp: &BasicProperties) -> Vec<Death> {
    let header = amqp.headers().as_ref().and_then(|headers| headers.inner().get("x-death"));
    let Some(AMQPValue::FieldArray(entries)) = header else { return Vec::new() };
    // A publisher can set this header, so its length is bounded. The oldest entry says how the message was published.
    let (newest, oldest) = (entries.as_slice().iter().take(MOST_DEATHS), entries.as_slice().iter().skip(MOST_DEATHS));
    let tables = newest.chain(oldest.last()).filter_map(AMQPValue::as_field_table);
    let death = |table: &FieldTable| {
        let value = |name: &str| table.inner().get(name);
        let string = |name: &str| value(name).and_then(string).map(|text| text.to_string());
        let routing_keys = value("routing-keys").and_then(AMQPValue::as_array);
        Death {
            reason: string("reason").unwrap_or_default(),
            queue: string("queue").unwrap_or_default(),
            exchange: string("exchange").unwrap_or_default(),
            routing_key: routing_keys.and_then(|keys| keys.as_slice().first()).and_then(self::string),
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

/// Returns why the broker dead-lettered a message, as a code and as text for people.
fn death_reason(deaths: &[Death]) -> (DeadReason, String) {
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

fn string(value: &AMQPValue) -> Option<CompactString> {
    match value {
        AMQPValue::LongString(value) => Some(clean(&String::from_utf8_lossy(value.as_bytes())).into()),
        AMQPValue::ShortString(value) => Some(clean(value.as_str()).into()),
        _ => None,
    }
}

fn properties(amqp: &BasicProperties, unusual: &mut Unusual) -> Properties {
    let app_id = unusual.short("app_id", amqp.app_id());
    let user_id = unusual.short("user_id", amqp.user_id());
    let reply_to = unusual.short("reply_to", amqp.reply_to());
    let no_headers = FieldTable::default();
    let table = amqp.headers().as_ref().unwrap_or(&no_headers);
    unusual.rest(amqp);
    unusual.headers(table);
    Properties {
        content_type: unusual.short("content_type", amqp.content_type()),
        message_id: amqp.message_id().as_ref().map(|id| MessageId::from(&*unusual.clean("message_id", id))),
        publisher: user_id.as_ref().or(app_id.as_ref()).cloned(),
        app_id: app_id.filter(|_| user_id.is_some()),
        user_id,
        // With its NULs replaced it would name another queue, and somebody else would get the reply.
        reply_to: reply_to.filter(|_| amqp.reply_to().as_ref().is_some_and(|queue| !queue.as_str().contains('\0'))),
        correlation_id: unusual.short("correlation_id", amqp.correlation_id()),
        traceparent: trace(table, "traceparent"),
        tracestate: trace(table, "tracestate"),
        timestamp: *amqp.timestamp(),
        delivery_mode: *amqp.delivery_mode(),
        ..Properties::default()
    }
}

/// Returns a header of the W3C trace context, if it is text.
fn trace(table: &FieldTable, name: &str) -> Option<CompactString> {
    table.inner().get(name).and_then(string)
}

/// Whether the header is a W3C trace context that [`trace`] keeps in full.
fn is_usual_trace(name: &str, value: &AMQPValue) -> bool {
    let AMQPValue::LongString(text) = value else { return false };
    let fits = text.len() <= MAX_TRACE_BYTES && !text.as_bytes().contains(&0);
    ["traceparent", "tracestate"].contains(&name) && fits && std::str::from_utf8(text.as_bytes()).is_ok()
}

/// Evidence that is kept of what most messages don't have. Allocated when there is something.
#[derive(Default)]
struct Unusual(Option<Box<Evidence>>);

impl Unusual {
    fn evidence(&mut self) -> &mut Evidence {
        self.0.get_or_insert_default()
    }

    /// Returns a property as PostgreSQL can store it. If it has a NUL, keeps its bytes as evidence.
    fn clean<'v>(&mut self, name: &'static str, value: &'v ShortString) -> Cow<'v, str> {
        let text = clean(value.as_str());
        if let Cow::Owned(_) = text {
            let bytes = Bytes(value.as_str().as_bytes().to_vec());
            self.evidence().with_nul.insert(name.into(), bytes);
        }
        text
    }

    fn text(&mut self, name: &'static str, value: &ShortString) -> CompactString {
        self.clean(name, value).into()
    }

    fn short(&mut self, name: &'static str, value: &Option<ShortString>) -> Option<CompactString> {
        value.as_ref().map(|value| self.text(name, value))
    }

    /// Keeps the properties that tasks do not use.
    fn rest(&mut self, amqp: &BasicProperties) {
        let texts = [
            ("content_encoding", amqp.content_encoding()),
            ("type", amqp.kind()),
            ("expiration", amqp.expiration()),
            ("cluster_id", amqp.cluster_id()),
        ];
        for (name, value) in texts {
            let Some(text) = self.short(name, value) else { continue };
            let evidence = self.evidence();
            match name {
                "content_encoding" => evidence.content_encoding = Some(text),
                "type" => evidence.kind = Some(text),
                "expiration" => evidence.expiration = Some(text),
                _ => evidence.cluster_id = Some(text),
            }
        }
        if let Some(priority) = *amqp.priority() {
            self.evidence().priority = Some(priority);
        }
    }

    fn headers(&mut self, table: &FieldTable) {
        let mut room = Evidence::MAX_HEADER_BYTES;
        for (name, value) in table.inner() {
            if !is_usual_trace(name.as_str(), value) {
                headers::keep(name.as_str(), value, &mut room, self.evidence());
            }
        }
    }
}

/// Replaces NUL, which PostgreSQL cannot store: a bad property is no reason to dead-letter a task.
fn clean(value: &str) -> Cow<'_, str> {
    if value.contains('\0') { value.replace('\0', "\u{fffd}").into() } else { value.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_allocated_for_what_a_usual_message_has() {
        let mut delivery = Delivery::mock(1, "payments".into(), "task.transfer".into(), false, b"{}".to_vec());
        let mut headers = FieldTable::default();
        headers.insert("traceparent".into(), AMQPValue::LongString("00-1-2-01".into()));
        delivery.properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(2)
            .with_app_id("shop".into())
            .with_user_id("shop".into())
            .with_reply_to("answers".into())
            .with_correlation_id("7".into())
            .with_headers(headers);
        let properties = read(delivery, Timestamp::UNIX_EPOCH).properties;
        assert_eq!(properties.evidence, None);
        assert_eq!((properties.publisher.as_deref(), properties.app_id.as_deref()), (Some("shop"), Some("shop")));
        assert_eq!((properties.exchange.as_deref(), properties.delivery_mode), (Some("payments"), Some(2)));
    }
}
