//! What crosses the wire: tasks in, events out, and the values both are made of.
//!
//! Pure: nothing here knows of a broker, a database or a clock.

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
mod fingerprint;
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
pub use decode::{MAX_BODY_BYTES, canonical_metadata, decode, decode_stored, is_unset};
pub use event::{BalanceAfter, DeadLetterEvent, Event, EventKind, LegView, PaymentView, Reply};
pub use evidence::{Bytes, Evidence, HeaderValue};
pub use findings::{Findings, Flaw, Oversize};
pub use fingerprint::Fingerprint;
pub use message::Message;
pub use message_id::MessageId;
pub use money::{Currency, MAX_AMOUNT, MAX_BALANCE};
pub use passed_on::MAX_TRACE_BYTES;
pub use rejection::Rejection;
pub use state::PaymentState;
pub use task::{
    AccountChange, Action, Authorize, ChangeAccount, FollowUp, Leg, NO_LIMIT, OpenAccount, Properties, SetLimits,
    Split, Task, TaskBody, TaskType, Terms, Transfer, When,
};
