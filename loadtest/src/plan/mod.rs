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

pub use body::Body;
pub use broken::Broken;
pub use tally::Tally;

/// What the load is made of.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How many messages.
    pub count: usize,
    /// How many accounts pay; a tenth of that is paid.
    pub customers: usize,
    /// Which accounts take part.
    pub skew: Skew,
    /// What else there is beside good payments.
    pub mix: Mix,
    /// Of the random numbers.
    pub seed: u64,
}

/// Which accounts take part in payments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Skew {
    /// All alike.
    Uniform,
    /// Every payment goes from the same account to the same account.
    Hot,
}

/// What else there is beside good payments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mix {
    /// Nothing.
    Plain,
    /// Duplicates, altered duplicates, malformed messages and payments to be declined.
    Faulty,
}

/// Everything that is published, in order.
#[derive(Debug)]
pub struct Plan {
    /// Every account that a message names.
    pub accounts: Vec<Account>,
    /// Opens the accounts and funds them; all of it succeeds.
    pub opening: Vec<Message>,
    /// The load.
    pub load: Vec<Message>,
    /// How many ids there are; a repetition has the id of another message.
    pub ids: usize,
}

/// An account, before anything happens to it.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its only currency; `None` for an account that nobody opens.
    pub currency: Option<&'static str>,
    /// Whether it may be overdrawn without limit.
    pub unlimited: bool,
    /// Its balance when all is done.
    pub final_balance: i64,
}

/// A message, and what has to come of it.
#[derive(Clone, Debug)]
pub struct Message {
    /// Which of the plan's ids it has.
    pub id: usize,
    /// What it asks for.
    pub ask: Ask,
    /// What is wrong with it.
    pub broken: Option<Broken>,
    /// What has to come of it.
    pub outcome: Outcome,
    /// The field that its dead letter has to name, if it becomes one.
    pub field: Option<&'static str>,
}

/// What a message asks for. Accounts are places in [`Plan::accounts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
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
    pub fn expected(&self) -> Tally {
        self.load.iter().map(|message| message.outcome).collect()
    }

    /// All messages, in order.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.opening.iter().chain(&self.load)
    }
}

impl Message {
    /// Whether it has a payment of its own in the ledger, and an event.
    pub fn is_decided(&self) -> bool {
        matches!(self.outcome, Outcome::Settled | Outcome::Rejected(_))
    }
}
