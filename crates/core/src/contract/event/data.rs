//! An event's `data`: the fields of the task, and its outcome.

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::{BalanceAfter, Event, PaymentView};
use crate::contract::encode::Asked;
use crate::contract::{PaymentState, Rejection};

#[derive(Serialize)]
pub(super) struct Data<'a> {
    id: Uuid,
    #[serde(rename = "type")]
    task_type: &'static str,
    state: PaymentState,
    version: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason_code: Option<&'static str>,
    // Its amount is what was moved, where something was.
    #[serde(flatten)]
    asked: Asked<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    publisher: Option<&'a str>,
    settled_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment: Option<&'a PaymentView<'a>>,
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
            reason: event.rejection.map(Rejection::name),
            reason_code: event.rejection.map(Rejection::iso_code),
            asked,
            publisher: event.properties.publisher.as_deref(),
            settled_at: event.settled_at,
            payment: event.payment,
            balances: event.balances,
        }
    }
}
