//! What is published, and what has to come of it: pure, and the same for the same seed.
//!
//! The outcome of every message is certain before it is sent, whatever the order in which
//! lanes apply them: an account either has enough for all its payments or can never pay the one
//! that is to be declined. So a run is judged message by message, not by plausibility. Only which
//! of two messages with one id and different content is the first depends on the order.
//!
//! What acts on a payment succeeds as well, wherever in the load it is: what comes too early waits,
//! and whatever acts on the same payment leaves enough for the others.

mod body;
mod broken;
mod case;
mod fate;
mod generate;
mod life;
mod mark;
mod mix;
mod padding;
mod skew;
mod tally;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use settled::contract::TaskType;
use settled::telemetry::labels::Outcome;

pub(crate) use body::{Body, Ids};
pub(crate) use broken::Broken;
use generate::Generator;
pub(crate) use life::{Kinds, Life};
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
    /// What becomes of the good payments.
    pub(crate) life: Life,
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
    /// The places of those that are paid.
    merchants: Range<usize>,
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
    /// How long after its due time it is to be executed, in milliseconds; `None` for at once.
    pub(crate) execute_in: Option<u32>,
    /// Whether no other message acts on it.
    is_alone: bool,
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
    /// To move money to several accounts: see [`legs_of`].
    Split {
        /// Pays.
        debit: usize,
        /// The first to be paid.
        credit: usize,
        /// Of all legs together, in minor units.
        amount: i64,
        /// How many.
        legs: u8,
    },
    /// To hold money.
    Authorize {
        /// Is to pay.
        debit: usize,
        /// Is to be paid.
        credit: usize,
        /// In minor units.
        amount: i64,
        /// Of the amount.
        currency: &'static str,
    },
    /// To act on a payment. Payments are numbers of the plan's ids.
    FollowUp {
        /// The payment.
        parent: usize,
        /// What has to be applied before.
        needs: usize,
        /// What is done.
        act: Act,
        /// What it moves, in minor units; 0 if it moves nothing.
        amount: i64,
        /// Whether the message has an amount: without it, it is all that is left.
        says_amount: bool,
    },
}

/// What is done with a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Posts what is held.
    Capture {
        /// Whether the rest is released.
        is_final: bool,
    },
    /// Releases what is held.
    Void,
    /// Moves posted money back.
    Refund,
    /// The same, imposed from outside.
    Chargeback,
    /// Takes a chargeback back.
    ChargebackReversal,
    /// Calls off what waits.
    Cancel,
}

/// The legs of a payment: who pays, who is paid, and how much. Half of it or more goes to `credit`,
/// the others get the same each, as fees and taxes do.
fn legs_of(
    accounts: &Accounts,
    debit: usize,
    credit: usize,
    amount: i64,
    legs: u8,
) -> impl Iterator<Item = (usize, usize, i64)> + use<> {
    let (merchants, others) = (accounts.merchants.clone(), i64::from(legs) - 1);
    let fee = (amount / (2 * i64::from(legs))).max(1);
    (0..usize::from(legs)).map(move |leg| {
        let payee = merchants.start + (credit - merchants.start + leg) % merchants.len();
        (debit, payee, if leg == 0 { amount - others * fee } else { fee })
    })
}

impl Ask {
    /// The type of the task.
    pub(crate) const fn task_type(&self) -> TaskType {
        match self {
            Self::Open(_) => TaskType::OpenAccount,
            Self::Transfer { .. } | Self::Split { .. } => TaskType::Transfer,
            Self::Authorize { .. } => TaskType::Authorize,
            Self::FollowUp { act, .. } => match act {
                Act::Capture { .. } => TaskType::Capture,
                Act::Void => TaskType::Void,
                Act::Refund => TaskType::Refund,
                Act::Chargeback => TaskType::Chargeback,
                Act::ChargebackReversal => TaskType::ChargebackReversal,
                Act::Cancel => TaskType::Cancel,
            },
        }
    }

    /// How much it is about, in minor units.
    pub(crate) const fn amount(&self) -> i64 {
        match self {
            Self::Open(_) => 0,
            Self::Transfer { amount, .. }
            | Self::Split { amount, .. }
            | Self::Authorize { amount, .. }
            | Self::FollowUp { amount, .. } => *amount,
        }
    }
}

impl Plan {
    /// What has to come of the load.
    pub(crate) fn expected(&self) -> Tally {
        self.load.iter().map(|message| message.outcome).collect()
    }

    /// How many messages of the load have a payment of their own.
    pub(crate) fn decided(&self) -> usize {
        self.load.iter().filter(|message| message.is_decided()).count()
    }

    /// How many payments of the load are called off: nothing else becomes of those.
    pub(crate) fn called_off(&self) -> usize {
        self.load.iter().filter(|message| message.is_called_off()).count()
    }

    /// The ids of the load that come with two contents, of which the second is refused.
    pub(crate) const fn in_two_versions(&self) -> &HashSet<usize> {
        self.generator.altered()
    }

    /// How many messages of the load become dead letters.
    pub(crate) fn dead_letters(&self) -> usize {
        self.load.iter().filter(|message| matches!(message.outcome, Outcome::DeadLettered(_))).count()
    }
}

impl Message {
    /// Whether it has a payment of its own in the ledger.
    pub(crate) fn is_decided(&self) -> bool {
        matches!(self.outcome, Outcome::Settled | Outcome::Rejected(_) | Outcome::Scheduled)
    }

    /// Whether it waits for its time until another one calls it off. Of that there is no event of
    /// its own.
    pub(crate) fn is_called_off(&self) -> bool {
        self.outcome == Outcome::Scheduled
    }
}
