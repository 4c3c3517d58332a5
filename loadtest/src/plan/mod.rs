//! What is published, and what has to come of it: pure, and the same for the same seed.
//!
//! The outcome of every message is certain before it is sent, whatever the order in which
//! lanes apply them: an account either has enough for all its payments or can never pay the one
//! that is to be declined. So a run is judged message by message, not by plausibility.

mod body;
mod broken;
mod generate;
mod tally;
#[cfg(test)]
mod tests;

use settled::telemetry::labels::Outcome;

pub(crate) use body::Body;
pub(crate) use broken::Broken;
pub(crate) use tally::Tally;

/// What the load is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// How many messages.
    pub(crate) count: usize,
    /// How many accounts pay; a tenth of that is paid.
    pub(crate) customers: usize,
    /// Which accounts take part.
    pub(crate) skew: Skew,
    /// What else there is beside good payments.
    pub(crate) mix: Mix,
    /// Of the random numbers.
    pub(crate) seed: u64,
}

/// Which accounts take part in payments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Skew {
    /// All alike.
    Uniform,
    /// Every payment goes from the same account to the same account.
    Hot,
}

/// What else there is beside good payments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mix {
    /// Nothing.
    Plain,
    /// Duplicates, altered duplicates, malformed messages and payments to be declined.
    Faulty,
}

/// Everything that is published, in order.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Every account that a message names.
    pub(crate) accounts: Vec<Account>,
    /// Opens the accounts and funds them; all of it succeeds.
    pub(crate) opening: Vec<Message>,
    /// The load.
    pub(crate) load: Vec<Message>,
    /// How many ids there are; a repetition has the id of another message.
    pub(crate) ids: usize,
}

/// An account, before anything happens to it.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// Its name.
    pub(crate) name: String,
    /// Its only currency; `None` for an account that nobody opens.
    pub(crate) currency: Option<&'static str>,
    /// Whether it may be overdrawn without limit.
    pub(crate) unlimited: bool,
    /// Its balance when all is done.
    pub(crate) final_balance: i64,
}

/// A message, and what has to come of it.
#[derive(Clone, Debug)]
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

/// What a message asks for. Accounts are places in [`Plan::accounts`].
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

    /// All messages, in order.
    pub(crate) fn messages(&self) -> impl Iterator<Item = &Message> {
        self.opening.iter().chain(&self.load)
    }
}

impl Message {
    /// Whether it has a payment of its own in the ledger, and an event.
    pub(crate) fn is_decided(&self) -> bool {
        matches!(self.outcome, Outcome::Settled | Outcome::Rejected(_))
    }
}
