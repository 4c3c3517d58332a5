//! Makes spans of records. Does no input or output.

use jiff::Timestamp;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use settled_core::contract::{EventKind, TaskType};
use settled_pipeline::labels::Outcome;
use settled_pipeline::traces::{BatchRecord, Context, EventRecord, Record, TaskRecord};

/// Tells apart the spans below that of a task's processing, or beside it.
const QUEUE: u64 = 0x2545_f491_4f6c_dd1d;
const LANE: u64 = 0xbf58_476d_1ce4_e5b9;
const COMMIT: u64 = 0x94d0_49bb_1331_11eb;

/// Flags of a span or link, beside those of its trace: it is known whether the other span is of another process, and it is.
const IS_LOCAL: u32 = 0x100;
const IS_REMOTE: u32 = 0x300;

/// What is the same for all spans of the daemon.
pub(super) struct Names {
    resource: Resource,
    queue: String,
    exchange: String,
}

impl Names {
    /// Creates the names of a daemon that takes tasks from `queue` and publishes events to `exchange`.
    pub(super) fn new(service: &str, queue: &str, exchange: &str) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let attributes = vec![
            text("service.name", service),
            text("service.version", crate::VERSION),
            text("host.name", host),
            number("process.pid", i64::from(std::process::id())),
        ];
        let resource = Resource { attributes, ..Resource::default() };
        Self { resource, queue: queue.to_owned(), exchange: exchange.to_owned() }
    }

    /// Returns a request with the spans of these records.
    pub(super) fn request(&self, records: impl Iterator<Item = Record>) -> ExportTraceServiceRequest {
        let mut spans = Vec::new();
        for record in records {
            match record {
                Record::Task(task) => self.of_task(&task, &mut spans),
                Record::Batch(batch) => spans.push(of_batch(&batch)),
                Record::Event(event) => spans.push(self.of_event(event)),
            }
        }
        let (name, version) = ("settled".to_owned(), crate::VERSION.to_owned());
        let scope = Some(InstrumentationScope { name, version, ..InstrumentationScope::default() });
        let scope_spans = vec![ScopeSpans { scope, spans, ..ScopeSpans::default() }];
        let resource = Some(self.resource.clone());
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans { resource, scope_spans, ..Default::default() }],
        }
    }

    /// Appends the spans of a task. The wait in the broker's queue is before its processing, so it stands beside it, below
    /// the publisher's span.
    fn of_task(&self, task: &TaskRecord, spans: &mut Vec<Span>) {
        let TaskRecord { context, publisher, parent, taken, settled, commit, .. } = *task;
        let child = |salt, name: &str, (began, ended)| span(context.derive(salt), Some(context), name, (began, ended));
        let (verb, began) = if task.resumes { ("resume", commit.began) } else { ("process", taken) };
        let name = format!("{verb} {}", task.task_type.map_or("message", TaskType::name));
        let parent_flags = if task.resumes { IS_LOCAL } else { IS_REMOTE } | u32::from(context.flags);
        spans.push(Span {
            kind: SpanKind::Consumer.into(),
            flags: parent_flags,
            attributes: self.attributes(task),
            status: status(task.outcome),
            ..span(context, Some(parent), &name, (began, settled))
        });
        spans.push(Span { links: vec![link(task.batch)], ..child(COMMIT, "commit", (commit.began, commit.ended)) });
        if task.resumes {
            return;
        }
        spans.push(child(LANE, "wait in lane", (taken, commit.began)));
        if let Some(published) = task.published {
            // Of version 7 ids it is the time in them, else that of the property `timestamp`.
            let granularity = if task.task.get_timestamp().is_some() { "1ms" } else { "1s" };
            spans.push(Span {
                flags: IS_REMOTE | u32::from(context.flags),
                attributes: vec![self.destination(), text("settled.published.granularity", granularity)],
                ..span(context.derive(QUEUE), Some(publisher), "wait in queue", (published.min(taken), taken))
            });
        }
    }

    fn attributes(&self, task: &TaskRecord) -> Vec<KeyValue> {
        let mut attributes = vec![
            text("messaging.system", "rabbitmq"),
            text("messaging.operation.type", "process"),
            text("messaging.operation.name", "process"),
            self.destination(),
            text("settled.outcome", task.outcome.name()),
            text("settled.reason", task.outcome.reason()),
        ];
        if let Some(task_type) = task.task_type {
            attributes.push(text("settled.task.type", task_type.name()));
        }
        if !task.task.is_nil() {
            attributes.push(text("messaging.message.id", task.task.to_string()));
            attributes.push(text("settled.payment.id", task.payment.to_string()));
        }
        attributes
    }

    fn destination(&self) -> KeyValue {
        text("messaging.destination.name", self.queue.as_str())
    }

    fn of_event(&self, event: EventRecord) -> Span {
        let EventRecord { context, parent, id, kind, is_reply, sent, confirmed } = event;
        let (kind, what) = (kind.map_or("event", EventKind::name), if is_reply { "reply" } else { "publish" });
        let mut attributes = vec![
            text("messaging.system", "rabbitmq"),
            text("messaging.operation.type", "send"),
            text("messaging.operation.name", "publish"),
            text("messaging.message.id", id),
        ];
        // A reply goes through the default exchange, which has no name.
        if !is_reply {
            attributes.push(text("messaging.destination.name", self.exchange.as_str()));
            attributes.push(text("messaging.rabbitmq.destination.routing_key", kind));
        }
        Span {
            kind: SpanKind::Producer.into(),
            flags: if is_reply { IS_REMOTE } else { IS_LOCAL } | u32::from(context.flags),
            attributes,
            ..span(context, Some(parent), &format!("{what} {kind}"), (sent, confirmed))
        }
    }
}

fn of_batch(batch: &BatchRecord) -> Span {
    let BatchRecord { context, size, commit, links, unlinked } = batch;
    Span {
        attributes: vec![number("settled.batch.size", i64::try_from(*size).unwrap_or(i64::MAX))],
        links: links.iter().copied().map(link).collect(),
        dropped_links_count: *unlinked,
        ..span(*context, None, "commit batch", (commit.began, commit.ended))
    }
}

/// Returns a span of this process, whose parent is one, too.
fn span(context: Context, parent: Option<Context>, name: &str, (began, ended): (Timestamp, Timestamp)) -> Span {
    Span {
        trace_id: context.trace.to_be_bytes().to_vec(),
        span_id: context.span.to_be_bytes().to_vec(),
        parent_span_id: parent.map_or_else(Vec::new, |parent| parent.span.to_be_bytes().to_vec()),
        flags: IS_LOCAL | u32::from(context.flags),
        name: name.to_owned(),
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: nanos(began),
        // The clock may have been set back meanwhile.
        end_time_unix_nano: nanos(ended.max(began)),
        ..Span::default()
    }
}

fn link(context: Context) -> Link {
    Link {
        trace_id: context.trace.to_be_bytes().to_vec(),
        span_id: context.span.to_be_bytes().to_vec(),
        flags: IS_LOCAL | u32::from(context.flags),
        ..Link::default()
    }
}

/// A rejection is a decision, and a repetition is nothing wrong. A dead letter is.
fn status(outcome: Outcome) -> Option<Status> {
    matches!(outcome, Outcome::DeadLettered(_))
        .then(|| Status { code: StatusCode::Error.into(), message: outcome.reason().to_owned() })
}

fn nanos(at: Timestamp) -> u64 {
    u64::try_from(at.as_nanosecond()).unwrap_or_default()
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
