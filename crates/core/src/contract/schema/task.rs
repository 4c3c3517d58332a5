//! The tasks.

use schemars::JsonSchema;

use super::values::{AccountName, Amount, Currency, Id, LegPlace, Metadata, Moment, NewLimit, OpeningLimit, Reference};
use crate::contract::Leg;

/// A payment task: the body of a message to the exchange `payments`, with the routing key
/// `task.<type>`.
///
/// A document that fits is never a dead letter for its form, nor rejected as
/// `amount_out_of_range`. Beyond what a schema can say: no field may be repeated, an integer is
/// written without fraction and exponent, a task doesn't name itself in `payment_id` or `after`, the
/// date of `execute_at` exists and its year is one of those in UTC as well, and the body has at most 64 KiB.
#[derive(JsonSchema)]
#[schemars(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[schemars(title = "settled: task")]
pub(super) enum Task {
    /// Opens an account with a balance of zero.
    OpenAccount {
        #[schemars(flatten)]
        common: Common,
        /// The account to open.
        account: AccountName,
        /// The only currency that the account will hold.
        currency: Currency,
        /// The balance, in minor units, below which the account may not fall. `"none"` is no
        /// limit. 0 when left out.
        #[schemars(skip_serializing_if = "absent")]
        min_balance: OpeningLimit,
    },
    /// Moves money from one account to another.
    Transfer {
        #[schemars(flatten)]
        common: Common,
        #[schemars(flatten)]
        movement: Movement,
        #[schemars(flatten)]
        notes: Notes,
    },
    /// Moves money between several accounts: all legs or none.
    #[schemars(rename = "transfer")]
    TransferOfLegs {
        #[schemars(flatten)]
        common: Common,
        /// The movements, made in this order.
        #[schemars(length(min = 1, max = Leg::MOST))]
        legs: Vec<Movement>,
        #[schemars(flatten)]
        notes: Notes,
    },
    /// Holds money on the debit account until it is captured, voided, or the hold expires.
    Authorize {
        #[schemars(flatten)]
        common: Common,
        #[schemars(flatten)]
        movement: Movement,
        #[schemars(flatten)]
        hold: Hold,
        #[schemars(flatten)]
        notes: Notes,
    },
    /// Holds money on the debit accounts of all legs, or on none.
    #[schemars(rename = "authorize")]
    AuthorizeLegs {
        #[schemars(flatten)]
        common: Common,
        /// The movements that the money is held for.
        #[schemars(length(min = 1, max = Leg::MOST))]
        legs: Vec<Movement>,
        #[schemars(flatten)]
        hold: Hold,
        #[schemars(flatten)]
        notes: Notes,
    },
    /// Posts what is held.
    Capture {
        #[schemars(flatten)]
        follow_up: FollowUp,
        #[schemars(flatten)]
        part: Part,
        /// `true` releases what is still held after this capture; `false` keeps it held for another one.
        #[schemars(skip_serializing_if = "absent", extend("default" = true))]
        r#final: bool,
    },
    /// Releases what is held.
    Void {
        #[schemars(flatten)]
        follow_up: FollowUp,
    },
    /// Moves captured money back from the credit to the debit account.
    Refund {
        #[schemars(flatten)]
        follow_up: FollowUp,
        #[schemars(flatten)]
        part: Part,
    },
    /// Moves captured money back, imposed from outside: it may take the credit account below its limit.
    Chargeback {
        #[schemars(flatten)]
        follow_up: FollowUp,
        #[schemars(flatten)]
        imposed: Imposed,
    },
    /// Takes a chargeback back.
    ChargebackReversal {
        #[schemars(flatten)]
        follow_up: FollowUp,
        #[schemars(flatten)]
        imposed: Imposed,
    },
    /// Calls off a task that is scheduled or parked; any type of task.
    Cancel {
        #[schemars(flatten)]
        follow_up: FollowUp,
    },
    /// Closes an account for ever. Its balance has to be zero, and nothing may be held.
    CloseAccount {
        #[schemars(flatten)]
        common: Common,
        /// The account to close.
        account: AccountName,
    },
    /// Freezes an account: it takes no debits, holds and captures any more (by the operator's
    /// choice no credits either).
    FreezeAccount {
        #[schemars(flatten)]
        common: Common,
        /// The account to freeze.
        account: AccountName,
    },
    /// Ends a freeze.
    UnfreezeAccount {
        #[schemars(flatten)]
        common: Common,
        /// The account to unfreeze.
        account: AccountName,
    },
    /// Gives an account new limits; at least one of them.
    #[schemars(extend("anyOf" = [{ "required": ["min_balance"] }, { "required": ["max_balance"] }]))]
    SetLimits {
        #[schemars(flatten)]
        common: Common,
        /// The account that gets the limits.
        account: AccountName,
        /// What the available balance (posted minus held) may not fall below, in minor units; `"none"`
        /// is no limit. Left out, it stays as it is.
        #[schemars(skip_serializing_if = "absent")]
        min_balance: NewLimit,
        /// What the posted balance may not rise above, in minor units; `"none"` is no limit. Left out,
        /// it stays as it is.
        #[schemars(skip_serializing_if = "absent")]
        max_balance: NewLimit,
    },
}

/// What every task has.
#[derive(JsonSchema)]
pub(super) struct Common {
    /// The idempotency key of the task, for ever.
    id: Id,
    /// The task is applied at this time, by the database's clock; until then it is `scheduled`. A time
    /// that has passed is at once.
    #[schemars(skip_serializing_if = "absent")]
    execute_at: Moment,
    /// The id of another task: this one is applied only after that one has had its outcome, and
    /// rejected as `dependency_failed` if that one was rejected or canceled.
    #[schemars(skip_serializing_if = "absent")]
    after: Id,
}

/// What a task that moves money has.
#[derive(JsonSchema)]
pub(super) struct Notes {
    /// The publisher's own reference.
    #[schemars(skip_serializing_if = "absent")]
    reference: Reference,
    /// The publisher's own keys and values.
    #[schemars(skip_serializing_if = "absent")]
    metadata: Metadata,
}

/// A movement of money from one account to another.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Movement {
    /// The account that pays.
    debit_account: AccountName,
    /// The account that is paid: another one.
    credit_account: AccountName,
    /// How much, in minor units of the currency.
    amount: Amount,
    /// The currency of both accounts.
    currency: Currency,
}

#[derive(JsonSchema)]
pub(super) struct Hold {
    /// For how long the money is held, in seconds from when the task is applied. Left out, it is the
    /// operator's default; longer than the operator's maximum is rejected as `expiry_out_of_range`.
    #[schemars(skip_serializing_if = "absent", range(min = 1, max = u32::MAX))]
    expires_in: u32,
}

/// What acts on an earlier payment.
#[derive(JsonSchema)]
pub(super) struct FollowUp {
    #[schemars(flatten)]
    common: Common,
    /// The id of the task that is acted on: a `transfer` or `authorize`, never a capture; for
    /// `cancel` any task.
    payment_id: Id,
    #[schemars(flatten)]
    notes: Notes,
}

/// A part of a payment, or what is left of it.
#[derive(JsonSchema)]
pub(super) struct Part {
    /// How much, in minor units of the payment's currency. Left out, it is all that is left.
    #[schemars(skip_serializing_if = "absent")]
    amount: Amount,
    /// One leg of a payment with `legs`. Left out, all of them take part, in proportion to what is left
    /// of each.
    #[schemars(skip_serializing_if = "absent")]
    leg: LegPlace,
}

#[derive(JsonSchema)]
pub(super) struct Imposed {
    /// How much, in minor units of the payment's currency.
    amount: Amount,
    /// One leg of a payment with `legs`. Left out, all of them take part, in proportion to what is left
    /// of each.
    #[schemars(skip_serializing_if = "absent")]
    leg: LegPlace,
}
