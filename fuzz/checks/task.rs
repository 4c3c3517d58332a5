//! A body, as it came, without properties.

use jiff::Timestamp;
use serde_json::Value;
use settled_core::contract::{
    DeadLetter, DeadReason, Event, EventKind, MAX_BODY_BYTES, Message, MessageId, PaymentState, Properties, Rejection,
    Task, canonical_metadata, decode, decode_stored, is_unset,
};
use settled_pipeline::outbox::{EventSettings, publications};

/// Any bytes as the body of a message.
pub fn check(data: &[u8]) {
    holds_of(&Message::read(data.to_vec(), Properties::default(), Timestamp::UNIX_EPOCH));
}

/// What holds of every message that was read.
pub(super) fn holds_of(message: &Message) {
    let _ = message.published_at();
    match &message.content {
        Ok(task) => is_a_task(task, message),
        Err(letter) => is_a_dead_letter(letter, message),
    }
}

/// What decodes encodes to the same meaning, can be stored, and can be told.
fn is_a_task(task: &Task, message: &Message) {
    let plain = Properties::default();
    let json = task.to_json();
    if json.len() <= MAX_BODY_BYTES {
        let again = decode(json.as_bytes(), &plain).expect("its own JSON is a task");
        assert_eq!(&again, task, "{json}");
        assert_eq!(again.to_json(), json, "canonical");
        assert_eq!(task.differs_from(&again), None);
    }
    // What was written in another way: other order, other white space, other escapes.
    let value: Value = serde_json::from_slice(&message.body).expect("a task is JSON");
    let respelled = serde_json::to_string_pretty(&value).expect("a value is JSON");
    if respelled.len() <= MAX_BODY_BYTES {
        assert_eq!(decode(respelled.as_bytes(), &plain).as_ref(), Ok(task), "{respelled}");
    }
    assert!(std::str::from_utf8(&message.body).is_ok(), "a task is text, as which it is stored");
    assert!(!has_nul(&value), "PostgreSQL can't store {value}");
    if let Some(metadata) = task.body.metadata() {
        assert_eq!(canonical_metadata(metadata).as_deref(), Some(metadata), "canonical");
    }
    if let Some(at) = task.when.execute_at {
        let years =
            "2002-01-01T00:00:00Z".parse().expect("a time")..="9998-12-31T23:59:59.999999Z".parse().expect("a time");
        assert!(years.contains(&at) && at.as_nanosecond() % 1000 == 0, "{at}");
    }
    assert!(task.refers_to().all(|other| other != task.id), "nothing waits for itself");
    assert!(!task.refers_to().chain([task.id]).any(is_unset), "an id that nobody has set is refused");
    assert_eq!(decode_stored(&message.body).as_ref(), Ok(task), "what is accepted can be read back");
    assert_eq!(decode_stored(task.to_stored_json().as_bytes()).as_ref(), Ok(task), "in the form of the ledger, too");
    assert_eq!(task.body.ordering_account().is_none(), task.body.task_type().is_follow_up());
    is_told(task, message);
}

/// Its event is one line that the relay reads as one message.
fn is_told(task: &Task, message: &Message) {
    let state = PaymentState::Rejected;
    let event = Event {
        kind: EventKind::of(task.body.task_type(), state),
        task,
        properties: &message.properties,
        state,
        version: 1,
        rejection: Some(Rejection::AccountNotFound),
        moved: None,
        settled_at: Timestamp::UNIX_EPOCH,
        payment: None,
        balances: &[],
        source: "settled",
    };
    let mut line = Vec::new();
    event.write(&mut line);
    let told = publications(1, &line, EventSettings::default().encoding()).expect("an event is readable");
    let [told] = told.as_slice() else { panic!("an event is one message, not {}", told.len()) };
    assert_eq!((told.routing_key.as_ref(), told.events), (event.kind.name(), 1));
    let data: Value = serde_json::from_slice(&told.body).expect("an event's data is JSON");
    assert_eq!(data["id"], task.id.to_string());
}

/// It has a reason that people can read, and names the field if one is at fault.
fn is_a_dead_letter(letter: &DeadLetter, message: &Message) {
    let DeadLetter { reason, field, detail, task_id } = letter;
    assert!(!detail.is_empty() && !detail.contains('\0'), "{letter:?}");
    if message.body.len() > MAX_BODY_BYTES {
        assert_eq!((*reason, field), (DeadReason::Oversize, &None), "{letter:?}");
        return;
    }
    assert_eq!(*reason, DeadReason::Malformed, "{letter:?}");
    if let Some(field) = field {
        assert!(detail.starts_with(&format!("`{field}`: ")), "{letter:?}");
        assert!(field.chars().count() <= 64 + "legs[63].".len() && !field.contains('\0'), "{letter:?}");
    }
    // Of a sound object it is a field that is at fault, or a property; unless the name of a field
    // can't be told.
    if field.is_none()
        && let Ok(value) = serde_json::from_slice::<Value>(&message.body)
    {
        assert!(!value.is_object() || has_nul(&value), "{letter:?}: {value}");
    }
    let named = message.properties.message_id.as_ref().and_then(MessageId::uuid);
    assert!(field.is_some() || *task_id == named, "{letter:?}");
    let _ = letter.digest(&message.body, &message.properties);
}

/// Whether a text anywhere in a value has what PostgreSQL can't store.
pub(super) fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
