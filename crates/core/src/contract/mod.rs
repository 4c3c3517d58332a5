//! The contract: tasks as publishers write them, events as subscribers read them, and the values of both.
//!
//! Invariant: what is decoded and encoded again is the same task, and a stored fingerprint never changes.
//!
//! Must never know: a broker, a database, a clock, files, what the ledger decides.

// An arm for whatever there is would take a new state or task type without anybody having thought of it.
#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm, clippy::match_wildcard_for_single_variants))]

mod account_name;
#[cfg(test)]
mod arbitrary;
mod authority;
mod currencies;
mod dead_letter;
mod decode;
mod encode;
mod event;
mod evidence;
mod findings;
mod message;
mod message_id;
mod money;
mod passed_on;
mod rejection;
#[cfg(test)]
mod schema;
mod state;
mod task;

pub use account_name::AccountName;
pub use authority::{Access, Authority, KeyRule, Pattern, PublisherRules};
pub use currencies::{AddedCurrency, Currencies};
pub use dead_letter::{DeadLetter, DeadReason};
pub use decode::{canonical_metadata, decode, decode_stored, is_unset};
pub use event::{BalanceAfter, DeadLetterEvent, Event, EventKind, LegView, PaymentView, Reply};
pub use evidence::{Bytes, Evidence, HeaderValue};
pub use findings::{Findings, Flaw, Oversize};
pub use message::Message;
pub use message_id::MessageId;
pub use money::{Currency, MAX_AMOUNT, MAX_BALANCE};
pub use passed_on::MAX_TRACE_BYTES;
pub use rejection::Rejection;
pub use state::PaymentState;
pub use task::{
    AccountChange, Action, Authorize, ChangeAccount, Fingerprint, FollowUp, Leg, MAX_BODY_BYTES, NO_LIMIT, OpenAccount,
    Properties, SetLimits, Split, Task, TaskBody, TaskType, Terms, Transfer, When,
};
