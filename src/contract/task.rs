//! A task: what a publisher asks for.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{AccountName, Currency, Fingerprint, MessageId};

/// A task that was decoded and found well-formed. Whether it can be applied is for the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The idempotency key, for ever.
    pub id: Uuid,
    /// What tells a repetition from another task with the same id.
    pub fingerprint: Fingerprint,
    /// What is asked for.
    pub body: TaskBody,
}

/// The types of tasks, each with its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskBody {
    /// Opens an account.
    OpenAccount(OpenAccount),
    /// Moves money from one account to another.
    Transfer(Transfer),
}

/// Opens an account with a balance of zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenAccount {
    /// The account to open.
    pub account: AccountName,
    /// The only currency it will hold.
    pub currency: Currency,
    /// The balance it may not fall below, in minor units; `None` is no limit. 0 when left out.
    pub min_balance: Option<i64>,
}

/// Moves money from one account to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Pays.
    pub debit_account: AccountName,
    /// Is paid.
    pub credit_account: AccountName,
    /// In minor units of `currency`.
    pub amount: i64,
    /// Both accounts' currency.
    pub currency: Currency,
    /// The publisher's own reference.
    pub reference: Option<CompactString>,
    /// The publisher's own keys and values, as canonical JSON (sorted keys, no white space).
    pub metadata: Option<CompactString>,
}

/// The name of a task's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskType {
    /// `open_account`
    OpenAccount,
    /// `transfer`
    Transfer,
}

impl TaskType {
    /// All types.
    pub const ALL: [Self; 2] = [Self::OpenAccount, Self::Transfer];

    /// The name in the contract and in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAccount => "open_account",
            Self::Transfer => "transfer",
        }
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|task_type| task_type.name() == name)
    }
}

impl Task {
    /// A task with its fingerprint.
    pub fn new(id: Uuid, body: TaskBody) -> Self {
        Self { id, fingerprint: Fingerprint::of(&body), body }
    }

    /// The name of the first field in which the two differ; `None` when they ask for the same.
    pub fn differs_from(&self, other: &Self) -> Option<&'static str> {
        let fields: &[(&'static str, bool)] = match (&self.body, &other.body) {
            (TaskBody::OpenAccount(a), TaskBody::OpenAccount(b)) => &[
                ("account", a.account != b.account),
                ("currency", a.currency != b.currency),
                ("min_balance", a.min_balance != b.min_balance),
            ],
            (TaskBody::Transfer(a), TaskBody::Transfer(b)) => &[
                ("debit_account", a.debit_account != b.debit_account),
                ("credit_account", a.credit_account != b.credit_account),
                ("amount", a.amount != b.amount),
                ("currency", a.currency != b.currency),
                ("reference", a.reference != b.reference),
                ("metadata", a.metadata != b.metadata),
            ],
            _ => &[("type", true)],
        };
        fields.iter().find_map(|(name, differs)| differs.then_some(*name))
    }
}

impl TaskBody {
    /// The task's type.
    pub const fn task_type(&self) -> TaskType {
        match self {
            Self::OpenAccount(_) => TaskType::OpenAccount,
            Self::Transfer(_) => TaskType::Transfer,
        }
    }

    /// The account in whose order the task is applied: the one that is debited or opened.
    pub const fn ordering_account(&self) -> &AccountName {
        match self {
            Self::OpenAccount(open) => &open.account,
            Self::Transfer(transfer) => &transfer.debit_account,
        }
    }

    /// The account that the task credits or opens: later declines on it wait for this task.
    pub const fn credited_account(&self) -> &AccountName {
        match self {
            Self::OpenAccount(open) => &open.account,
            Self::Transfer(transfer) => &transfer.credit_account,
        }
    }

    /// The currency the task speaks of.
    pub const fn currency(&self) -> Currency {
        match self {
            Self::OpenAccount(open) => open.currency,
            Self::Transfer(transfer) => transfer.currency,
        }
    }
}

/// What the message carried beside its body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Properties {
    /// Must be `application/json` when present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<CompactString>,
    /// Must equal the body's `id` when present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<MessageId>,
    /// Who published (`app_id`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publisher: Option<CompactString>,
    /// The queue to which the outcome is also sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<CompactString>,
    /// Comes back with the reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<CompactString>,
    /// W3C trace context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<CompactString>,
    /// W3C trace context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<CompactString>,
    /// When it was published, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<u64>,
    /// The routing key it came with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routing_key: Option<CompactString>,
}
