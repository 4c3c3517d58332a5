//! Accounts and the movement of money between them.

use uuid::Uuid;

use super::rows::{Leg, QUINTILLION};
use super::{Model, PaymentState, Rejection};

/// An account that has been opened.
#[derive(Clone, Debug, Default)]
pub struct Account {
    pub currency: String,
    pub is_frozen: bool,
    pub is_closed: bool,
    pub min_balance: Option<i64>,
    pub max_balance: Option<i64>,
    pub posted: i64,
    pub held: i64,
    /// Number of entries of the account.
    pub version: i64,
}

/// One entry: the debit or the credit side of a movement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The task that moved the money.
    pub task: Uuid,
    pub account: String,
    /// Position among the entries of the account, starting with 1.
    pub seq: i64,
    pub amount: i64,
    /// Balance of the account after this entry.
    pub balance: i64,
}

impl Account {
    pub fn available(&self) -> i64 {
        self.posted - self.held
    }

    /// Returns how far the balance is below its limit.
    pub fn shortfall(&self) -> i64 {
        self.min_balance.map_or(0, |limit| limit - self.available()).max(0)
    }

    fn must_have(&self, amount: i64) -> Result<(), Rejection> {
        match self.min_balance {
            Some(limit) if self.available() - amount < limit => Err(Rejection::InsufficientFunds),
            _ => Ok(()),
        }
    }

    pub(super) fn set_limits(
        &mut self,
        min_balance: Option<Option<i64>>,
        max_balance: Option<Option<i64>>,
    ) -> Result<(), Rejection> {
        if let Some(limit) = min_balance {
            self.min_balance = limit;
        }
        if let Some(limit) = max_balance {
            self.max_balance = limit;
        }
        if let (Some(min), Some(max)) = (self.min_balance, self.max_balance)
            && min > max
        {
            return Err(Rejection::AmountOutOfRange);
        }
        if let Some(Some(limit)) = min_balance
            && self.available() < limit
        {
            return Err(Rejection::InsufficientFunds);
        }
        if let Some(Some(limit)) = max_balance
            && self.posted > limit
        {
            return Err(Rejection::LimitExceeded);
        }
        Ok(())
    }
}

impl Model {
    pub(super) fn open(&mut self, name: &str, currency: &str, min_balance: Option<i64>) -> Result<(), Rejection> {
        match self.accounts.get(name) {
            Some(account) if account.is_closed => Err(Rejection::AccountClosed),
            Some(_) => Err(Rejection::AccountExists),
            None => {
                let account = Account { currency: currency.to_owned(), min_balance, ..Account::default() };
                self.accounts.insert(name.to_owned(), account);
                Ok(())
            }
        }
    }

    pub(super) fn existing(&mut self, name: &str) -> Result<&mut Account, Rejection> {
        match self.accounts.get_mut(name) {
            None => Err(Rejection::AccountNotFound),
            Some(account) if account.is_closed => Err(Rejection::AccountClosed),
            Some(account) => Ok(account),
        }
    }

    /// Moves `amount` from the debit to the credit account, if the debit account has enough.
    pub(super) fn transfer(&mut self, task: Uuid, leg: &Leg, amount: i64) -> Result<(), Rejection> {
        self.may_take_part(leg, false)?;
        self.accounts[&leg.debit].must_have(amount)?;
        self.pay(task, (&leg.debit, &leg.credit), amount)
    }

    /// Moves `amount` that was held for the payment.
    pub(super) fn transfer_held(&mut self, task: Uuid, leg: &Leg, amount: i64) -> Result<(), Rejection> {
        self.may_take_part(leg, false)?;
        self.account(&leg.debit).held -= amount;
        self.pay(task, (&leg.debit, &leg.credit), amount)
    }

    /// Moves `amount` even if the debit account doesn't have enough.
    pub(super) fn impose(&mut self, task: Uuid, leg: &Leg, amount: i64) -> Result<(), Rejection> {
        self.may_take_part(leg, true)?;
        self.pay(task, (&leg.debit, &leg.credit), amount)
    }

    pub(super) fn hold(&mut self, leg: &Leg) -> Result<(), Rejection> {
        self.may_take_part(leg, false)?;
        self.accounts[&leg.debit].must_have(leg.amount)?;
        if self.accounts[&leg.debit].held + leg.amount > QUINTILLION {
            return Err(Rejection::LimitExceeded);
        }
        self.account(&leg.debit).held += leg.amount;
        Ok(())
    }

    /// Releases what is still held for a payment. Its state is then `without` if nothing was captured.
    pub(super) fn end_hold(&mut self, place: usize, without: PaymentState) {
        for leg in self.rows[place].legs.clone() {
            self.account(&leg.debit).held -= leg.amount - leg.captured;
        }
        let row = &mut self.rows[place];
        row.hold_until = None;
        let is_empty = row.legs.iter().all(|leg| leg.captured == 0);
        row.state = Some(if is_empty { without } else { row.applied() });
    }

    fn account(&mut self, name: &str) -> &mut Account {
        self.accounts.get_mut(name).expect("it was looked up before")
    }

    fn may_take_part(&mut self, leg: &Leg, is_imposed: bool) -> Result<(), Rejection> {
        for name in [&leg.debit, &leg.credit] {
            if self.existing(name)?.currency != leg.currency {
                return Err(Rejection::CurrencyMismatch);
            }
        }
        let pays_frozen = self.accounts[&leg.debit].is_frozen && !is_imposed;
        let paid_frozen = self.accounts[&leg.credit].is_frozen && !self.settings.frozen_takes_credits;
        if pays_frozen || paid_frozen { Err(Rejection::AccountFrozen) } else { Ok(()) }
    }

    fn pay(&mut self, task: Uuid, (debit, credit): (&str, &str), amount: i64) -> Result<(), Rejection> {
        let (payer, payee) = (self.accounts[debit].posted, &self.accounts[credit]);
        if payer - amount < -QUINTILLION || payee.posted + amount > payee.max_balance.unwrap_or(QUINTILLION) {
            return Err(Rejection::LimitExceeded);
        }
        for (name, amount) in [(debit, -amount), (credit, amount)] {
            let account = self.account(name);
            account.posted += amount;
            account.version += 1;
            let (seq, balance) = (account.version, account.posted);
            self.entries.push(Entry { task, account: name.to_owned(), seq, amount, balance });
        }
        Ok(())
    }
}
