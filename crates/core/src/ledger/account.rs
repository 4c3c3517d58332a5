//! Accounts as the ledger knows them, with their balances and limits.

use crate::contract::{Currency, MAX_BALANCE, OpenAccount, Rejection, SetLimits};
use crate::named::named;

/// The position of an account in the batch's list of accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AccountIx(pub usize);

named! {
    /// The status of an account.
    AccountStatus {
        /// A task has named the account, and none has opened it.
        Unopened = "unopened";
        /// It takes part in payments.
        Open = "open";
        /// It takes credits and no debits.
        Frozen = "frozen";
        /// It takes part in no payment.
        Closed = "closed";
    }
}

/// An account and its balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The id by which the store knows the name.
    pub id: i64,
    /// Whether it is open, and takes debits and credits.
    pub status: AccountStatus,
    /// Its currency; `None` while unopened.
    pub currency: Option<Currency>,
    /// The lower limit of `posted - held`, in minor units; `None` is no limit.
    pub min_balance: Option<i64>,
    /// The sum of its entries, in minor units.
    pub posted: i64,
    /// The amount that holds reserve, in minor units.
    pub held: i64,
    /// The number of its entries.
    pub version: i64,
    /// The upper limit of `posted`, in minor units; `None` is no limit but the largest balance.
    pub max_balance: Option<i64>,
    /// How far chargebacks have taken `posted - held` below `min_balance`, in minor units. Credits reduce it; only a
    /// chargeback, or the reversal of one, increases it.
    pub shortfall: i64,
}

impl Account {
    /// An account that no task has opened.
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

    pub(super) const fn open(&mut self, task: &OpenAccount) {
        self.status = AccountStatus::Open;
        self.currency = Some(task.currency);
        self.min_balance = task.min_balance;
    }

    /// Checks whether the account takes part in payments of `currency`.
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

    /// Returns the balance after a debit of `amount` (1 … [`crate::contract::MAX_AMOUNT`]).
    pub(super) fn debited(&self, amount: i64) -> Result<i64, Rejection> {
        let posted = self.posted - amount;
        if self.min_balance.is_some_and(|limit| posted - self.held < limit) {
            return Err(Rejection::InsufficientFunds);
        }
        within_bounds(posted)
    }

    /// Returns the balance after a debit that isn't declined for want of money: the money is held for it, or it is a
    /// chargeback.
    pub(super) fn debited_anyway(&self, amount: i64) -> Result<i64, Rejection> {
        within_bounds(self.posted - amount)
    }

    /// Returns the balance after a credit of `amount` (1 … [`crate::contract::MAX_AMOUNT`]).
    pub(super) fn credited(&self, amount: i64) -> Result<i64, Rejection> {
        let posted = self.posted + amount;
        if self.max_balance.is_some_and(|limit| posted > limit) {
            return Err(Rejection::LimitExceeded);
        }
        within_bounds(posted)
    }

    /// Returns the held amount after a hold of `amount` more.
    pub(super) fn holding(&self, amount: i64) -> Result<i64, Rejection> {
        let held = self.held + amount;
        if self.min_balance.is_some_and(|limit| self.posted - held < limit) {
            return Err(Rejection::InsufficientFunds);
        }
        within_bounds(held)
    }

    /// Computes the shortfall. Only chargebacks make one: any other debit is declined before it does.
    pub(super) fn restate_shortfall(&mut self) {
        self.shortfall = self.min_balance.map_or(0, |limit| (limit - (self.posted - self.held)).max(0));
    }

    /// Sets new limits. The balance has to be within them already.
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
