//! The fields of each type of task.

use compact_str::CompactString;
use serde::Serialize;
use uuid::Uuid;

use super::TaskType;
#[cfg(test)]
use crate::contract::schema::values;
use crate::contract::{AccountName, Currency};

/// The word that a task has in place of a limit to ask for no limit.
pub const NO_LIMIT: &str = "none";

/// Opens an account with a balance of zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenAccount {
    /// The account to open.
    pub account: AccountName,
    /// The account's currency, for ever.
    pub currency: Currency,
    /// The lower limit of `posted - held`, in minor units; `None` is no limit. 0 if left out.
    pub min_balance: Option<i64>,
}

/// Moves money from one account to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Name of the account that pays.
    pub debit_account: AccountName,
    /// Name of the account that is paid.
    pub credit_account: AccountName,
    /// The amount, in minor units of `currency`.
    pub amount: i64,
    /// The currency of both accounts.
    pub currency: Currency,
    /// The publisher's own reference.
    pub reference: Option<CompactString>,
    /// The publisher's own keys and values, as canonical JSON (sorted keys, no white space).
    pub metadata: Option<CompactString>,
}

/// One of several movements that are applied together or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "AskedLeg"))]
pub struct Leg {
    /// Name of the account that pays.
    #[cfg_attr(test, schemars(with = "values::AccountName"))]
    pub debit_account: AccountName,
    /// Name of the account that is paid.
    #[cfg_attr(test, schemars(with = "values::AccountName"))]
    pub credit_account: AccountName,
    /// The amount, in minor units of `currency`, as the task says it.
    #[cfg_attr(test, schemars(with = "values::AskedAmount"))]
    pub amount: i64,
    /// The currency of both accounts.
    #[cfg_attr(test, schemars(with = "values::Currency"))]
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
    /// The movements that will be made when the hold is captured.
    pub terms: Terms,
    /// How long the hold lasts from when it is applied, in seconds; `None` is the operator's default.
    pub expires_in: Option<u32>,
    /// The publisher's own reference.
    pub reference: Option<CompactString>,
    /// The publisher's own keys and values, as canonical JSON.
    pub metadata: Option<CompactString>,
}

impl Authorize {
    /// Returns the movements that the money is held for.
    pub fn legs(&self) -> &[Leg] {
        self.terms.as_slice()
    }
}

/// The movements of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Terms {
    /// One movement, in the task's own fields.
    One(Leg),
    /// The list `legs`: 1 to [`Leg::MOST`] movements.
    Legs(Vec<Leg>),
}

impl Terms {
    /// Returns all movements.
    pub fn as_slice(&self) -> &[Leg] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Legs(legs) => legs,
        }
    }

    /// Whether they are the list `legs`.
    pub const fn is_listed(&self) -> bool {
        matches!(self, Self::Legs(_))
    }
}

/// Acts on an earlier payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowUp {
    /// The id of that payment.
    pub payment_id: Uuid,
    /// What is done with the payment.
    pub action: Action,
    /// The publisher's own reference.
    pub reference: Option<CompactString>,
    /// The publisher's own keys and values, as canonical JSON.
    pub metadata: Option<CompactString>,
}

/// What a follow-up does with a payment. Amounts are in minor units of its currency. `leg` is the place in its `legs`,
/// from 0; without it all legs take part, in proportion to what is left of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Posts held money.
    Capture {
        /// The amount; `None` is all that is left.
        amount: Option<i64>,
        /// The place of one leg; `None` is all legs.
        leg: Option<u8>,
        /// Whether the rest of the hold is released. True if left out.
        is_final: bool,
    },
    /// Releases held money.
    Void,
    /// Moves captured money back.
    Refund {
        /// The amount; `None` is all that is left.
        amount: Option<i64>,
        /// The place of one leg; `None` is all legs.
        leg: Option<u8>,
    },
    /// Moves captured money back, as a bank or card scheme has decided.
    Chargeback {
        /// The amount that goes back or comes again.
        amount: i64,
        /// The place of one leg; `None` is all legs.
        leg: Option<u8>,
    },
    /// Moves charged back money to where it was.
    ChargebackReversal {
        /// The amount that goes back or comes again.
        amount: i64,
        /// The place of one leg; `None` is all legs.
        leg: Option<u8>,
    },
    /// Ends a task that is scheduled or parked: it will not be applied.
    Cancel,
}

impl Action {
    /// Returns the type of the task.
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

    /// Returns the amount that is asked for, in minor units, if one is.
    pub const fn amount(self) -> Option<i64> {
        match self {
            Self::Capture { amount, .. } | Self::Refund { amount, .. } => amount,
            Self::Chargeback { amount, .. } | Self::ChargebackReversal { amount, .. } => Some(amount),
            Self::Void | Self::Cancel => None,
        }
    }

    /// Returns the place of the leg that is asked for, if one is.
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
    /// Name of the account.
    pub account: AccountName,
    /// What is changed of the account.
    pub change: AccountChange,
}

/// The changes of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountChange {
    /// Closes it for ever: it takes part in no payment.
    Close,
    /// Freezes it: it takes no debits.
    Freeze,
    /// Ends a freeze: it takes debits again.
    Unfreeze,
    /// Sets its limits.
    SetLimits(SetLimits),
}

/// New limits of an account, in minor units. An outer `None` keeps the limit, an inner one removes it. At least one
/// limit is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetLimits {
    /// The lower limit of `posted - held`.
    pub min_balance: Option<Option<i64>>,
    /// The upper limit of `posted`.
    pub max_balance: Option<Option<i64>>,
}

impl AccountChange {
    /// Returns the type of the task.
    pub const fn task_type(self) -> TaskType {
        match self {
            Self::Close => TaskType::CloseAccount,
            Self::Freeze => TaskType::FreezeAccount,
            Self::Unfreeze => TaskType::UnfreezeAccount,
            Self::SetLimits(_) => TaskType::SetLimits,
        }
    }
}
