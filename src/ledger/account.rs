//! An account as the ledger sees it: locked, and with its balance.

use crate::contract::{Currency, MAX_BALANCE, OpenAccount, Rejection, SetLimits};

/// The position of an account in the batch's list of accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AccountIx(pub usize);

/// Where an account is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccountStatus {
    /// A name that a task mentioned and that no task has opened.
    Unopened,
    /// Takes part in payments.
    Open,
    /// Takes credits, no debits.
    Frozen,
    /// Takes part in nothing.
    Closed,
}

impl AccountStatus {
    const ALL: [Self; 4] = [Self::Unopened, Self::Open, Self::Frozen, Self::Closed];

    /// The name in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unopened => "unopened",
            Self::Open => "open",
            Self::Frozen => "frozen",
            Self::Closed => "closed",
        }
    }

    /// The status of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// An account and its balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The interned name.
    pub id: i64,
    /// Where it is in its life.
    pub status: AccountStatus,
    /// `None` while unopened.
    pub currency: Option<Currency>,
    /// What `posted - held` may not fall below, in minor units; `None` is no limit.
    pub min_balance: Option<i64>,
    /// The sum of its entries, in minor units.
    pub posted: i64,
    /// What is reserved of it, in minor units.
    pub held: i64,
    /// The number of its entries.
    pub version: i64,
    /// What `posted` may not rise above, in minor units; `None` is no limit but the largest balance.
    pub max_balance: Option<i64>,
    /// How far chargebacks have taken `posted - held` below `min_balance`, in minor units. Credits
    /// make it smaller; nothing but a chargeback, or the reversal of one, makes it larger.
    pub shortfall: i64,
}

impl Account {
    /// A name without an account.
    pub const fn unopened(id: i64) -> Self {
        Self {
            id,
            status: AccountStatus::Unopened,
            currency: None,
            min_balance: None,
            posted: 0,
            held: 0,
            version: 0,
            max_balance: None,
            shortfall: 0,
        }
    }

    /// Opens it.
    pub(super) const fn open(&mut self, task: &OpenAccount) {
        self.status = AccountStatus::Open;
        self.currency = Some(task.currency);
        self.min_balance = task.min_balance;
    }

    /// Whether it takes part in payments of `currency` at all.
    pub(super) fn admits(&self, currency: Currency) -> Result<(), Rejection> {
        match self.status {
            AccountStatus::Unopened => Err(Rejection::AccountNotFound),
            AccountStatus::Closed => Err(Rejection::AccountClosed),
            AccountStatus::Open | AccountStatus::Frozen if self.currency != Some(currency) => {
                Err(Rejection::CurrencyMismatch)
            }
            AccountStatus::Open | AccountStatus::Frozen => Ok(()),
        }
    }

    /// The balance after a debit of `amount` (1 … [`crate::contract::MAX_AMOUNT`]).
    pub(super) fn debited(&self, amount: i64) -> Result<i64, Rejection> {
        let posted = self.posted - amount;
        if self.min_balance.is_some_and(|limit| posted - self.held < limit) {
            return Err(Rejection::InsufficientFunds);
        }
        within_bounds(posted)
    }

    /// The balance after a debit that can't be declined for want of money: the money is held for
    /// it, or it is imposed from outside.
    pub(super) fn debited_anyway(&self, amount: i64) -> Result<i64, Rejection> {
        within_bounds(self.posted - amount)
    }

    /// The balance after a credit of `amount` (1 … [`crate::contract::MAX_AMOUNT`]).
    pub(super) fn credited(&self, amount: i64) -> Result<i64, Rejection> {
        let posted = self.posted + amount;
        if self.max_balance.is_some_and(|limit| posted > limit) {
            return Err(Rejection::LimitExceeded);
        }
        within_bounds(posted)
    }

    /// What is held after `amount` more.
    pub(super) fn holding(&self, amount: i64) -> Result<i64, Rejection> {
        let held = self.held + amount;
        if self.min_balance.is_some_and(|limit| self.posted - held < limit) {
            return Err(Rejection::InsufficientFunds);
        }
        within_bounds(held)
    }

    /// Works the shortfall out anew. Without a chargeback there is none: every other debit is
    /// declined before it makes one.
    pub(super) fn restate_shortfall(&mut self) {
        self.shortfall = self.min_balance.map_or(0, |limit| (limit - (self.posted - self.held)).max(0));
    }

    /// Gives it new limits; what is given has to hold at once.
    pub(super) fn limit(&mut self, limits: SetLimits) -> Result<(), Rejection> {
        let min_balance = limits.min_balance.unwrap_or(self.min_balance);
        let max_balance = limits.max_balance.unwrap_or(self.max_balance);
        if min_balance.zip(max_balance).is_some_and(|(min, max)| min > max) {
            return Err(Rejection::AmountOutOfRange);
        }
        if limits.min_balance.flatten().is_some_and(|limit| self.posted - self.held < limit) {
            return Err(Rejection::InsufficientFunds);
        }
        if limits.max_balance.flatten().is_some_and(|limit| self.posted > limit) {
            return Err(Rejection::LimitExceeded);
        }
        (self.min_balance, self.max_balance) = (min_balance, max_balance);
        self.restate_shortfall();
        Ok(())
    }
}

fn within_bounds(posted: i64) -> Result<i64, Rejection> {
    if (-MAX_BALANCE..=MAX_BALANCE).contains(&posted) { Ok(posted) } else { Err(Rejection::LimitExceeded) }
}
