//! `schemas/asyncapi.json` against what the daemon does: names, references, and real messages.
//! That it is current is tested where it is made.

use jiff::Timestamp;
use jsonschema::Validator;
use serde_json::{Map, Value, json as value};
use settled_amqp::BrokerSettings;
use settled_core::contract::{
    DeadLetterEvent, DeadReason, Event, EventKind, PaymentState, Properties, Reply, TaskType, decode,
};
use settled_pipeline::outbox::{Encoding, EventFormat, EventSettings, Publication, publications};

use super::json;

fn schemas(file: &str) -> Value {
    json(&format!("schemas/{file}"))
}

fn document() -> Value {
    schemas("asyncapi.json")
}

#[test]
fn exchanges_and_queue_have_the_names_that_settings_have_by_default() {
    let (document, broker, events) = (document(), BrokerSettings::default(), EventSettings::default());
    let binding = |channel: &str, of: &str| document["channels"][channel]["bindings"]["amqp"][of]["name"].clone();
    assert_eq!(binding("tasks", "exchange"), broker.exchange);
    assert_eq!(binding("taskQueue", "queue"), broker.queue);
    assert_eq!(document["channels"]["taskQueue"]["address"], broker.queue);
    assert_eq!(binding("events", "exchange"), events.exchange);
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > TaskType::ALL.len() + 4 * EventKind::ALL.len(), "{}", references.len());
    for reference in references {
        let (file, pointer) = reference.split_once('#').unwrap_or((&reference, ""));
        let target = if file.is_empty() { document.clone() } else { schemas(file.trim_start_matches("./")) };
        assert!(target.pointer(pointer).is_some(), "{reference}");
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            references.extend(object.get("$ref").and_then(Value::as_str).map(str::to_owned));
            object.values().for_each(|value| collect(value, references));
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}

/// Of one of the document's schemas; the files that it refers to are embedded under their names.
fn validator(schema: &Value) -> Validator {
    let embedded = |file: &str| {
        let mut schema = schemas(file);
        schema["$id"] = value!(file);
        schema
    };
    let (event, dead_letter) = (embedded("event.schema.json"), embedded("dead-letter.schema.json"));
    let whole = value!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://settled.example/asyncapi.json",
        "$defs": { "event": event, "dead letter": dead_letter },
        "allOf": [schema],
    });
    jsonschema::draft202012::options().should_validate_formats(true).build(&whole).expect("a schema")
}

/// The lines of an event of each kind, with its reply.
fn lines() -> Vec<u8> {
    let body = r#"{"id":"01920000-0000-7000-8000-000000000001","type":"transfer","debit_account":"a","credit_account":"b","amount":1,"currency":"USD"}"#;
    let task = decode(body.as_bytes(), &Properties::default()).expect("a task");
    let trace = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
    let properties = Properties { traceparent: trace, tracestate: Some("k=v".into()), ..Properties::default() };
    let mut lines = Vec::new();
    for kind in EventKind::ALL {
        let reply = Reply { reply_to: "answers", correlation_id: Some("7") };
        if kind == EventKind::TaskDeadLettered {
            let event = DeadLetterEvent {
                digest: &[7; 32],
                task_id: Some(task.id),
                task_type: Some(TaskType::Transfer),
                reason: DeadReason::Malformed,
                field: Some("amount"),
                detail: "`amount`: missing",
                properties: &properties,
                at: Timestamp::UNIX_EPOCH,
                source: "settled",
            };
            event.write(&mut lines);
            event.write_reply(reply, &mut lines);
            continue;
        }
        let event = Event {
            kind,
            task: &task,
            properties: &properties,
            state: PaymentState::Settled,
            version: 1,
            rejection: None,
            moved: None,
            settled_at: Timestamp::UNIX_EPOCH,
            payment: None,
            balances: &[],
            source: "settled",
        };
        event.write(&mut lines);
        event.write_reply(reply, &mut lines);
    }
    lines
}

#[track_caller]
fn fits(document: &Value, key: &str, publication: &Publication<'_>) {
    let message = &document["components"]["messages"][key];
    assert_eq!(message["contentType"], publication.content_type, "{key}");
    let body: Value = serde_json::from_slice(&publication.body).expect("JSON");
    let payload = validator(&message["payload"]);
    assert!(payload.is_valid(&body), "{key}: {:?}", payload.validate(&body));
    let Some(attributes) = &publication.attributes else { return };
    let trace = [("traceparent", &publication.traceparent), ("tracestate", &publication.tracestate)];
    let trace = trace.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
    let sent: Map<String, Value> =
        attributes.iter().cloned().chain(trace).map(|(name, value)| (name.to_owned(), value!(value))).collect();
    let described = message["headers"]["properties"].as_object().expect("headers");
    assert!(sent.keys().eq(described.keys()), "{key}: {:?} and {:?}", sent.keys(), described.keys());
    let (sent, headers) = (Value::Object(sent), validator(&message["headers"]));
    assert!(headers.is_valid(&sent), "{key}: {:?}", headers.validate(&sent));
}

#[test]
fn what_is_published_is_what_the_document_describes() {
    let (document, lines) = (document(), lines());
    for (format, suffix) in [(EventFormat::Single, ""), (EventFormat::Batch, ".batch")] {
        let encoding = Encoding { format, ..EventSettings::default().encoding() };
        let publications = publications(1, &lines, encoding).expect("readable");
        assert_eq!(publications.len(), 2 * EventKind::ALL.len());
        for publication in &publications {
            let suffix = if publication.reply_to.is_some() { ".reply" } else { suffix };
            fits(&document, &format!("{}{suffix}", publication.routing_key), publication);
        }
    }
}
