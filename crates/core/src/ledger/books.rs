//! What the ledger is given: the tasks of a batch, the books that they change, and the operator's rules.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use smallvec::SmallVec;
use uuid::Uuid;

use super::account::{Account, AccountIx};
use super::payment::{Payment, PaymentLeg};
use crate::contract::{Access, AccountName, Currencies, Fingerprint, Leg, Task, TaskBody};

/// The place of a task in the order in which this daemon has taken tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arrival(pub u64);

/// The operator's rules for payments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long a hold lasts if its task has no `expires_in`.
    pub hold: SignedDuration,
    /// The longest that a hold may last.
    pub longest_hold: SignedDuration,
    /// How long a task waits for another one.
    pub parking: SignedDuration,
    /// Whether a frozen account can be credited.
    pub frozen_takes_credits: bool,
    /// The currencies in which accounts can be opened.
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

/// The accounts and payments of a batch, locked. The ledger changes them.
#[derive(Debug)]
pub struct Books<'a> {
    /// All accounts that the tasks of the batch and their payments name.
    pub accounts: &'a mut [Account],
    /// The names of the accounts, in the same order.
    pub names: &'a [&'a AccountName],
    /// The payments that items refer to or resume, as far as they exist. Payments of the batch are added if another
    /// item refers to them.
    pub payments: &'a mut HashMap<Uuid, Payment>,
    /// The ids of the batch that already have an outcome.
    pub known: &'a HashMap<Uuid, Known>,
    /// The database's clock.
    pub now: Timestamp,
    /// The operator's rules.
    pub rules: &'a Rules,
}

/// A task of a batch.
#[derive(Clone, Debug)]
pub struct Item<'a> {
    /// The task to decide.
    pub task: &'a Task,
    /// Its place in the order of arrival.
    pub arrival: Arrival,
    /// The places of its [account pairs](crate::contract::TaskBody::account_pairs) in the batch's list of accounts.
    pub pairs: SmallVec<[(AccountIx, AccountIx); 1]>,
    /// Whether the task is stored as scheduled or parked, and is now looked at again.
    pub resumes: bool,
    /// Name of the publisher.
    pub publisher: Option<&'a str>,
    /// The payments on which the publisher may act.
    pub access: Access<'a>,
}

impl Item<'_> {
    /// Returns the legs of the payment that the task asks for, with nothing posted yet.
    pub(super) fn legs(&self) -> impl Iterator<Item = PaymentLeg> {
        let (one, legs): (_, &[Leg]) = match &self.task.body {
            TaskBody::Transfer(transfer) => (Some((transfer.currency, transfer.amount)), &[]),
            TaskBody::Split(split) => (None, &split.legs),
            TaskBody::Authorize(authorize) => (None, authorize.legs()),
            TaskBody::OpenAccount(_) | TaskBody::FollowUp(_) | TaskBody::ChangeAccount(_) => (None, &[]),
        };
        let amounts = one.into_iter().chain(legs.iter().map(|leg| (leg.currency, leg.amount)));
        self.pairs.iter().zip(amounts).map(|((debit, credit), (currency, amount))| PaymentLeg {
            debit: *debit,
            credit: *credit,
            currency,
            amount,
            captured: 0,
            refunded: 0,
            charged_back: 0,
        })
    }
}

/// A task that already has its outcome.
#[derive(Clone, Debug)]
pub struct Known {
    /// The fingerprint of the task.
    pub fingerprint: Fingerprint,
    /// The task; only needed if the fingerprints differ.
    pub task: Option<Task>,
}

/// The tasks that are on their way in this daemon, beside the batch.
pub trait Pending {
    /// Returns the arrivals before `before` of undecided tasks that credit, open or change `account`, or may do so.
    fn earlier(&self, account: &AccountName, before: Arrival) -> Vec<Arrival>;
}

/// A [`Pending`] without tasks.
#[derive(Clone, Copy, Debug)]
pub struct NonePending;

impl Pending for NonePending {
    fn earlier(&self, _: &AccountName, _: Arrival) -> Vec<Arrival> {
        Vec::new()
    }
}
