//! A delivery: its properties, its routing key, and a body.

use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use settled_core::contract::{Evidence, Properties, TaskBody};

use super::draw::Draw;
use super::task::{has_nul, holds_of};

/// The properties are drawn from the first bytes, the others are the body.
pub fn check(data: &[u8]) {
    let mut draw = Draw::new(data);
    let backwards: Vec<u8> = data.iter().rev().copied().collect();
    let properties = with_what_few_have(amqp(&mut draw), &mut Draw::new(&backwards));
    let (routing_key, received_at) = (short(&mut draw), Timestamp::UNIX_EPOCH);
    let reply_to = properties.reply_to().clone();
    let mut delivery = Delivery::mock(1, "payments".into(), routing_key, false, draw.rest().to_vec());
    delivery.properties = properties;
    let message = settled_amqp::read(delivery, received_at);

    can_be_stored(&message.properties);
    let evidence = message.properties.evidence.as_deref();
    let kept = evidence.map_or(0, |evidence| serde_json::to_string(&evidence.headers).expect("plain values").len());
    // A control character takes six bytes in JSON.
    assert!(kept <= 8 * Evidence::MAX_HEADER_BYTES, "{kept} bytes of headers are kept");
    let Properties { publisher, user_id, .. } = &message.properties;
    assert!(user_id.is_none() || publisher == user_id, "{publisher:?} is not {user_id:?}");
    let answered = message.properties.reply_to.as_deref();
    let asked = reply_to.as_ref().map(ShortString::as_str);
    assert!(answered.is_none() || answered == asked, "{answered:?} is somebody else than {asked:?}");
    if let (Ok(task), Some(message_id)) = (&message.content, &message.properties.message_id) {
        assert!(message_id.is(task.id), "{message_id} was taken for {}", task.id);
        assert!(!matches!(&task.body, TaskBody::FollowUp(own) if own.payment_id == task.id));
    }
    holds_of(&message);
}

type Setter = fn(BasicProperties, ShortString) -> BasicProperties;

/// Sets those of these properties that the input has.
fn with_texts(amqp: BasicProperties, setters: &[Setter], draw: &mut Draw<'_>) -> BasicProperties {
    setters.iter().fold(amqp, |amqp, set| match draw.maybe(short) {
        Some(text) => set(amqp, text),
        None => amqp,
    })
}

fn amqp(draw: &mut Draw<'_>) -> BasicProperties {
    let setters = [
        BasicProperties::with_content_type as Setter,
        BasicProperties::with_message_id,
        BasicProperties::with_app_id,
        BasicProperties::with_reply_to,
        BasicProperties::with_correlation_id,
    ];
    let mut amqp = with_texts(BasicProperties::default(), &setters, draw);
    if let Some(timestamp) = draw.maybe(|draw| u64::from_be_bytes([(); 8].map(|()| draw.byte()))) {
        amqp = amqp.with_timestamp(timestamp);
    }
    let mut headers = FieldTable::default();
    for name in ["traceparent", "tracestate"] {
        if let Some(value) = draw.maybe(header) {
            headers.insert(name.into(), value);
        }
    }
    amqp.with_headers(headers)
}

/// Drawn from the other end, so that an input goes on meaning what it did.
fn with_what_few_have(mut amqp: BasicProperties, draw: &mut Draw<'_>) -> BasicProperties {
    let setters = [
        BasicProperties::with_user_id as Setter,
        BasicProperties::with_content_encoding,
        BasicProperties::with_type,
        BasicProperties::with_expiration,
        BasicProperties::with_cluster_id,
    ];
    amqp = with_texts(amqp, &setters, draw);
    if let Some(priority) = draw.maybe(Draw::byte) {
        amqp = amqp.with_priority(priority);
    }
    let mut headers = amqp.headers().clone().unwrap_or_default();
    for _ in 0..draw.byte() % 8 {
        headers.insert(short(draw), value(draw, 12));
    }
    amqp.with_headers(headers)
}

/// The value of a header: of any type, in other ones at most `depth` deep.
fn value(draw: &mut Draw<'_>, depth: u8) -> AMQPValue {
    match draw.byte() % 10 {
        0 => AMQPValue::Boolean(draw.flag()),
        1 => AMQPValue::LongInt(draw.byte().into()),
        2 => AMQPValue::Double(f64::from_bits(u64::from_be_bytes([(); 8].map(|()| draw.byte())))),
        3 => AMQPValue::ByteArray(draw.bytes().into()),
        4 => AMQPValue::Timestamp(u64::from(draw.byte()) << 56),
        5 => AMQPValue::Void,
        6 if depth > 0 => {
            let items: Vec<AMQPValue> = (0..draw.byte() % 4).map(|_| value(draw, depth - 1)).collect();
            AMQPValue::FieldArray(items.into())
        }
        7 if depth > 0 => {
            let mut table = FieldTable::default();
            for _ in 0..draw.byte() % 4 {
                table.insert(short(draw), value(draw, depth - 1));
            }
            AMQPValue::FieldTable(table)
        }
        _ => header(draw),
    }
}

fn short(draw: &mut Draw<'_>) -> ShortString {
    draw.text().into()
}

fn header(draw: &mut Draw<'_>) -> AMQPValue {
    match draw.byte() % 4 {
        0 => AMQPValue::LongString(draw.bytes().into()),
        1 => AMQPValue::ShortString(short(draw)),
        2 => AMQPValue::LongLongInt(draw.byte().into()),
        _ => AMQPValue::FieldTable(FieldTable::default()),
    }
}

/// As `jsonb`, in which there is no NUL, and back as it was.
fn can_be_stored(properties: &Properties) {
    let json = serde_json::to_string(properties).expect("plain values");
    assert!(!has_nul(&serde_json::from_str(&json).expect("JSON")), "{json}");
    let again: Properties = serde_json::from_str(&json).expect("what was stored is read");
    assert_eq!(&again, properties);
}
