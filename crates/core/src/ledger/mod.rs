//! The ledger: a pure, synchronous function from a batch of tasks, the accounts that they name and the payments that
//! they refer to, to the outcome of each task.
//!
//! Invariant: tasks are decided in the order of their arrival, and a batch comes to what its tasks would have come to
//! one by one. A rejection is a value; there are no errors.
//!
//! Must never know: a clock, a database, a broker, files.

// An arm for whatever there is would take a new state or task type without anybody having thought of it.
#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm, clippy::match_wildcard_for_single_variants))]

mod account;
mod apply;
mod aside;
mod books;
mod expire;
mod follow_up;
mod guards;
mod movement;
mod outcome;
mod payment;
mod returns;
mod shares;
pub mod state;
mod tasks;
#[cfg(test)]
mod tests;

pub use self::account::{Account, AccountIx, AccountStatus};
pub use self::apply::apply;
pub use self::books::{Arrival, Books, Item, Known, NonePending, Pending, Rules};
pub use self::expire::expire;
#[cfg(test)]
pub(crate) use self::guards::alone;
pub use self::outcome::{Acted, Balance, Decision, Movement, Outcome, Posting, Step};
pub use self::payment::{Payment, PaymentLeg, Transition};
