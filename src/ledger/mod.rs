//! The ledger: a pure, synchronous function from a batch of tasks, the accounts they touch and the
//! payments they refer to, to what becomes of each.
//!
//! No clock, no I/O, no error: a decline is a value. Tasks are evaluated one after another in
//! the order of their arrival, so that a batch gives what one by one would have given.

mod account;
mod apply;
mod aside;
mod expire;
mod follow_up;
mod guards;
mod movement;
mod outcome;
mod payment;
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
pub use self::outcome::{Acted, Balance, Decision, Movement, Outcome, Posting, Transition};
pub use self::payment::{Payment, PaymentLeg};
use crate::contract::{AccountName, Currencies};

/// The position of a task in the order in which this daemon took them from the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arrival(pub u64);

/// What the operator decides about payments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long a hold lasts that doesn't say it.
    pub hold: SignedDuration,
    /// How long a hold may last.
    pub longest_hold: SignedDuration,
    /// How long a task waits for another one that isn't known.
    pub parking: SignedDuration,
    /// Whether a frozen account can be paid.
    pub frozen_takes_credits: bool,
    /// In what accounts can be opened.
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

/// What a batch is decided on, locked; and what it is turned into.
#[derive(Debug)]
pub struct Books<'a> {
    /// All accounts that the batch touches.
    pub accounts: &'a mut [Account],
    /// Their names, in the same order.
    pub names: &'a [&'a AccountName],
    /// The payments and tasks that items refer to or resume, as far as they are known. Those of the
    /// batch are added when another item refers to them.
    pub payments: &'a mut HashMap<Uuid, Payment>,
    /// The ids that have had an outcome.
    pub known: &'a HashMap<Uuid, Known>,
    /// The database's clock.
    pub now: Timestamp,
    /// What the operator decides.
    pub rules: &'a Rules,
}
