//! The events' data.

use schemars::JsonSchema;

use super::values::{
    AccountName, AskedAmount, AskedLimit, Currency, IsoStatus, LegPlace, Metadata, ReasonCode, Reference, TaskId,
    TypeName,
};
use crate::contract::{Leg, MAX_BALANCE, PaymentState, Rejection};

/// What became of a task: the body of a reply and of an event in the format `single`, the
/// `data` of an event in the format `batch`.
///
/// Later versions may add fields. All numbers are integers of up to 64 bits: whatever reads them as
/// floating point, such as `JSON.parse` of JavaScript, loses digits beyond 2^53.
#[derive(JsonSchema)]
#[schemars(title = "settled: event data")]
pub(super) struct EventData {
    /// The task's id.
    id: TaskId,
    /// The task's type.
    r#type: TypeName,
    /// Where the task stands now.
    state: PaymentState,
    /// How many states the task has had.
    #[schemars(range(min = 1))]
    version: i32,
    /// Why it was rejected; only then.
    #[schemars(skip_serializing_if = "absent")]
    reason: Rejection,
    /// The same as an ISO 20022 external status reason code.
    #[schemars(skip_serializing_if = "absent")]
    reason_code: ReasonCode,
    /// Of a task that acts on an earlier one: the id of that one.
    #[schemars(skip_serializing_if = "absent")]
    payment_id: TaskId,
    /// Of a task about an account: the account.
    #[schemars(skip_serializing_if = "absent")]
    account: AccountName,
    /// The account that pays; of a `transfer` or `authorize` without `legs`.
    #[schemars(skip_serializing_if = "absent")]
    debit_account: AccountName,
    /// The account that is paid; of a `transfer` or `authorize` without `legs`.
    #[schemars(skip_serializing_if = "absent")]
    credit_account: AccountName,
    /// How much was moved, in minor units of `currency`. Where nothing was, as the task said it: of a
    /// rejected task perhaps outside the bounds of an amount. Left out where it is not of one currency.
    #[schemars(skip_serializing_if = "absent")]
    amount: AskedAmount,
    /// The currency of `amount`; of `open_account`, the account's.
    #[schemars(skip_serializing_if = "absent")]
    currency: Currency,
    /// The movements, as the task said them.
    #[schemars(skip_serializing_if = "absent", length(min = 1, max = Leg::MOST))]
    legs: Vec<AskedLeg>,
    /// As the task said it: the leg of the payment that was acted on.
    #[schemars(skip_serializing_if = "absent")]
    leg: LegPlace,
    /// `capture`: whether the rest is released.
    #[schemars(skip_serializing_if = "absent")]
    r#final: bool,
    /// `authorize`: for how many seconds the money is held, as the task said it.
    #[schemars(skip_serializing_if = "absent", range(min = 1, max = u32::MAX))]
    expires_in: u32,
    /// `open_account` and `set_limits`: the limit, in minor units, as the task said it; `null` is none.
    #[schemars(skip_serializing_if = "absent")]
    min_balance: AskedLimit,
    /// `set_limits`: the limit, in minor units, as the task said it; `null` is none.
    #[schemars(skip_serializing_if = "absent")]
    max_balance: AskedLimit,
    /// When the task was to be applied, in UTC.
    #[schemars(skip_serializing_if = "absent", extend("format" = "date-time"))]
    execute_at: String,
    /// The task that was to have its outcome first.
    #[schemars(skip_serializing_if = "absent")]
    after: TaskId,
    /// As the task said it.
    #[schemars(skip_serializing_if = "absent")]
    reference: Reference,
    /// As the task said it, keys sorted.
    #[schemars(skip_serializing_if = "absent")]
    metadata: Metadata,
    /// The `user_id` of the task's message, else its `app_id`.
    #[schemars(skip_serializing_if = "absent")]
    publisher: String,
    /// When the task came to its state, by the database's clock.
    #[schemars(extend("format" = "date-time"))]
    settled_at: String,
    /// The whole state of the payment, right after: of the one that the task acted on; of an
    /// `authorize` and a `transfer` with `legs`, its own.
    #[schemars(skip_serializing_if = "absent")]
    payment: Payment,
    /// The balances that the task has changed, right after: of each movement that of the account that
    /// paid and that of the account that was paid (of several movements of one account the last is
    /// what counts), then those of which only what is held has changed. Of a task about an account,
    /// that of the account. None of a task that changed nothing.
    #[schemars(length(max = 2 * Leg::MOST))]
    balances: Vec<Balance>,
}

/// A movement, as the task said it.
#[derive(JsonSchema)]
pub(super) struct AskedLeg {
    /// The account that pays.
    debit_account: AccountName,
    /// The account that is paid.
    credit_account: AccountName,
    /// How much, in minor units of the currency.
    amount: AskedAmount,
    /// The currency of both accounts.
    currency: Currency,
}

/// An account's balance right after a task.
#[derive(JsonSchema)]
pub(super) struct Balance {
    /// Whose.
    account: AccountName,
    /// The sum of its entries, in minor units.
    #[schemars(range(min = -MAX_BALANCE, max = MAX_BALANCE))]
    posted: i64,
    /// What is held of it, in minor units. Left out of an answer to a repetition, when it isn't known
    /// any more.
    #[schemars(skip_serializing_if = "absent", range(min = 0, max = MAX_BALANCE))]
    held: i64,
    /// The number of its entries: of two balances of an account, the one with the higher
    /// version is the later one. Holding and releasing money don't count.
    #[schemars(range(min = 0))]
    version: i64,
    /// How far chargebacks have taken the account below its limit, in minor units. Left out when they
    /// haven't.
    #[schemars(skip_serializing_if = "absent", range(min = 1))]
    shortfall: i64,
}

/// A payment and all that has become of it. Without amounts where it has none, or has several
/// currencies: then its legs have them.
#[derive(JsonSchema)]
pub(super) struct Payment {
    /// The id of the task that it was.
    id: TaskId,
    /// The type of that task.
    r#type: TypeName,
    /// Where it stands.
    state: PaymentState,
    /// The state as an ISO 20022 external payment transaction status code.
    iso_status: IsoStatus,
    /// How many states it has had: of two events about a payment, the one with the higher version is
    /// the later one.
    #[schemars(range(min = 1))]
    version: i32,
    /// The account that pays; without `legs` only.
    #[schemars(skip_serializing_if = "absent")]
    debit_account: AccountName,
    /// The account that is paid; without `legs` only.
    #[schemars(skip_serializing_if = "absent")]
    credit_account: AccountName,
    /// Of all amounts.
    #[schemars(skip_serializing_if = "absent")]
    currency: Currency,
    #[schemars(flatten)]
    sums: Option<Sums>,
    /// When what is held is released, while something is.
    #[schemars(skip_serializing_if = "absent", extend("format" = "date-time"))]
    expires_at: String,
    /// Its movements, of a payment that was written with `legs`.
    #[schemars(skip_serializing_if = "absent", length(max = Leg::MOST))]
    legs: Vec<PaymentLeg>,
}

/// What has become of a payment's money, in minor units. `refunded + charged_back <= captured <= amount`.
#[derive(JsonSchema)]
pub(super) struct Sums {
    /// What was asked for.
    #[schemars(range(min = 0))]
    amount: i64,
    /// What is held.
    #[schemars(range(min = 0))]
    held: i64,
    /// What was posted.
    #[schemars(range(min = 0))]
    captured: i64,
    /// What has gone back.
    #[schemars(range(min = 0))]
    refunded: i64,
    /// What was taken back from outside.
    #[schemars(range(min = 0))]
    charged_back: i64,
}

/// A movement of a payment.
#[derive(JsonSchema)]
pub(super) struct PaymentLeg {
    /// The account that pays.
    debit_account: AccountName,
    /// The account that is paid.
    credit_account: AccountName,
    /// Of all amounts.
    currency: Currency,
    #[schemars(flatten)]
    sums: Sums,
}
