//! What becomes of a task: values, for the store to write and to tell.

use jiff::Timestamp;
use smallvec::SmallVec;
use uuid::Uuid;

use super::{AccountIx, Payment};
use crate::contract::{AccountName, PaymentState, Rejection};

/// An account's balance at one moment; amounts are in minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    /// Whose.
    pub account: AccountIx,
    /// The sum of its entries.
    pub posted: i64,
    /// What is reserved of it.
    pub held: i64,
    /// The number of its entries.
    pub version: i64,
    /// How far chargebacks have taken it below its limit.
    pub shortfall: i64,
}

/// One side of a payment in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posting {
    /// Negative for a debit, in minor units.
    pub amount: i64,
    /// The account right after it; its version is the entry's number.
    pub after: Balance,
}

/// Money that moves from one account to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Movement {
    /// For which of the payment's legs.
    pub leg: u8,
    /// Of the account that pays.
    pub debit: Posting,
    /// Of the account that is paid.
    pub credit: Posting,
}

/// What was done by a task that is more than a transfer, or by the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acted {
    /// Where the task stands now.
    pub state: PaymentState,
    /// What was posted.
    pub movements: SmallVec<[Movement; 1]>,
    /// The other balances that it is about: of what was held or released, or of the account that
    /// was changed.
    pub balances: SmallVec<[Balance; 1]>,
    /// How much was moved, where it is all of one currency, in minor units.
    pub moved: Option<i64>,
    /// The payment that it is or acts on, afterwards.
    pub payment: Option<Payment>,
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
    /// Anything else that is done.
    Acted(Box<Acted>),
    /// It waits for its time.
    Scheduled(Timestamp),
    /// It waits for another task.
    Parked {
        /// Which.
        on: Uuid,
        /// Until when.
        deadline: Timestamp,
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
    /// Whether it says what became of the task, for now at least.
    pub const fn is_decided(&self) -> bool {
        !matches!(self, Self::SetAside { .. })
    }

    /// Where it leaves the task; `None` when it leaves it where it was.
    pub fn state(&self) -> Option<PaymentState> {
        match self {
            Self::Opened | Self::Settled { .. } => Some(PaymentState::Settled),
            Self::Acted(acted) => Some(acted.state),
            Self::Scheduled(_) => Some(PaymentState::Scheduled),
            Self::Parked { .. } => Some(PaymentState::Parked),
            Self::Rejected(_) => Some(PaymentState::Rejected),
            Self::Duplicate | Self::Conflict(_) | Self::SetAside { .. } => None,
        }
    }
}

/// A payment's way from one state to another, beyond its first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The payment.
    pub payment: Uuid,
    /// Its version afterwards; the first state has 1.
    pub version: i32,
    /// The state that it leaves.
    pub from: PaymentState,
    /// The state that it comes to.
    pub to: PaymentState,
    /// The task that did it; `None` is the clock.
    pub cause: Option<Uuid>,
}

/// A batch, decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// One per item.
    pub outcomes: Vec<Outcome>,
    /// In the order in which they happened.
    pub transitions: Vec<Transition>,
}
