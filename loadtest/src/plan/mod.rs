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

use clap::Args;
use settled_core::contract::TaskType;
use settled_pipeline::labels::Outcome;

pub(crate) use body::{Ids, body};
pub(crate) use broken::Broken;
use generate::Generator;
pub(crate) use life::Life;
#[cfg(test)]
pub(crate) use life::Scheduled;
pub(crate) use mark::{Mark, Stamp};
pub(crate) use mix::Mix;
#[cfg(test)]
use padding::MAX_PAYLOAD_BYTES;
pub(crate) use padding::Padding;
pub(crate) use skew::Skew;
pub(crate) use tally::{Tally, outcome_named};

use crate::values::at_least_one;

/// What the load is made of.
#[derive(Clone, Debug, Args)]
pub(crate) struct Shape {
    /// How many accounts pay; a tenth as many are paid
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = at_least_one)]
    pub(crate) accounts: usize,
    /// Which accounts take part: uniform, zipf:EXPONENT such as zipf:1.1, or hot, where every payment
    /// is between the same two
    #[arg(long, value_name = "SKEW", default_value_t = Skew::Uniform)]
    pub(crate) skew: Skew,
    #[command(flatten)]
    pub(crate) life: Life,
    /// Messages that are no good payments.
    #[arg(skip)]
    pub(crate) mix: Mix,
    /// Make messages about this long with metadata, in bytes; without it they have 330 or so
    #[arg(long, value_name = "N", default_value = "0", value_parser = padding::payload_bytes, hide_default_value = true)]
    pub(crate) payload_bytes: usize,
    /// The same seed gives the same messages, but for their ids and the accounts' prefix
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
}

/// Everything that is published, in order. The load grows as it is asked for.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) accounts: Arc<Accounts>,
    /// The balance of each account when all is done.
    pub(crate) balances: Vec<i64>,
    /// Opens the accounts; all of it succeeds. Its ids are the first.
    pub(crate) opening: Vec<Message>,
    pub(crate) load: Vec<Message>,
    /// How many ids there are; a repetition has the id of another message.
    pub(crate) ids: usize,
    generator: Generator,
}

/// What the bodies of all messages are made with.
#[derive(Debug)]
pub(crate) struct Accounts {
    pub(crate) all: Vec<Account>,
    merchants: Range<usize>,
    pub(crate) padding: Padding,
}

#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) name: String,
    /// Its only currency; `None` for an account that nobody opens.
    pub(crate) currency: Option<&'static str>,
    /// Its lowest balance, in minor units: customers pay on credit, and need no funding.
    pub(crate) min_balance: i64,
}

/// A message, and what has to come of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    pub(crate) id: usize,
    pub(crate) ask: Ask,
    pub(crate) broken: Option<Broken>,
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
    Open(usize),
    Transfer {
        debit: usize,
        credit: usize,
        /// In minor units.
        amount: i64,
        currency: &'static str,
    },
    /// To move money to several accounts: see [`legs_of`].
    Split {
        debit: usize,
        credit: usize,
        /// Of all legs together, in minor units.
        amount: i64,
        legs: u8,
    },
    Authorize {
        debit: usize,
        credit: usize,
        /// In minor units.
        amount: i64,
        currency: &'static str,
    },
    /// To act on a payment. Payments are numbers of the plan's ids.
    FollowUp {
        parent: usize,
        needs: usize,
        act: Act,
        /// What it moves, in minor units; 0 if it moves nothing.
        amount: i64,
        /// Whether the message has an amount: without it, it is all that is left.
        says_amount: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Capture { is_final: bool },
    Void,
    Refund,
    Chargeback,
    ChargebackReversal,
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
