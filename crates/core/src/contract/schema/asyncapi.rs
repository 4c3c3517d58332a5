//! The AsyncAPI 3.0 document of the whole contract: exchanges, queue, messages with their headers.
//! Payloads are those of the JSON Schemas beside it.

use serde_json::{Map, Value, json};

use super::schema_of;
use super::task::Task;
use crate::contract::{EventKind, TaskType};

const BINDING: &str = "0.3.0";

/// The document.
pub(super) fn document() -> Value {
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "settled",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Payment tasks in, what became of them out. Exchanges and queue have the names that \
                the daemon's settings give them; these are the defaults. AMQP properties that are no headers \
                are described in `x-amqp-properties`.",
            "license": { "name": "Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "channels": channels(),
        "operations": operations(),
        "components": { "messages": messages(), "schemas": { "Trace": trace() } },
    })
}

fn channels() -> Value {
    let types = TaskType::ALL.map(TaskType::name);
    let kinds = EventKind::ALL.map(EventKind::name);
    json!({
        "tasks": {
            "address": "task.{type}",
            "title": "Tasks",
            "description": "Where tasks are published: persistent, with `mandatory`, and with publisher confirms.",
            "parameters": { "type": { "description": "The task's type.", "enum": types } },
            "messages": references("#/components/messages", types.map(|name| (name, task_key(name)))),
            "bindings": exchange("payments"),
        },
        "taskQueue": {
            "address": "payments.tasks",
            "title": "The queue of tasks",
            "description": "A quorum queue, bound to the exchange of the tasks with `task.#`: what the daemon consumes.",
            "messages": references("#/components/messages", types.map(|name| (name, task_key(name)))),
            "bindings": { "amqp": {
                "is": "queue",
                "queue": { "name": "payments.tasks", "durable": true, "exclusive": false, "autoDelete": false },
                "bindingVersion": BINDING,
            } },
        },
        "events": {
            "address": "{type}",
            "title": "Events",
            "description": "What became of tasks: one message an event, or with `events.format = \"batch\"` many of one \
                type in one message. Delivered at least once and in any order.",
            "parameters": { "type": { "description": "The event's type.", "enum": kinds } },
            "messages": references("#/components/messages", kinds.into_iter().flat_map(|kind| {
                [single_key(kind), batch_key(kind)].map(|key| (key.clone(), key))
            })),
            "bindings": exchange("payments.events"),
        },
        "replies": {
            "address": null,
            "title": "Replies",
            "description": "The queue that a task's `reply_to` names, through the default exchange. Always one message \
                an outcome.",
            "messages": references("#/components/messages", kinds.map(|kind| (reply_key(kind), reply_key(kind)))),
        },
    })
}

fn operations() -> Value {
    let of = |channel: &str, keys: Vec<String>| -> Vec<Value> {
        keys.into_iter().map(|key| json!({ "$ref": format!("#/channels/{channel}/messages/{key}") })).collect()
    };
    let kinds = EventKind::ALL.map(EventKind::name);
    json!({
        "applyTask": {
            "action": "receive",
            "title": "Apply a task",
            "description": "Exactly once: the `id` is the key. A message that can't become a payment \
                becomes a dead letter: whoever asks for a reply is told why.",
            "channel": { "$ref": "#/channels/tasks" },
            "messages": of("tasks", TaskType::ALL.map(|each| each.name().to_owned()).into()),
            "bindings": { "amqp": { "ack": true, "bindingVersion": BINDING } },
            "reply": {
                "address": {
                    "location": "$message.header#/reply_to",
                    "description": "The AMQP property `reply_to`; without it there is no reply.",
                },
                "channel": { "$ref": "#/channels/replies" },
                "messages": of("replies", kinds.map(reply_key).into()),
            },
        },
        "tellEvent": {
            "action": "send",
            "title": "Tell what became of a task",
            "channel": { "$ref": "#/channels/events" },
            "messages": of("events", kinds.into_iter().flat_map(|kind| [single_key(kind), batch_key(kind)]).collect()),
            "bindings": { "amqp": { "deliveryMode": 2, "mandatory": true, "bindingVersion": BINDING } },
        },
    })
}

fn messages() -> Value {
    let mut messages = Map::new();
    for task_type in TaskType::ALL {
        messages.insert(task_key(task_type.name()), task(task_type));
    }
    for kind in EventKind::ALL {
        let name = kind.name();
        let id = id_of(kind);
        let correlated = match kind {
            EventKind::TaskDeadLettered => "The task's id, else the message's, else the event's.",
            _ => "The task's id.",
        };
        messages.insert(single_key(name), single(kind, id, correlated));
        messages.insert(batch_key(name), batch(kind));
        messages.insert(reply_key(name), single(kind, &format!("{id}/reply"), "That of the task's message."));
    }
    messages.into()
}

/// The payload is those of the schema's alternatives that are of the type.
fn task(task_type: TaskType) -> Value {
    let schema = schema_of::<Task>();
    let alternatives = schema.get("oneOf").and_then(Value::as_array).expect("one alternative a type, or two");
    let own = |(_, each): &(usize, &Value)| each["properties"]["type"]["const"] == task_type.name();
    let own: Vec<(usize, &Value)> = alternatives.iter().enumerate().filter(own).collect();
    let references: Vec<Value> =
        own.iter().map(|(place, _)| json!({ "$ref": format!("./task.schema.json#/oneOf/{place}") })).collect();
    let payload = if let [one] = references.as_slice() { one.clone() } else { json!({ "oneOf": references }) };
    json!({
        "name": task_type.name(),
        "summary": own.first().map(|(_, each)| &each["description"]),
        "contentType": "application/json",
        "headers": { "$ref": "#/components/schemas/Trace" },
        "payload": payload,
        "x-amqp-properties": {
            "content_type": "`application/json`, if it is set.",
            "message_id": "The body's `id`, if it is set.",
            "user_id": "The broker's user who publishes, which the broker verifies; kept as the `publisher`.",
            "app_id": "Who publishes, where there is no `user_id`; kept as the `publisher`.",
            "reply_to": "A queue to which the outcome is also sent.",
            "correlation_id": "Comes back with the reply.",
            "timestamp": "When it was published; used for the measurement of latency when the id is not of version 7.",
        },
    })
}

/// An event in binary mode: its attributes are headers, its data is the body.
fn single(kind: EventKind, message_id: &str, correlation_id: &str) -> Value {
    let mut properties = Map::new();
    for (name, schema) in attributes(kind) {
        properties.insert(format!("cloudEvents:{name}"), schema);
    }
    let required: Vec<String> = properties.keys().cloned().collect();
    properties.extend(trace()["properties"].as_object().cloned().unwrap_or_default());
    json!({
        "name": kind.name(),
        "summary": meaning(kind),
        "contentType": "application/json",
        "headers": { "type": "object", "required": required, "properties": properties },
        "payload": { "$ref": data_of(kind) },
        "x-amqp-properties": {
            "message_id": format!("`{message_id}`: the same however often it is published."),
            "correlation_id": correlation_id,
            "type": format!("`{}`", kind.name()),
        },
    })
}

/// Events of one type in structured mode, as one array.
fn batch(kind: EventKind) -> Value {
    let mut properties: Map<String, Value> =
        attributes(kind).into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect();
    properties.insert("datacontenttype".into(), json!({ "const": "application/json" }));
    properties.insert("data".into(), json!({ "$ref": data_of(kind) }));
    let required: Vec<String> = properties.keys().cloned().collect();
    properties.extend(trace()["properties"].as_object().cloned().unwrap_or_default());
    json!({
        "name": kind.name(),
        "summary": meaning(kind),
        "contentType": "application/cloudevents-batch+json",
        "payload": {
            "type": "array",
            "minItems": 1,
            "items": { "type": "object", "required": required, "properties": properties },
        },
        "x-amqp-properties": {
            "message_id": "Changes when the same events are published again: repetitions are told by the `id` of each.",
            "type": format!("`{}`", kind.name()),
        },
    })
}

/// What an event's id is made of.
const fn id_of(kind: EventKind) -> &'static str {
    match kind {
        EventKind::TaskDeadLettered => "dead-letter/<digest>",
        _ => "<task id>/<version>",
    }
}

/// The schema of an event's data.
const fn data_of(kind: EventKind) -> &'static str {
    match kind {
        EventKind::TaskDeadLettered => "./dead-letter.schema.json",
        _ => "./event.schema.json",
    }
}

/// The attributes of CloudEvents that every event has.
fn attributes(kind: EventKind) -> [(&'static str, Value); 6] {
    let text = |meaning: &str| json!({ "type": "string", "description": meaning });
    let time = json!({
        "type": "string", "format": "date-time", "description": "When the task came to its state, by the database's clock.",
    });
    [
        ("specversion", json!({ "const": "1.0" })),
        ("id", text(&format!("`{}`: the same for each publication of the same event.", id_of(kind)))),
        (
            "source",
            text(
                "Which ledger: the setting `events.source`, a slash, and the ledger's incarnation, which is another one after a restored backup.",
            ),
        ),
        ("type", json!({ "const": kind.name() })),
        (
            "subject",
            text(match kind {
                EventKind::TaskDeadLettered => "The task's id, else the message's, else the event's.",
                _ => "The task's id.",
            }),
        ),
        ("time", time),
    ]
}

/// What the kind's own documentation says.
fn meaning(kind: EventKind) -> Value {
    let schema = schema_of::<EventKind>();
    let alternatives = schema.get("oneOf").and_then(Value::as_array).expect("one a kind");
    let own = alternatives.iter().find(|each| each["const"] == kind.name()).expect("every kind is named");
    own["description"].clone()
}

fn trace() -> Value {
    json!({
        "type": "object",
        "properties": {
            "traceparent": { "type": "string", "description": "W3C trace context: that of the task, carried on." },
            "tracestate": { "type": "string", "description": "W3C trace context: that of the task, carried on." },
        },
    })
}

fn exchange(name: &str) -> Value {
    json!({ "amqp": {
        "is": "routingKey",
        "exchange": { "name": name, "type": "topic", "durable": true, "autoDelete": false },
        "bindingVersion": BINDING,
    } })
}

fn references<K: Into<String>>(to: &str, names: impl IntoIterator<Item = (K, String)>) -> Map<String, Value> {
    names.into_iter().map(|(name, key)| (name.into(), json!({ "$ref": format!("{to}/{key}") }))).collect()
}

fn task_key(name: &str) -> String {
    format!("task.{name}")
}

fn single_key(kind: &str) -> String {
    kind.to_owned()
}

fn batch_key(kind: &str) -> String {
    format!("{kind}.batch")
}

fn reply_key(kind: &str) -> String {
    format!("{kind}.reply")
}
