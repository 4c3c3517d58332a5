//! Tasks: what publishers ask for.

mod body;
mod differs;
mod fingerprint;

use compact_str::CompactString;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::body::{
    AccountChange, Action, Authorize, ChangeAccount, FollowUp, Leg, NO_LIMIT, OpenAccount, SetLimits, Split, Terms,
    Transfer,
};
#[cfg(test)]
pub(super) use self::differs::FIELDS;
pub use self::fingerprint::Fingerprint;
use super::{AccountName, Evidence, MessageId};
use crate::named::named;

/// The largest body of a task, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// A well-formed task. The ledger decides whether it can be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The idempotency key. It never expires.
    pub id: Uuid,
    /// Tells a repetition from another task with the same id.
    pub fingerprint: Fingerprint,
    /// When it may be applied.
    pub when: When,
    /// The type of the task and its fields.
    pub body: TaskBody,
}

/// When a task may be applied; at once by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// Not before this moment, by the database's clock.
    pub execute_at: Option<Timestamp>,
    /// Not before this task has its outcome; if that is a rejection, the task is rejected, too.
    pub after: Option<Uuid>,
}

/// The types of tasks, each with its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskBody {
    /// Opens an account.
    OpenAccount(OpenAccount),
    /// Moves money from one account to another.
    Transfer(Transfer),
    /// A `transfer` with `legs`: all of them or none.
    Split(Split),
    /// Holds money on the accounts that will pay.
    Authorize(Authorize),
    /// Acts on an earlier payment.
    FollowUp(FollowUp),
    /// Changes an account.
    ChangeAccount(ChangeAccount),
}

named! {
    /// The type of a task, as the schema of tasks describes it.
    #[derive(Deserialize)]
    TaskType {
        /// Opens an account with a balance of zero.
        OpenAccount = "open_account";
        /// Moves money from one account to another.
        Transfer = "transfer";
        /// Holds money on the debit account until it is captured, voided, or the hold expires.
        Authorize = "authorize";
        /// Posts what is held.
        Capture = "capture";
        /// Releases what is held.
        Void = "void";
        /// Moves captured money back from the credit to the debit account.
        Refund = "refund";
        /// Moves captured money back, imposed from outside: it may take the credit account below its limit.
        Chargeback = "chargeback";
        /// Takes a chargeback back.
        ChargebackReversal = "chargeback_reversal";
        /// Calls off a task that is scheduled or parked; any type of task.
        Cancel = "cancel";
        /// Closes an account for ever. Its balance has to be zero, and nothing may be held.
        CloseAccount = "close_account";
        /// Freezes an account: it takes no debits, holds and captures any more (by the operator's choice no credits
        /// either).
        FreezeAccount = "freeze_account";
        /// Ends a freeze.
        UnfreezeAccount = "unfreeze_account";
        /// Gives an account new limits; at least one of them.
        SetLimits = "set_limits";
    }
}

impl TaskType {
    /// Whether it opens or changes an account, and moves nothing.
    pub const fn is_about_an_account(self) -> bool {
        matches!(
            self,
            Self::OpenAccount | Self::CloseAccount | Self::FreezeAccount | Self::UnfreezeAccount | Self::SetLimits
        )
    }

    /// Whether it acts on an earlier payment.
    pub const fn is_follow_up(self) -> bool {
        matches!(
            self,
            Self::Capture | Self::Void | Self::Refund | Self::Chargeback | Self::ChargebackReversal | Self::Cancel
        )
    }
}

impl Task {
    /// Makes a task that may be applied at once.
    pub fn new(id: Uuid, body: TaskBody) -> Self {
        Self::timed(id, When::default(), body)
    }

    /// Makes a task that waits as `when` says.
    pub fn timed(id: Uuid, when: When, body: TaskBody) -> Self {
        Self { id, fingerprint: Fingerprint::of(&body, when), when, body }
    }

    /// Returns the tasks on whose state this one depends: the payment that it acts on, and the task that it comes
    /// after.
    pub fn refers_to(&self) -> impl Iterator<Item = Uuid> + use<> {
        self.body.payment_id().into_iter().chain(self.when.after)
    }
}

impl TaskBody {
    /// Returns the type of the task.
    pub const fn task_type(&self) -> TaskType {
        match self {
            Self::OpenAccount(_) => TaskType::OpenAccount,
            Self::Transfer(_) | Self::Split(_) => TaskType::Transfer,
            Self::Authorize(_) => TaskType::Authorize,
            Self::FollowUp(follow_up) => follow_up.action.task_type(),
            Self::ChangeAccount(change) => change.change.task_type(),
        }
    }

    /// The payment that the task acts on.
    pub const fn payment_id(&self) -> Option<Uuid> {
        match self {
            Self::FollowUp(follow_up) => Some(follow_up.payment_id),
            Self::OpenAccount(_) | Self::Transfer(_) | Self::Split(_) | Self::Authorize(_) | Self::ChangeAccount(_) => {
                None
            }
        }
    }

    /// Returns the account by which the task is ordered: the account that is debited (by the first leg), opened or
    /// changed. `None` for a follow-up, which is ordered by its payment.
    pub fn ordering_account(&self) -> Option<&AccountName> {
        self.account_pairs().next().map(|(first, _)| first)
    }

    /// Returns all accounts that the task names, in pairs: the account that pays and the account that is paid. A task
    /// about one account has a pair of twice the same, a follow-up has none.
    pub fn account_pairs(&self) -> impl Iterator<Item = (&AccountName, &AccountName)> {
        let (one, legs): (_, &[Leg]) = match self {
            Self::OpenAccount(open) => (Some((&open.account, &open.account)), &[]),
            Self::ChangeAccount(change) => (Some((&change.account, &change.account)), &[]),
            Self::Transfer(transfer) => (Some((&transfer.debit_account, &transfer.credit_account)), &[]),
            Self::Split(split) => (None, &split.legs),
            Self::Authorize(authorize) => (None, authorize.legs()),
            Self::FollowUp(_) => (None, &[]),
        };
        one.into_iter().chain(legs.iter().map(|leg| (&leg.debit_account, &leg.credit_account)))
    }

    /// Whether the task has `legs`, and not the fields of one movement.
    pub const fn is_listed(&self) -> bool {
        match self {
            Self::Split(_) => true,
            Self::Authorize(authorize) => authorize.terms.is_listed(),
            Self::OpenAccount(_) | Self::Transfer(_) | Self::FollowUp(_) | Self::ChangeAccount(_) => false,
        }
    }

    /// Whether the task gives an account no limit.
    pub const fn asks_for_no_limit(&self) -> bool {
        match self {
            Self::OpenAccount(open) => open.min_balance.is_none(),
            Self::ChangeAccount(change) => match change.change {
                AccountChange::SetLimits(limits) => {
                    matches!(limits.min_balance, Some(None)) || matches!(limits.max_balance, Some(None))
                }
                AccountChange::Close | AccountChange::Freeze | AccountChange::Unfreeze => false,
            },
            Self::Transfer(_) | Self::Split(_) | Self::Authorize(_) | Self::FollowUp(_) => false,
        }
    }

    /// Returns the publisher's own reference.
    pub fn reference(&self) -> Option<&str> {
        self.notes().and_then(|notes| notes.0)
    }

    /// Returns the publisher's own keys and values, as canonical JSON.
    pub fn metadata(&self) -> Option<&str> {
        self.notes().and_then(|notes| notes.1)
    }

    fn notes(&self) -> Option<(Option<&str>, Option<&str>)> {
        let (reference, metadata) = match self {
            Self::OpenAccount(_) | Self::ChangeAccount(_) => return None,
            Self::Transfer(transfer) => (&transfer.reference, &transfer.metadata),
            Self::Split(split) => (&split.reference, &split.metadata),
            Self::Authorize(authorize) => (&authorize.reference, &authorize.metadata),
            Self::FollowUp(follow_up) => (&follow_up.reference, &follow_up.metadata),
        };
        Some((reference.as_deref(), metadata.as_deref()))
    }
}

/// The properties of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Properties {
    /// Must be `application/json` when present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<CompactString>,
    /// Must equal the body's `id` when present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<MessageId>,
    /// Name of the publisher: `user_id`, which the broker has verified, else `app_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publisher: Option<CompactString>,
    /// The broker's user who has published the message, verified by the broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<CompactString>,
    /// The publisher's `app_id`, if `user_id` is the name of the publisher.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_id: Option<CompactString>,
    /// The queue to which the reply is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<CompactString>,
    /// Sent back with the reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<CompactString>,
    /// W3C trace context: the span that has published the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<CompactString>,
    /// W3C trace context: what tracing systems have added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<CompactString>,
    /// When it was published, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<u64>,
    /// The exchange to which it was published; empty for the default exchange.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exchange: Option<CompactString>,
    /// The routing key with which it was published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routing_key: Option<CompactString>,
    /// 1 is transient, 2 is persistent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_mode: Option<u8>,
    /// Whether the broker had delivered it before.
    #[serde(default, skip_serializing_if = "is_false")]
    pub redelivered: bool,
    /// Properties and headers that most messages don't have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Box<Evidence>>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl Properties {
    /// Returns the properties that are stored with a scheduled or parked task: those that its reply, its events and the
    /// rules for its publisher need.
    #[must_use]
    pub fn of_a_task_that_waits(&self) -> Self {
        Self { app_id: None, exchange: None, delivery_mode: None, redelivered: false, evidence: None, ..self.clone() }
    }

    /// Returns the AMQP property `content_encoding`.
    pub fn content_encoding(&self) -> Option<&str> {
        self.evidence.as_ref()?.content_encoding.as_deref()
    }
}
