//! The event and the reply about a message that became a dead letter.

use std::fmt;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::{Document, EventKind, Reply, ReplyDocument, write_line};
#[cfg(test)]
use crate::contract::schema::values;
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
    /// Why the message can't become a payment.
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

/// What is told of a message that became a dead letter: the body of a reply and of an event of the type
/// `task.dead_lettered` in the format `single`, the `data` of such an event in the format `batch`.
///
/// Later versions may add fields.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(title = "settled: dead letter data"))]
pub(in crate::contract) struct Data<'a> {
    /// The task's id: the body's, or that of `message_id` where the body can't be read. Left out where
    /// neither says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "values::Id"))]
    id: Option<Uuid>,
    /// The task's type; only of a well-formed task.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "values::TypeName"))]
    task_type: Option<&'static str>,
    /// Tells it from a task that has an outcome.
    #[cfg_attr(test, schemars(extend("const" = "dead_lettered")))]
    state: &'static str,
    /// Why.
    #[cfg_attr(test, schemars(with = "values::DeadReasonName"))]
    reason: DeadReason,
    /// The field or property at fault, if one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "String"))]
    field: Option<&'a str>,
    /// What is wrong and what was expected, for people.
    detail: &'a str,
    /// The message's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "String"))]
    message_id: Option<&'a MessageId>,
    /// The message's correlation id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "String"))]
    correlation_id: Option<&'a str>,
    /// Who published it: the `user_id` of the message, else its `app_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "String"))]
    publisher: Option<&'a str>,
    /// When it was committed as a dead letter, by the database's clock.
    #[cfg_attr(test, schemars(with = "values::Time"))]
    dead_lettered_at: Timestamp,
}
