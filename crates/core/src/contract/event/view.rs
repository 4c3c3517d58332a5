//! A payment as events and the command line show it.

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use uuid::Uuid;

#[cfg(test)]
use crate::contract::schema::values;
use crate::contract::{Currency, PaymentState, TaskType};

/// A payment, or a task that waits, with its amounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentView<'a> {
    /// The id of its task.
    pub id: Uuid,
    /// The type of its task.
    pub task_type: TaskType,
    /// Where the payment stands.
    pub state: PaymentState,
    /// The number of states that it has had.
    pub version: i32,
    /// While money is held: when the hold runs out.
    pub expires_at: Option<Timestamp>,
    /// Whether the task has `legs`, and not the fields of one movement.
    pub listed: bool,
    /// The movements that the task asks for; none for a follow-up or a task about an account.
    pub legs: Vec<LegView<'a>>,
}

/// One movement of a payment; amounts are in minor units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "PaymentLeg"))]
pub struct LegView<'a> {
    /// Name of the account that pays.
    #[cfg_attr(test, schemars(with = "values::AccountName"))]
    pub debit_account: &'a str,
    /// Name of the account that is paid.
    #[cfg_attr(test, schemars(with = "values::AccountName"))]
    pub credit_account: &'a str,
    /// The currency of both accounts.
    #[cfg_attr(test, schemars(with = "values::Currency"))]
    pub currency: Currency,
    /// The amount that the task asks for.
    #[cfg_attr(test, schemars(range(min = 0)))]
    pub amount: i64,
    /// The amount that is held.
    #[cfg_attr(test, schemars(range(min = 0)))]
    pub held: i64,
    /// The amount that was posted.
    #[cfg_attr(test, schemars(range(min = 0)))]
    pub captured: i64,
    /// The amount that was refunded.
    #[cfg_attr(test, schemars(range(min = 0)))]
    pub refunded: i64,
    /// The amount that was charged back and has not come again.
    #[cfg_attr(test, schemars(range(min = 0)))]
    pub charged_back: i64,
}

/// A payment and all that has become of it. Without amounts where it has none, or has several
/// currencies: then its legs have them.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Payment"))]
pub(super) struct Shown<'a> {
    /// The id of the task that it was.
    #[cfg_attr(test, schemars(with = "values::TaskId"))]
    id: Uuid,
    /// The type of that task.
    #[serde(rename = "type")]
    #[cfg_attr(test, schemars(with = "values::TypeName"))]
    task_type: &'static str,
    /// Where it stands.
    state: PaymentState,
    /// The state as an ISO 20022 external payment transaction status code.
    #[cfg_attr(test, schemars(with = "values::IsoStatus"))]
    iso_status: &'static str,
    /// How many states it has had: of two events about a payment, the one with the higher version is
    /// the later one.
    #[cfg_attr(test, schemars(range(min = 1)))]
    version: i32,
    /// The account that pays; without `legs` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "values::AccountName"))]
    debit_account: Option<&'a str>,
    /// The account that is paid; without `legs` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "values::AccountName"))]
    credit_account: Option<&'a str>,
    /// Of all amounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "values::Currency"))]
    currency: Option<Currency>,
    #[serde(flatten)]
    sums: Option<Sums>,
    /// When what is held is released, while something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "values::Time"))]
    expires_at: Option<Timestamp>,
    /// Its movements, of a payment that was written with `legs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Vec<LegView<'a>>", length(max = crate::contract::Leg::MOST)))]
    legs: Option<&'a [LegView<'a>]>,
}

/// What has become of a payment's money, in minor units: the sums of its legs.
/// `refunded + charged_back <= captured <= amount`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Sums {
    /// What was asked for.
    #[cfg_attr(test, schemars(range(min = 0)))]
    amount: i64,
    /// What is held.
    #[cfg_attr(test, schemars(range(min = 0)))]
    held: i64,
    /// What was posted.
    #[cfg_attr(test, schemars(range(min = 0)))]
    captured: i64,
    /// What has gone back.
    #[cfg_attr(test, schemars(range(min = 0)))]
    refunded: i64,
    /// What was taken back from outside.
    #[cfg_attr(test, schemars(range(min = 0)))]
    charged_back: i64,
}

impl PaymentView<'_> {
    /// Returns the currency of one leg, or of all; `None` if they have several.
    pub(super) fn currency(&self, leg: Option<u8>) -> Option<Currency> {
        let currency = self.legs.get(leg.map_or(0, usize::from))?.currency;
        (leg.is_some() || self.legs.iter().all(|leg| leg.currency == currency)).then_some(currency)
    }
}

impl Serialize for PaymentView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { id, task_type, state, version, expires_at, listed, ref legs } = *self;
        let (currency, sum) = (self.currency(None), |of: fn(&LegView<'_>) -> i64| legs.iter().map(of).sum::<i64>());
        let only = legs.first().filter(|_| !listed && legs.len() == 1);
        let shown = Shown {
            id,
            task_type: task_type.name(),
            state,
            iso_status: state.iso_status(),
            version,
            debit_account: only.map(|leg| leg.debit_account),
            credit_account: only.map(|leg| leg.credit_account),
            currency,
            sums: currency.map(|_| Sums {
                amount: sum(|leg| leg.amount),
                held: sum(|leg| leg.held),
                captured: sum(|leg| leg.captured),
                refunded: sum(|leg| leg.refunded),
                charged_back: sum(|leg| leg.charged_back),
            }),
            expires_at,
            legs: listed.then_some(legs.as_slice()),
        };
        shown.serialize(serializer)
    }
}
