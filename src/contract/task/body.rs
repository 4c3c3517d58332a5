//! What each type of task asks for.

use compact_str::CompactString;
use serde::Serialize;
use uuid::Uuid;

use super::TaskType;
use crate::contract::{AccountName, Currency};

/// What a task writes in place of a limit where there is to be none.
pub const NO_LIMIT: &str = "none";

/// Opens an account with a balance of zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenAccount {
    /// The account to open.
    pub account: AccountName,
    /// The only currency it will hold.
    pub currency: Currency,
    /// The balance it may not fall below, in minor units; `None` is no limit. 0 when left out.
    pub min_balance: Option<i64>,
}

/// Moves money from one account to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Pays.
    pub debit_account: AccountName,
    /// Is paid.
    pub credit_account: AccountName,
    /// In minor units of `currency`.
    pub amount: i64,
    /// Both accounts' currency.
    pub currency: Currency,
    /// The publisher's own reference.
    pub reference: Option<CompactString>,
    /// The publisher's own keys and values, as canonical JSON (sorted keys, no white space).
    pub metadata: Option<CompactString>,
}

/// One movement of several that happen together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Leg {
    /// Pays.
    pub debit_account: AccountName,
    /// Is paid.
    pub credit_account: AccountName,
    /// In minor units of `currency`.
    pub amount: i64,
    /// Both accounts' currency.
    pub currency: Currency,
}

impl Leg {
    /// The most legs of a task.
    pub const MOST: usize = 64;
}

/// Moves money between several accounts: all legs or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// 1 to [`Leg::MOST`].
    pub legs: Vec<Leg>,
    /// The publisher's own reference.
    pub reference: Option<CompactString>,
    /// The publisher's own keys and values, as canonical JSON.
    pub metadata: Option<CompactString>,
}

/// Holds money until it is captured, voided, or the hold expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorize {
    /// What is held, and for whom.
    pub terms: Terms,
    /// For how long, in seconds, from when it is applied; `None` is the operator's default.
    pub expires_in: Option<u32>,
    /// The publisher's own reference.
    pub reference: Option<CompactString>,
    /// The publisher's own keys and values, as canonical JSON.
    pub metadata: Option<CompactString>,
}

impl Authorize {
    /// What is held.
    pub fn legs(&self) -> &[Leg] {
        self.terms.as_slice()
    }
}

/// One movement, written in the task's own fields, or several in `legs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Terms {
    /// In the task's own fields.
    One(Leg),
    /// In `legs`: 1 to [`Leg::MOST`].
    Legs(Vec<Leg>),
}

impl Terms {
    /// All of them.
    pub fn as_slice(&self) -> &[Leg] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Legs(legs) => legs,
        }
    }

    /// Whether they are written as a list.
    pub const fn is_listed(&self) -> bool {
        matches!(self, Self::Legs(_))
    }
}

/// Acts on an earlier payment, its parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowUp {
    /// The parent.
    pub payment_id: Uuid,
    /// What is done with it.
    pub action: Action,
    /// The publisher's own reference.
    pub reference: Option<CompactString>,
    /// The publisher's own keys and values, as canonical JSON.
    pub metadata: Option<CompactString>,
}

/// What is done with a payment. Amounts are in minor units of its currency; `leg` is the place in
/// its `legs`, from 0: without it all legs take part in proportion to what is left of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Posts what was held.
    Capture {
        /// `None` is all that is left.
        amount: Option<i64>,
        /// One of the legs.
        leg: Option<u8>,
        /// Whether the rest is released; true when left out.
        is_final: bool,
    },
    /// Releases what is held.
    Void,
    /// Moves captured money back.
    Refund {
        /// `None` is all that is left.
        amount: Option<i64>,
        /// One of the legs.
        leg: Option<u8>,
    },
    /// Moves captured money back, imposed from outside.
    Chargeback {
        /// How much.
        amount: i64,
        /// One of the legs.
        leg: Option<u8>,
    },
    /// Takes a chargeback back.
    ChargebackReversal {
        /// How much.
        amount: i64,
        /// One of the legs.
        leg: Option<u8>,
    },
    /// What is scheduled or parked will not happen.
    Cancel,
}

impl Action {
    /// The type of the task.
    pub const fn task_type(self) -> TaskType {
        match self {
            Self::Capture { .. } => TaskType::Capture,
            Self::Void => TaskType::Void,
            Self::Refund { .. } => TaskType::Refund,
            Self::Chargeback { .. } => TaskType::Chargeback,
            Self::ChargebackReversal { .. } => TaskType::ChargebackReversal,
            Self::Cancel => TaskType::Cancel,
        }
    }

    /// How much, where it is said, in minor units.
    pub const fn amount(self) -> Option<i64> {
        match self {
            Self::Capture { amount, .. } | Self::Refund { amount, .. } => amount,
            Self::Chargeback { amount, .. } | Self::ChargebackReversal { amount, .. } => Some(amount),
            Self::Void | Self::Cancel => None,
        }
    }

    /// Which leg, where it is said.
    pub const fn leg(self) -> Option<u8> {
        match self {
            Self::Capture { leg, .. }
            | Self::Refund { leg, .. }
            | Self::Chargeback { leg, .. }
            | Self::ChargebackReversal { leg, .. } => leg,
            Self::Void | Self::Cancel => None,
        }
    }
}

/// Changes an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeAccount {
    /// Which.
    pub account: AccountName,
    /// What is changed.
    pub change: AccountChange,
}

/// What is changed about an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountChange {
    /// It takes part in nothing any more; for ever.
    Close,
    /// It takes no debits.
    Freeze,
    /// It takes debits again.
    Unfreeze,
    /// Its limits.
    SetLimits(SetLimits),
}

/// New limits of an account, in minor units; an outer `None` leaves one as it is, an inner one
/// takes it away. At least one is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetLimits {
    /// What `posted - held` may not fall below.
    pub min_balance: Option<Option<i64>>,
    /// What `posted` may not rise above.
    pub max_balance: Option<Option<i64>>,
}

impl AccountChange {
    /// The type of the task.
    pub const fn task_type(self) -> TaskType {
        match self {
            Self::Close => TaskType::CloseAccount,
            Self::Freeze => TaskType::FreezeAccount,
            Self::Unfreeze => TaskType::UnfreezeAccount,
            Self::SetLimits(_) => TaskType::SetLimits,
        }
    }
}
