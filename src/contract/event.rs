//! What became of a task, for the world: CloudEvents 1.0.
//!
//! An event is encoded once, as one line of structured CloudEvents JSON; the relay sends that
//! line in a batch as it is, or turns its attributes into headers (binary mode).

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Currency, Properties, Rejection, Task, TaskBody};

/// The types of events; the name is the routing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// An account was opened.
    AccountOpened,
    /// An account was not opened.
    AccountRejected,
    /// A payment was posted to the ledger.
    PaymentSettled,
    /// A payment was declined.
    PaymentRejected,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::AccountOpened, Self::AccountRejected, Self::PaymentSettled, Self::PaymentRejected];

    /// The event of a task with this outcome.
    pub const fn of(body: &TaskBody, rejection: Option<Rejection>) -> Self {
        match (body, rejection) {
            (TaskBody::OpenAccount(_), None) => Self::AccountOpened,
            (TaskBody::OpenAccount(_), Some(_)) => Self::AccountRejected,
            (TaskBody::Transfer(_), None) => Self::PaymentSettled,
            (TaskBody::Transfer(_), Some(_)) => Self::PaymentRejected,
        }
    }

    /// The event of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The CloudEvents type and the routing key.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AccountOpened => "account.opened",
            Self::AccountRejected => "account.rejected",
            Self::PaymentSettled => "payment.settled",
            Self::PaymentRejected => "payment.rejected",
        }
    }
}

/// A balance right after the payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BalanceAfter<'a> {
    /// Whose.
    pub account: &'a str,
    /// The sum of its entries, in minor units.
    pub posted: i64,
    /// What is reserved of it, in minor units.
    pub held: i64,
    /// The number of its entries.
    pub version: i64,
}

/// An outcome, ready to be told.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// What was asked for.
    pub task: &'a Task,
    /// What the task's message carried: publisher, trace context.
    pub properties: &'a Properties,
    /// The decline, if it was declined.
    pub rejection: Option<Rejection>,
    /// When it was decided, by the database's clock.
    pub settled_at: Timestamp,
    /// The balances that it changed, or the one of the account that it opened.
    pub balances: &'a [BalanceAfter<'a>],
    /// The CloudEvents source.
    pub source: &'a str,
}

/// Where the outcome is also sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The queue.
    pub reply_to: &'a str,
    /// What the publisher knows it by.
    pub correlation_id: Option<&'a str>,
}

/// The version of a payment that has had one outcome and can't have another.
const FINAL_VERSION: i32 = 1;

impl Event<'_> {
    /// The event's kind.
    pub const fn kind(&self) -> EventKind {
        EventKind::of(&self.task.body, self.rejection)
    }

    /// Appends the event as one line.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_line(out, &self.document());
    }

    /// Appends the event as a reply, as one line.
    pub fn write_reply(&self, reply: Reply<'_>, out: &mut Vec<u8>) {
        let Reply { reply_to, correlation_id } = reply;
        write_line(out, &ReplyDocument { reply_to, correlation_id, event: self.document() });
    }

    fn document(&self) -> Document<'_> {
        Document {
            specversion: "1.0",
            id: EventId(self.task.id, FINAL_VERSION),
            source: self.source,
            kind: self.kind().name(),
            subject: self.task.id,
            time: self.settled_at,
            datacontenttype: "application/json",
            traceparent: self.properties.traceparent.as_deref(),
            tracestate: self.properties.tracestate.as_deref(),
            data: self.payment(),
        }
    }

    /// The event's `data`: the payment as it is told to the world, wherever it is shown.
    pub fn data(&self) -> impl Serialize + use<'_> {
        self.payment()
    }

    fn payment(&self) -> Data<'_> {
        let (account, debit_account, credit_account, amount, min_balance, reference, metadata) = match &self.task.body {
            TaskBody::OpenAccount(open) => {
                (Some(open.account.as_str()), None, None, None, Some(open.min_balance), None, None)
            }
            TaskBody::Transfer(transfer) => (
                None,
                Some(transfer.debit_account.as_str()),
                Some(transfer.credit_account.as_str()),
                Some(transfer.amount),
                None,
                transfer.reference.as_deref(),
                transfer.metadata.as_deref(),
            ),
        };
        Data {
            id: self.task.id,
            task_type: self.task.body.task_type().name(),
            state: if self.rejection.is_some() { "rejected" } else { "settled" },
            version: FINAL_VERSION,
            reason: self.rejection.map(Rejection::name),
            reason_code: self.rejection.map(Rejection::iso_code),
            account,
            debit_account,
            credit_account,
            amount,
            currency: self.task.body.currency(),
            min_balance,
            reference,
            // It was canonical JSON when the task was decoded.
            metadata: metadata.and_then(|json| serde_json::from_str(json).ok()),
            publisher: self.properties.publisher.as_deref(),
            settled_at: self.settled_at,
            balances: self.balances,
        }
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
struct Document<'a> {
    specversion: &'static str,
    id: EventId,
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    subject: Uuid,
    time: Timestamp,
    datacontenttype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<&'a str>,
    data: Data<'a>,
}

#[derive(Serialize)]
struct ReplyDocument<'a> {
    reply_to: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    event: Document<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    id: Uuid,
    #[serde(rename = "type")]
    task_type: &'static str,
    state: &'static str,
    version: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason_code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    debit_account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credit_account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<i64>,
    currency: Currency,
    // `null` is a value of its own: no lower limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    min_balance: Option<Option<i64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    publisher: Option<&'a str>,
    settled_at: Timestamp,
    balances: &'a [BalanceAfter<'a>],
}

fn write_line(out: &mut Vec<u8>, document: &impl Serialize) {
    // Writing plain values to memory can't fail.
    let written = serde_json::to_writer(&mut *out, document);
    debug_assert!(written.is_ok(), "{written:?}");
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{AccountName, Currency, Transfer};

    #[test]
    fn an_event_is_one_line_that_names_state_reason_and_balances() {
        let name = |text| AccountName::parse(text).expect("valid");
        let task = Task::new(
            Uuid::from_u128(7),
            TaskBody::Transfer(Transfer {
                debit_account: name("a"),
                credit_account: name("b"),
                amount: 5,
                currency: Currency::parse("USD").expect("valid"),
                reference: None,
                metadata: Some(r#"{"k":"v"}"#.into()),
            }),
        );
        let balances = [BalanceAfter { account: "a", posted: -5, held: 0, version: 1 }];
        let event = Event {
            task: &task,
            properties: &Properties::default(),
            rejection: Some(Rejection::InsufficientFunds),
            settled_at: Timestamp::UNIX_EPOCH,
            balances: &balances,
            source: "settled",
        };
        let mut out = Vec::new();
        event.write(&mut out);
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        let json: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(json["type"], "payment.rejected");
        assert_eq!(json["id"], "00000000-0000-0000-0000-000000000007/1");
        assert_eq!(json["data"]["reason"], "insufficient_funds");
        assert_eq!(json["data"]["reason_code"], "AM04");
        assert_eq!(json["data"]["metadata"]["k"], "v");
        assert_eq!(json["data"]["balances"][0]["posted"], -5);
    }
}
