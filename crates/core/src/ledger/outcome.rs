//! The ledger's decision, as values: outcomes, and the changes of payments.

use std::borrow::Cow;
use std::collections::HashMap;

use jiff::Timestamp;
use smallvec::SmallVec;
use uuid::Uuid;

use super::account::AccountIx;
use super::books::Item;
use super::payment::{Payment, PaymentLeg, Transition};
use super::state::{Stage, Trigger};
use crate::contract::{AccountName, Rejection};

/// An account's balance at one moment; amounts are in minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    /// The account whose balance it is.
    pub account: AccountIx,
    /// The sum of its entries.
    pub posted: i64,
    /// The amount that holds reserve.
    pub held: i64,
    /// The number of its entries.
    pub version: i64,
    /// How far chargebacks have taken the account below its limit.
    pub shortfall: i64,
}

/// One entry of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posting {
    /// Negative for a debit, in minor units.
    pub amount: i64,
    /// The account's balance right after it; its version is the number of the entry.
    pub after: Balance,
}

/// Money that moves from one account to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Movement {
    /// The place of the payment's leg.
    pub leg: u8,
    /// The entry of the account that pays.
    pub debit: Posting,
    /// The entry of the account that is paid.
    pub credit: Posting,
}

/// The changes that were made by a task that is more than a transfer, or by the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acted {
    /// What has happened to the task's own payment; of what the clock did, to the payment that it ended.
    pub trigger: Trigger,
    /// The money that was posted.
    pub movements: SmallVec<[Movement; 1]>,
    /// Balances that were changed without a posting, by a hold or a release; or the balance of the account that was
    /// changed.
    pub balances: SmallVec<[Balance; 1]>,
    /// The amount that was moved, in minor units, if it is all of one currency.
    pub moved: Option<i64>,
    /// The payment that the task is or acts on, after it.
    pub payment: Option<Payment>,
}

impl Acted {
    /// What `trigger` has done: `payment` is what the task is or acts on, afterwards.
    pub(super) fn of(
        trigger: Trigger,
        movements: SmallVec<[Movement; 1]>,
        balances: SmallVec<[Balance; 1]>,
        payment: Option<Payment>,
    ) -> Self {
        let moved = payment.as_ref().and_then(|payment| moved(payment, &movements));
        Self { trigger, movements, balances, moved, payment }
    }
}

/// The amount that was moved, if it is all of one currency.
fn moved(payment: &Payment, movements: &[Movement]) -> Option<i64> {
    let currency = |movement: &Movement| payment.legs.get(usize::from(movement.leg)).map(|leg| leg.currency);
    let first = currency(movements.first()?)?;
    let is_one = movements.iter().all(|movement| currency(movement) == Some(first));
    is_one.then(|| movements.iter().map(|movement| movement.credit.amount).sum())
}

/// The outcome of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The account is open.
    Opened,
    /// The money has moved.
    Settled {
        /// The entry of the account that pays.
        debit: Posting,
        /// The entry of the account that is paid.
        credit: Posting,
    },
    /// Any other task was applied.
    Acted(Box<Acted>),
    /// The task waits for its time.
    Scheduled(Timestamp),
    /// The task waits for another task.
    Parked {
        /// The id of that task.
        on: Uuid,
        /// When it stops waiting.
        deadline: Timestamp,
    },
    /// The task was declined.
    Rejected(Rejection),
    /// The id already has its outcome, with the same content. Nothing is applied.
    Duplicate,
    /// The id already has its outcome, with another value of this field. Nothing is applied.
    Conflict(&'static str),
    /// Not decided. An earlier task, still on its way in another lane, could turn the rejection into an acceptance; or
    /// the task has to come after one that is not decided.
    Deferred {
        /// The account on which the task waits; `None` if it only has to come after another one.
        waits_on: Option<AccountName>,
    },
}

impl Outcome {
    /// Whether the task is decided; a task that waits for its time is.
    pub const fn is_decided(&self) -> bool {
        !matches!(self, Self::Deferred { .. })
    }

    /// The rejection of a declined task.
    pub const fn rejection(&self) -> Option<Rejection> {
        if let Self::Rejected(rejection) = self { Some(*rejection) } else { None }
    }

    /// What was done by a task that is more than a transfer.
    pub fn acted(&self) -> Option<&Acted> {
        if let Self::Acted(acted) = self { Some(acted) } else { None }
    }

    /// The time until which the task waits.
    pub const fn deadline(&self) -> Option<Timestamp> {
        if let Self::Scheduled(until) | Self::Parked { deadline: until, .. } = self { Some(*until) } else { None }
    }

    /// The payment that a task is right after this outcome, which has taken it to `stage`.
    pub(super) fn payment(&self, item: &Item<'_>, stage: Stage) -> Payment {
        let own = Payment {
            deadline: self.deadline(),
            publisher: item.publisher.map(Into::into),
            ..Payment::bare(item.task.id, item.task.body.task_type(), stage)
        };
        match self {
            Self::Settled { .. } => Payment { legs: item.legs().map(PaymentLeg::posted).collect(), ..own },
            Self::Acted(acted) => acted.payment.clone().filter(|payment| payment.id == own.id).unwrap_or(own),
            Self::Opened
            | Self::Scheduled(_)
            | Self::Parked { .. }
            | Self::Rejected(_)
            | Self::Duplicate
            | Self::Conflict(_)
            | Self::Deferred { .. } => own,
        }
    }

    /// What has happened to the task's own payment. `None` if the outcome leaves it as it was.
    pub(super) fn trigger(&self) -> Option<Trigger> {
        match self {
            Self::Opened | Self::Settled { .. } => Some(Trigger::Settle),
            Self::Acted(acted) => Some(acted.trigger),
            Self::Scheduled(_) => Some(Trigger::Schedule),
            Self::Parked { .. } => Some(Trigger::Park),
            Self::Rejected(_) => Some(Trigger::Reject),
            Self::Duplicate | Self::Conflict(_) | Self::Deferred { .. } => None,
        }
    }
}

/// How the payment that a task is has changed by the task's outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The stage before; `None` for a new task.
    pub before: Option<Stage>,
    /// The stage right after the outcome. Later tasks of the batch may have taken the payment further.
    pub after: Stage,
}

impl Step {
    /// Whether a task that was waiting goes on waiting as before.
    pub fn keeps_waiting(&self) -> bool {
        self.before == Some(self.after)
    }
}

/// The ledger's decision on a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The outcome of each item, in their order.
    pub outcomes: Vec<Outcome>,
    /// One per item: the change of its own payment. `None` if the outcome leaves that as it was.
    pub steps: Vec<Option<Step>>,
    /// The changes of payments that existed already, in the order in which they were made.
    pub transitions: Vec<Transition>,
}

impl Decision {
    pub(super) fn with_capacity(items: usize) -> Self {
        Self { outcomes: Vec::with_capacity(items), steps: Vec::with_capacity(items), transitions: Vec::new() }
    }

    /// The payment that the task of `items[ix]` is, as the batch leaves it: `payments` are those of the
    /// [`Books`](super::Books) after the batch. `None` if the outcome leaves the task's payment as it was.
    pub fn payment<'p>(
        &self,
        ix: usize,
        item: &Item<'_>,
        payments: &'p HashMap<Uuid, Payment>,
    ) -> Option<Cow<'p, Payment>> {
        let step = self.steps[ix]?;
        // What nobody else in the batch refers to is as its outcome left it.
        let later = payments.get(&item.task.id).map(Cow::Borrowed);
        Some(later.unwrap_or_else(|| Cow::Owned(self.outcomes[ix].payment(item, step.after))))
    }
}
