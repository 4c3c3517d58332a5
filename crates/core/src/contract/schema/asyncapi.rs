//! The AsyncAPI 3.1 document of the whole contract: exchanges, queue, messages with their headers.
//! Payloads are those of the JSON Schemas beside it.

use serde_json::{Map, Value, json};

use super::task::Task;
use super::{meaning, schema_of};
use crate::contract::{EventKind, TaskType};

const BINDING: &str = "0.3.0";

/// The document.
pub(super) fn document() -> Value {
    json!({
        "asyncapi": "3.1.0",
        "info": {
            "title": "settled",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Payment tasks in, what became of them out. Exchanges and queue have the names that \
                the daemon's settings give them; these are the defaults. The headers of events begin with what `events.header_prefix` says. AMQP properties that are \
                no headers are described in `x-amqp-properties`.",
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
            "messages": references(types.map(|name| (name, format!("task.{name}")))),
            "bindings": exchange("payments"),
        },
        "taskQueue": {
            "address": "payments.tasks",
            "title": "The queue of tasks",
            "description": "A quorum queue, bound to the exchange of the tasks with `task.#`: what the daemon consumes.",
            "messages": references(types.map(|name| (name, format!("task.{name}")))),
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
            "messages": references(kinds.into_iter().flat_map(published).map(|key| (key.clone(), key))),
            "bindings": exchange("payments.events"),
        },
        "replies": {
            "address": null,
            "title": "Replies",
            "description": "The queue that a task's `reply_to` names, through the default exchange. Always one message \
                an outcome.",
            "messages": references(kinds.map(reply).map(|key| (key.clone(), key))),
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
                "messages": of("replies", kinds.map(reply).into()),
            },
        },
        "tellEvent": {
            "action": "send",
            "title": "Tell what became of a task",
            "channel": { "$ref": "#/channels/events" },
            "messages": of("events", kinds.into_iter().flat_map(published).collect()),
            "bindings": { "amqp": { "deliveryMode": 2, "mandatory": true, "bindingVersion": BINDING } },
        },
    })
}

/// The messages in which events of a kind are published: alone, and many in one.
fn published(kind: &str) -> [String; 2] {
    [kind.to_owned(), format!("{kind}.batch")]
}

/// The message in which an event of a kind is the reply.
fn reply(kind: &str) -> String {
    format!("{kind}.reply")
}

fn messages() -> Value {
    let mut messages = Map::new();
    for task_type in TaskType::ALL {
        messages.insert(format!("task.{}", task_type.name()), task(task_type));
    }
    for kind in EventKind::ALL {
        let (About { id, subject, .. }, [alone, many]) = (about(kind), published(kind.name()));
        messages.insert(alone, single(kind, id, subject));
        messages.insert(many, batch(kind));
        messages.insert(reply(kind.name()), single(kind, &format!("{id}/reply"), "That of the task's message."));
    }
    messages.into()
}

/// The payload is that of the schema's alternatives that is of the type.
fn task(task_type: TaskType) -> Value {
    let schema = schema_of::<Task>();
    let alternatives = schema.get("oneOf").and_then(Value::as_array).expect("one alternative a type");
    let own = |(_, each): &(usize, &Value)| each["properties"]["type"]["const"] == task_type.name();
    let (place, alternative) = alternatives.iter().enumerate().find(own).expect("every type has one");
    json!({
        "name": task_type.name(),
        "summary": alternative["description"],
        "contentType": "application/json",
        "headers": { "$ref": "#/components/schemas/Trace" },
        "payload": { "$ref": format!("./task.schema.json#/oneOf/{place}") },
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
    json!({
        "name": kind.name(),
        "summary": meaning::<EventKind>(kind.name()),
        "contentType": "application/json",
        "headers": attributes(kind, "cloudEvents:", []),
        "payload": { "$ref": about(kind).data },
        "x-amqp-properties": {
            "message_id": format!("`{message_id}`: the same however often it is published."),
            "correlation_id": correlation_id,
            "type": format!("`{}`", kind.name()),
        },
    })
}

/// Events of one type in structured mode, as one array.
fn batch(kind: EventKind) -> Value {
    let data = json!({ "$ref": about(kind).data });
    let beside = [("datacontenttype", json!({ "const": "application/json" })), ("data", data)];
    json!({
        "name": kind.name(),
        "summary": meaning::<EventKind>(kind.name()),
        "contentType": "application/cloudevents-batch+json",
        "payload": { "type": "array", "minItems": 1, "items": attributes(kind, "", beside) },
        "x-amqp-properties": {
            "message_id": "Changes when the same events are published again: repetitions are told by the `id` of each.",
            "type": format!("`{}`", kind.name()),
        },
    })
}

/// What an event is about.
struct About {
    /// What its id is made of.
    id: &'static str,
    subject: &'static str,
    /// The schema of its data.
    data: &'static str,
}

const fn about(kind: EventKind) -> About {
    match kind {
        EventKind::TaskDeadLettered => About {
            id: "dead-letter/<digest>",
            subject: "The task's id, else the message's, else the event's.",
            data: "./dead-letter.schema.json",
        },
        _ => About { id: "<task id>/<version>", subject: "The task's id.", data: "./event.schema.json" },
    }
}

/// The attributes of CloudEvents that every event has, what is `beside` them, and the trace context, which few have.
fn attributes<const N: usize>(kind: EventKind, prefix: &str, beside: [(&str, Value); N]) -> Value {
    let text = |meaning: &str| json!({ "type": "string", "description": meaning });
    let About { id, subject, .. } = about(kind);
    let every = [
        ("specversion", json!({ "const": "1.0" })),
        ("id", text(&format!("`{id}`: the same for each publication of the same event."))),
        (
            "source",
            text(
                "Which ledger: the setting `events.source`, a slash, and the ledger's incarnation, which is another one after a restored backup.",
            ),
        ),
        ("type", json!({ "const": kind.name() })),
        ("subject", text(subject)),
        (
            "time",
            json!({
                "type": "string", "format": "date-time", "description": "When the task came to its state, by the database's clock.",
            }),
        ),
    ];
    let mut properties: Map<String, Value> =
        every.into_iter().chain(beside).map(|(name, schema)| (format!("{prefix}{name}"), schema)).collect();
    let required: Vec<String> = properties.keys().cloned().collect();
    properties.extend(trace()["properties"].as_object().cloned().unwrap_or_default());
    json!({ "type": "object", "required": required, "properties": properties })
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

fn references<K: Into<String>>(names: impl IntoIterator<Item = (K, String)>) -> Map<String, Value> {
    let to = |key: String| json!({ "$ref": format!("#/components/messages/{key}") });
    names.into_iter().map(|(name, key)| (name.into(), to(key))).collect()
}
