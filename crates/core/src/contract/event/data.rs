//! An event's `data`: the fields of the task, and its outcome.

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::{BalanceAfter, Event, PaymentView};
use crate::contract::encode::Asked;
#[cfg(test)]
use crate::contract::schema::values;
use crate::contract::{PaymentState, Rejection};

/// What became of a task: the body of a reply and of an event in the format `single`, the
/// `data` of an event in the format `batch`.
///
/// Later versions may add fields. All numbers are integers of up to 64 bits: whatever reads them as
/// floating point, such as `JSON.parse` of JavaScript, loses digits beyond 2^53.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(title = "settled: event data"))]
pub(in crate::contract) struct Data<'a> {
    /// The task's id.
    #[cfg_attr(test, schemars(with = "values::TaskId"))]
    id: Uuid,
    /// The task's type.
    #[serde(rename = "type")]
    #[cfg_attr(test, schemars(with = "values::TypeName"))]
    task_type: &'static str,
    /// Where the task stands now.
    state: PaymentState,
    /// How many states the task has had.
    #[cfg_attr(test, schemars(range(min = 1)))]
    version: i32,
    /// Why it was rejected; only then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Rejection"))]
    reason: Option<Rejection>,
    /// The same as an ISO 20022 external status reason code.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "values::ReasonCode"))]
    reason_code: Option<&'static str>,
    // Its amount is what was moved, where something was.
    #[serde(flatten)]
    asked: Asked<'a>,
    /// The `user_id` of the task's message, else its `app_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "String"))]
    publisher: Option<&'a str>,
    /// When the task came to its state, by the database's clock.
    #[cfg_attr(test, schemars(with = "values::Time"))]
    settled_at: Timestamp,
    /// The whole state of the payment, right after: of the one that the task acted on; of an
    /// `authorize` and a `transfer` with `legs`, its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "super::view::Shown<'a>"))]
    payment: Option<&'a PaymentView<'a>>,
    /// The balances that the task has changed, right after: of each movement that of the account that
    /// paid and that of the account that was paid (of several movements of one account the last is
    /// what counts), then those of which only what is held has changed. Of a task about an account,
    /// that of the account. None of a task that changed nothing.
    #[cfg_attr(test, schemars(length(max = 2 * crate::contract::Leg::MOST)))]
    balances: &'a [BalanceAfter<'a>],
}

impl<'a> Data<'a> {
    pub(super) fn of(event: &Event<'a>) -> Self {
        let mut asked = Asked::of(event.task);
        asked.amount = event.moved.or(asked.amount);
        // No amount of money that has moved is without its currency: a follow-up's is that of what
        // it acts on.
        if asked.amount.is_some() && asked.currency.is_none() {
            asked.currency = event.payment.and_then(|payment| payment.currency(asked.leg));
            asked.amount = asked.amount.filter(|_| event.moved.is_none() || asked.currency.is_some());
        }
        Self {
            id: event.task.id,
            task_type: event.task.body.task_type().name(),
            state: event.state,
            version: event.version,
            reason: event.rejection,
            reason_code: event.rejection.map(Rejection::iso_code),
            asked,
            publisher: event.properties.publisher.as_deref(),
            settled_at: event.settled_at,
            payment: event.payment,
            balances: event.balances,
        }
    }
}
