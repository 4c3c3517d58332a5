//! What is published, and what has to come of it: pure, and the same for the same seed.
//!
//! The outcome of every message is certain before it is sent, whatever the order in which
//! lanes apply them: an account either has enough for all its payments or can never pay the one
//! that is to be declined. So a run is judged message by message, not by plausibility. Only which
//! of two messages with one id and different content is the first depends on the order.

mod body;
mod broken;
mod generate;
mod mark;
mod mix;
mod padding;
mod skew;
mod tally;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use settled::telemetry::labels::Outcome;

pub(crate) use body::Body;
pub(crate) use broken::Broken;
use generate::Generator;
pub(crate) use mark::{Mark, Stamp};
pub(crate) use mix::Mix;
pub(crate) use padding::{MAX_PAYLOAD_BYTES, Padding};
pub(crate) use skew::Skew;
pub(crate) use tally::Tally;

/// What the load is made of.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// How many accounts pay; a tenth of that is paid.
    pub(crate) customers: usize,
    /// Which accounts take part.
    pub(crate) skew: Skew,
    /// What else there is beside good payments.
    pub(crate) mix: Mix,
    /// How long a message is to be, in bytes; 0 for as short as it can be.
    pub(crate) payload_bytes: usize,
    /// Of the random numbers.
    pub(crate) seed: u64,
    /// What the names of the accounts begin with.
    pub(crate) prefix: String,
}

/// Everything that is published, in order. The load grows as it is asked for.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Every account that a message names.
    pub(crate) accounts: Arc<Accounts>,
    /// The balance of each account when all is done.
    pub(crate) balances: Vec<i64>,
    /// Opens the accounts; all of it succeeds. Its ids are the first.
    pub(crate) opening: Vec<Message>,
    /// The load.
    pub(crate) load: Vec<Message>,
    /// How many ids there are; a repetition has the id of another message.
    pub(crate) ids: usize,
    generator: Generator,
}

/// What the bodies of all messages are made with.
#[derive(Debug)]
pub(crate) struct Accounts {
    /// Every account.
    pub(crate) all: Vec<Account>,
    /// What makes a payment longer.
    pub(crate) padding: Padding,
}

/// An account, before anything happens to it.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// Its name.
    pub(crate) name: String,
    /// Its only currency; `None` for an account that nobody opens.
    pub(crate) currency: Option<&'static str>,
    /// Its lowest balance, in minor units: customers pay on credit, and need no funding.
    pub(crate) min_balance: i64,
}

/// A message, and what has to come of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    /// Which of the plan's ids it has.
    pub(crate) id: usize,
    /// What it asks for.
    pub(crate) ask: Ask,
    /// What is wrong with it.
    pub(crate) broken: Option<Broken>,
    /// What has to come of it.
    pub(crate) outcome: Outcome,
    /// The field that its dead letter has to name, if it becomes one.
    pub(crate) field: Option<&'static str>,
}

/// What a message asks for. Accounts are places in [`Accounts::all`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// To open an account.
    Open(usize),
    /// To move money.
    Transfer {
        /// Pays.
        debit: usize,
        /// Is paid.
        credit: usize,
        /// In minor units.
        amount: i64,
        /// Of the amount.
        currency: &'static str,
    },
}

impl Plan {
    /// What has to come of the load.
    pub(crate) fn expected(&self) -> Tally {
        self.load.iter().map(|message| message.outcome).collect()
    }

    /// How many messages of the load have a payment of their own, and an event.
    pub(crate) fn decided(&self) -> usize {
        self.load.iter().filter(|message| message.is_decided()).count()
    }

    /// How many messages of the load become dead letters.
    pub(crate) fn dead_letters(&self) -> usize {
        self.load.iter().filter(|message| matches!(message.outcome, Outcome::DeadLettered(_))).count()
    }
}

impl Message {
    /// Whether it has a payment of its own in the ledger, and an event.
    pub(crate) fn is_decided(&self) -> bool {
        matches!(self.outcome, Outcome::Settled | Outcome::Rejected(_))
    }
}
