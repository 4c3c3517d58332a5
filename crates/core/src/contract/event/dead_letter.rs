//! The event and the reply about a message that became a dead letter.

use std::fmt;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::{Document, EventKind, Reply, ReplyDocument, write_line};
use crate::contract::{Bytes, DeadReason, MessageId, Properties, TaskType};

/// The content of an event about a dead letter.
#[derive(Clone, Copy, Debug)]
pub struct DeadLetterEvent<'a> {
    /// The digest of the dead letter. A redelivery has the same, and so the same event id.
    pub digest: &'a [u8; 32],
    /// The task's id, where it could be read.
    pub task_id: Option<Uuid>,
    /// The task's type, where it could be read.
    pub task_type: Option<TaskType>,
    /// The kind of reason.
    pub reason: DeadReason,
    /// The name of the field or property that is wrong, if one is.
    pub field: Option<&'a str>,
    /// What is wrong and what was expected, in words.
    pub detail: &'a str,
    /// The properties of the message.
    pub properties: &'a Properties,
    /// When the dead letter was committed, by the database's clock.
    pub at: Timestamp,
    /// The CloudEvents `source`.
    pub source: &'a str,
}

impl<'a> DeadLetterEvent<'a> {
    /// Appends the event as one line.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_line(out, &self.document());
    }

    /// Appends the event as a reply, as one line.
    pub fn write_reply(&self, reply: Reply<'a>, out: &mut Vec<u8>) {
        let Reply { reply_to, correlation_id } = reply;
        write_line(out, &ReplyDocument { reply_to, correlation_id, event: self.document() });
    }

    fn document(&self) -> impl Serialize + use<'a> {
        let Self { task_id, task_type, reason, field, detail, properties, at, source, .. } = *self;
        let id = Id(self.digest);
        Document {
            specversion: "1.0",
            id,
            source,
            kind: EventKind::TaskDeadLettered.name(),
            subject: Subject { task_id, message_id: properties.message_id.as_ref(), id },
            time: at,
            datacontenttype: "application/json",
            traceparent: properties.traceparent.as_deref(),
            tracestate: properties.tracestate.as_deref(),
            data: Data {
                id: task_id,
                task_type: task_type.map(TaskType::name),
                state: "dead_lettered",
                reason,
                field,
                detail,
                message_id: properties.message_id.as_ref(),
                correlation_id: properties.correlation_id.as_deref(),
                publisher: properties.publisher.as_deref(),
                dead_lettered_at: at,
            },
        }
    }
}

/// `dead-letter/<digest>`.
#[derive(Clone, Copy)]
struct Id<'a>(&'a [u8; 32]);

impl fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dead-letter/{}", Bytes::to_hex(self.0))
    }
}

impl Serialize for Id<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The task's id, else the message's, else that of the event.
struct Subject<'a> {
    task_id: Option<Uuid>,
    message_id: Option<&'a MessageId>,
    id: Id<'a>,
}

impl Serialize for Subject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.task_id, self.message_id) {
            (Some(id), _) => serializer.collect_str(&id),
            (None, Some(id)) => serializer.collect_str(id),
            (None, None) => self.id.serialize(serializer),
        }
    }
}

#[derive(Serialize)]
struct Data<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Uuid>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    task_type: Option<&'static str>,
    state: &'static str,
    reason: DeadReason,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a MessageId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    publisher: Option<&'a str>,
    dead_lettered_at: Timestamp,
}
