//! The ladder of guards, and the loop that climbs it for each task of a batch.
//!
//! Precedence, first that holds:
//! 1. the id is known: the stored outcome stands, or it is a conflict;
//! 2. an earlier task on the same account (or with the same id) is set aside: behind it;
//! 3. the task alone: `unknown_currency`, `amount_out_of_range`, `same_account`;
//! 4. the accounts, debit before credit: `account_not_found`, `account_closed`,
//!    `currency_mismatch`, then `account_frozen` for the debit;
//! 5. the balances: `insufficient_funds`, `limit_exceeded`.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::{Account, AccountIx, AccountStatus, Arrival};
use crate::contract::{
    AccountName, Currency, Fingerprint, MAX_AMOUNT, MAX_BALANCE, OpenAccount, Rejection, Task, TaskBody, Transfer,
};
use crate::sabotage::{self, Defect};

/// A task with its place in the order and in the batch's list of accounts.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// What is asked for.
    pub task: &'a Task,
    /// When it came.
    pub arrival: Arrival,
    /// [`TaskBody::ordering_account`].
    pub ordering: AccountIx,
    /// [`TaskBody::credited_account`].
    pub credited: AccountIx,
}

/// What the database says of an id that has had its outcome.
#[derive(Clone, Debug)]
pub struct Known {
    /// Of the task that had it.
    pub fingerprint: Fingerprint,
    /// The task itself; only needed when the fingerprints differ.
    pub task: Option<Task>,
}

/// One side of a payment in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posting {
    /// Whose.
    pub account: AccountIx,
    /// The account's version after it.
    pub seq: i64,
    /// Negative for a debit, in minor units.
    pub amount: i64,
    /// The account's balance after it, in minor units.
    pub balance_after: i64,
}

/// What becomes of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The account is open.
    Opened,
    /// The money has moved.
    Settled {
        /// Of the account that pays.
        debit: Posting,
        /// Of the account that is paid.
        credit: Posting,
    },
    /// Declined.
    Rejected(Rejection),
    /// The id has had its outcome with the same content: nothing is applied.
    Duplicate,
    /// The id has had its outcome with other content: nothing is applied. Names the field.
    Conflict(&'static str),
    /// Not decided: a decline that an earlier task, still on its way in another lane, could
    /// turn into an acceptance; or behind such a task.
    SetAside {
        /// The account on which it waits; `None` when it only stands behind another.
        waits_on: Option<AccountName>,
    },
}

impl Outcome {
    /// Whether it is final.
    pub const fn is_decided(&self) -> bool {
        !matches!(self, Self::SetAside { .. })
    }
}

/// Which tasks are still on their way.
pub trait Pending {
    /// The arrivals before `before` of tasks, not yet done, that credit or open `account`.
    fn earlier(&self, account: &AccountName, before: Arrival) -> Vec<Arrival>;
}

/// No task is on its way beside the batch.
#[derive(Clone, Copy, Debug)]
pub struct NonePending;

impl Pending for NonePending {
    fn earlier(&self, _: &AccountName, _: Arrival) -> Vec<Arrival> {
        Vec::new()
    }
}

/// Evaluates `items` (in order of arrival) and changes `accounts` accordingly.
pub fn apply(
    items: &[Item<'_>],
    accounts: &mut [Account],
    known: &HashMap<Uuid, Known>,
    pending: &impl Pending,
) -> Vec<Outcome> {
    debug_assert!(items.is_sorted_by_key(|item| item.arrival), "a batch is in order of arrival");
    let mut batch = Batch {
        items,
        accounts,
        known,
        pending,
        outcomes: Vec::with_capacity(items.len()),
        seen: HashMap::with_capacity(items.len()),
        aside: HashSet::new(),
    };
    for item in items {
        let outcome = batch.evaluate(item);
        batch.record(item, outcome);
    }
    batch.outcomes
}

struct Batch<'a, P> {
    items: &'a [Item<'a>],
    accounts: &'a mut [Account],
    known: &'a HashMap<Uuid, Known>,
    pending: &'a P,
    outcomes: Vec<Outcome>,
    /// The first task of the batch with each id.
    seen: HashMap<Uuid, usize>,
    /// The accounts whose debits are set aside from here on.
    aside: HashSet<AccountIx>,
}

impl<P: Pending> Batch<'_, P> {
    fn evaluate(&mut self, item: &Item<'_>) -> Outcome {
        if let Some(outcome) = self.repetition(item.task) {
            return outcome;
        }
        if self.aside.contains(&item.ordering) {
            return Outcome::SetAside { waits_on: None };
        }
        let decided = match &item.task.body {
            TaskBody::OpenAccount(open) => self.open_account(open, item.ordering),
            TaskBody::Transfer(transfer) => self.transfer(transfer, item.ordering, item.credited),
        };
        match decided {
            Ok(outcome) => outcome,
            Err(Decline { rejection, account }) => match account {
                Some(account) if rejection.depends_on_earlier_tasks() && self.may_change(account, item.arrival) => {
                    Outcome::SetAside { waits_on: Some(account.clone()) }
                }
                _ => Outcome::Rejected(rejection),
            },
        }
    }

    fn record(&mut self, item: &Item<'_>, outcome: Outcome) {
        if let Outcome::Settled { debit, credit } = &outcome
            && sabotage::strikes(Defect::DoubledEntry, item.arrival, item.task)
        {
            for Posting { account, amount, balance_after, .. } in [debit, credit].map(sabotage::once_more) {
                self.post(account, amount, balance_after);
            }
        }
        self.seen.entry(item.task.id).or_insert(self.outcomes.len());
        if !outcome.is_decided() {
            self.aside.insert(item.ordering);
        }
        self.outcomes.push(outcome);
    }

    /// Guard 1 and, for an id whose first task is set aside, guard 2.
    fn repetition(&self, task: &Task) -> Option<Outcome> {
        if let Some(known) = self.known.get(&task.id) {
            if known.fingerprint == task.fingerprint {
                return Some(Outcome::Duplicate);
            }
            let field = known.task.as_ref().and_then(|first| task.differs_from(first));
            return Some(Outcome::Conflict(field.unwrap_or("id")));
        }
        let first = *self.seen.get(&task.id)?;
        Some(if !self.outcomes[first].is_decided() {
            Outcome::SetAside { waits_on: None }
        } else {
            match task.differs_from(self.items[first].task) {
                None => Outcome::Duplicate,
                Some(field) => Outcome::Conflict(field),
            }
        })
    }

    /// Whether a task that came earlier, and that this batch hasn't decided, can still credit
    /// or open the account.
    fn may_change(&self, account: &AccountName, arrival: Arrival) -> bool {
        let decided_here = |earlier: &Arrival| {
            let place = self.items.binary_search_by_key(earlier, |item| item.arrival);
            place.is_ok_and(|place| self.outcomes.get(place).is_some_and(Outcome::is_decided))
        };
        self.pending.earlier(account, arrival).iter().any(|earlier| !decided_here(earlier))
    }

    fn open_account<'t>(&mut self, task: &'t OpenAccount, ix: AccountIx) -> Result<Outcome, Decline<'t>> {
        known_currency(task.currency)?;
        if task.min_balance.is_some_and(|limit| !(-MAX_BALANCE..=0).contains(&limit)) {
            return Err(Rejection::AmountOutOfRange.into());
        }
        let account = &mut self.accounts[ix.0];
        match account.status {
            AccountStatus::Unopened => {
                account.open(task);
                Ok(Outcome::Opened)
            }
            AccountStatus::Open | AccountStatus::Frozen => Err(Rejection::AccountExists.into()),
            AccountStatus::Closed => Err(Rejection::AccountClosed.into()),
        }
    }

    fn transfer<'t>(
        &mut self,
        task: &'t Transfer,
        debit: AccountIx,
        credit: AccountIx,
    ) -> Result<Outcome, Decline<'t>> {
        known_currency(task.currency)?;
        if !(1..=MAX_AMOUNT).contains(&task.amount) {
            return Err(Rejection::AmountOutOfRange.into());
        }
        if debit == credit {
            return Err(Rejection::SameAccount.into());
        }
        let (payer, payee) = (&self.accounts[debit.0], &self.accounts[credit.0]);
        payer.admits(task.currency).map_err(Decline::on(&task.debit_account))?;
        payee.admits(task.currency).map_err(Decline::on(&task.credit_account))?;
        if payer.status == AccountStatus::Frozen {
            return Err(Rejection::AccountFrozen.into());
        }
        let payer_after = payer.debited(task.amount).map_err(Decline::on(&task.debit_account))?;
        let payee_after = payee.credited(task.amount).map_err(Decline::on(&task.credit_account))?;
        Ok(Outcome::Settled {
            debit: self.post(debit, -task.amount, payer_after),
            credit: self.post(credit, task.amount, payee_after),
        })
    }

    fn post(&mut self, ix: AccountIx, amount: i64, balance_after: i64) -> Posting {
        let account = &mut self.accounts[ix.0];
        account.posted = balance_after;
        account.version += 1;
        Posting { account: ix, seq: account.version, amount, balance_after }
    }
}

/// A rejection, and the account it is about where an earlier task could change it.
struct Decline<'t> {
    rejection: Rejection,
    account: Option<&'t AccountName>,
}

impl<'t> Decline<'t> {
    fn on(account: &'t AccountName) -> impl FnOnce(Rejection) -> Self {
        move |rejection| Self { rejection, account: Some(account) }
    }
}

impl From<Rejection> for Decline<'_> {
    fn from(rejection: Rejection) -> Self {
        Self { rejection, account: None }
    }
}

fn known_currency(currency: Currency) -> Result<(), Rejection> {
    if currency.is_known() { Ok(()) } else { Err(Rejection::UnknownCurrency) }
}
