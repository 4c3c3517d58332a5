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

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

pub use self::account::{Account, AccountIx, AccountStatus};
pub use self::apply::{Item, Known, NonePending, Pending, apply};
pub use self::expire::expire;
pub use self::outcome::{Acted, Balance, Decision, Movement, Outcome, Posting, Step, Transition};
pub use self::payment::{Payment, PaymentLeg};
use crate::contract::{AccountName, Currencies};

/// The place of a task in the order in which this daemon has taken tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arrival(pub u64);

/// The operator's rules for payments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long a hold lasts if its task has no `expires_in`.
    pub hold: SignedDuration,
    /// The longest that a hold may last.
    pub longest_hold: SignedDuration,
    /// How long a task waits for another one.
    pub parking: SignedDuration,
    /// Whether a frozen account can be credited.
    pub frozen_takes_credits: bool,
    /// The currencies in which accounts can be opened.
    pub currencies: Currencies,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            hold: SignedDuration::from_hours(7 * 24),
            longest_hold: SignedDuration::from_hours(31 * 24),
            parking: SignedDuration::from_mins(15),
            frozen_takes_credits: true,
            currencies: Currencies::default(),
        }
    }
}

/// The accounts and payments of a batch, locked. The ledger changes them.
#[derive(Debug)]
pub struct Books<'a> {
    /// All accounts that the tasks of the batch and their payments name.
    pub accounts: &'a mut [Account],
    /// The names of the accounts, in the same order.
    pub names: &'a [&'a AccountName],
    /// The payments that items refer to or resume, as far as they exist. Payments of the batch are added if another
    /// item refers to them.
    pub payments: &'a mut HashMap<Uuid, Payment>,
    /// The ids of the batch that already have an outcome.
    pub known: &'a HashMap<Uuid, Known>,
    /// The database's clock.
    pub now: Timestamp,
    /// The operator's rules.
    pub rules: &'a Rules,
}
