//! Events about the outcomes of tasks, as CloudEvents 1.0.
//!
//! An event is encoded once, as one line of structured CloudEvents JSON. The relay sends that line in a batch as it
//! is, or turns its attributes into headers (binary mode).

mod data;
mod dead_letter;
mod kind;
mod view;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use self::data::Data;
pub use self::dead_letter::DeadLetterEvent;
pub use self::kind::EventKind;
pub use self::view::{LegView, PaymentView};
#[cfg(test)]
use super::{MAX_BALANCE, schema};
use super::{PaymentState, Properties, Rejection, Task};
#[cfg(test)]
pub(super) use {self::data::Data as EventData, self::dead_letter::Data as DeadLetterData};

/// The balance of an account right after a task; amounts are in minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Balance"))]
pub struct BalanceAfter<'a> {
    /// Name of the account.
    #[cfg_attr(test, schemars(with = "schema::values::AccountName"))]
    pub account: &'a str,
    /// The sum of the account's entries.
    #[cfg_attr(test, schemars(range(min = -MAX_BALANCE, max = MAX_BALANCE)))]
    pub posted: i64,
    /// The amount that holds reserve. Left out of an answer to a repetition, when it isn't known any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "i64", range(min = 0, max = MAX_BALANCE)))]
    pub held: Option<i64>,
    /// The number of the account's entries: of two balances of an account, the one with the higher version is the
    /// later one. Holding and releasing money don't count.
    #[cfg_attr(test, schemars(range(min = 0)))]
    pub version: i64,
    /// How far chargebacks have taken the account below its limit. Left out when they haven't.
    #[serde(skip_serializing_if = "is_zero")]
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub shortfall: i64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(amount: &i64) -> bool {
    *amount == 0
}

/// The event about the outcome of a task.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The type of the event.
    pub kind: EventKind,
    /// The task. Of a hold that has expired, the task that made the hold.
    pub task: &'a Task,
    /// The properties of the task's message: publisher, trace context, `reply_to`.
    pub properties: &'a Properties,
    /// The state of the task's own payment after it.
    pub state: PaymentState,
    /// The number of states that the task's own payment has had.
    pub version: i32,
    /// The rejection of a declined task.
    pub rejection: Option<Rejection>,
    /// The amount that a follow-up has moved, in minor units; `None` if it has moved several currencies.
    pub moved: Option<i64>,
    /// When the task was decided, by the database's clock.
    pub settled_at: Timestamp,
    /// The payment that the task is or acts on, after it.
    pub payment: Option<&'a PaymentView<'a>>,
    /// The balances that the task has changed, or that of the account which it opens or changes.
    pub balances: &'a [BalanceAfter<'a>],
    /// The CloudEvents `source`.
    pub source: &'a str,
}

/// A reply: the same event, sent to the queue that the publisher has named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The queue that the message named in `reply_to`.
    pub reply_to: &'a str,
    /// The `correlation_id` of the message.
    pub correlation_id: Option<&'a str>,
}

impl<'a> Event<'a> {
    /// Appends the event as one line.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_line(out, &self.document());
    }

    /// Appends the event as a reply, as one line.
    pub fn write_reply(&self, reply: Reply<'a>, out: &mut Vec<u8>) {
        let Reply { reply_to, correlation_id } = reply;
        write_line(out, &ReplyDocument { reply_to, correlation_id, event: self.document() });
    }

    fn document(&self) -> Document<'a, EventId, Uuid, Data<'a>> {
        Document {
            specversion: "1.0",
            id: EventId(self.task.id, self.version),
            source: self.source,
            kind: self.kind.name(),
            subject: self.task.id,
            time: self.settled_at,
            datacontenttype: "application/json",
            traceparent: self.properties.traceparent.as_deref(),
            tracestate: self.properties.tracestate.as_deref(),
            data: Data::of(self),
        }
    }

    /// Returns the event's `data`, as the command line shows it, too.
    pub fn data(&self) -> impl Serialize + use<'a> {
        Data::of(self)
    }
}

/// `<task id>/<version>`: the same for each publication of the same event.
struct EventId(Uuid, i32);

impl Serialize for EventId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}/{}", self.0, self.1))
    }
}

#[derive(Serialize)]
struct Document<'a, I, S, D> {
    specversion: &'static str,
    id: I,
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    subject: S,
    time: Timestamp,
    datacontenttype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<&'a str>,
    data: D,
}

#[derive(Serialize)]
struct ReplyDocument<'r, E> {
    reply_to: &'r str,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'r str>,
    event: E,
}

fn write_line(out: &mut Vec<u8>, document: &impl Serialize) {
    // Writing plain values to memory can't fail.
    let written = serde_json::to_writer(&mut *out, document);
    debug_assert!(written.is_ok(), "{written:?}");
    out.push(b'\n');
}
