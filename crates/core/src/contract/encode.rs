//! A task as JSON: what [`decode`](super::decode()) reads as the same task.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

#[cfg(test)]
use super::schema::values;
use super::task::{AccountChange, Action, Leg, Terms};
use super::{Currency, NO_LIMIT, Task, TaskBody};

impl Task {
    /// Returns the task as canonical JSON: one line, fields in a fixed order, with all defaults, times in UTC.
    pub fn to_json(&self) -> String {
        let mut asked = Asked::of(self);
        asked.min_balance = asked.min_balance.map(Limit::in_words);
        asked.max_balance = asked.max_balance.map(Limit::in_words);
        self.document(asked)
    }

    /// As [`Task::to_json`], with `null` for no limit: daemons of earlier versions read the store and know no other
    /// word. [`decode_stored`](super::decode_stored) reads it.
    pub fn to_stored_json(&self) -> String {
        self.document(Asked::of(self))
    }

    fn document(&self, asked: Asked<'_>) -> String {
        let document = Document { id: self.id, task_type: self.body.task_type().name(), asked };
        // Writing plain values to memory can't fail.
        let json = serde_json::to_string(&document);
        debug_assert!(json.is_ok(), "{json:?}");
        json.unwrap_or_default()
    }
}

#[derive(Serialize)]
struct Document<'a> {
    id: Uuid,
    #[serde(rename = "type")]
    task_type: &'static str,
    #[serde(flatten)]
    asked: Asked<'a>,
}

/// The fields of all types of tasks; each type has some of them. What is said of them is for the readers of events.
#[derive(Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Asked<'a> {
    /// Of a task that acts on an earlier one: the id of that one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "values::TaskId"))]
    payment_id: Option<Uuid>,
    /// Of a task about an account: the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "values::AccountName"))]
    account: Option<&'a str>,
    /// The account that pays; of a `transfer` or `authorize` without `legs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "values::AccountName"))]
    debit_account: Option<&'a str>,
    /// The account that is paid; of a `transfer` or `authorize` without `legs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "values::AccountName"))]
    credit_account: Option<&'a str>,
    /// How much was moved, in minor units of `currency`. Where nothing was, as the task said it: of a
    /// rejected task perhaps outside the bounds of an amount. Left out where it is not of one currency.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "values::AskedAmount"))]
    pub(super) amount: Option<i64>,
    /// The currency of `amount`; of `open_account`, the account's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "values::Currency"))]
    pub(super) currency: Option<Currency>,
    /// The movements, as the task said them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Vec<Leg>", length(min = 1, max = Leg::MOST)))]
    legs: Option<&'a [Leg]>,
    /// As the task said it: the leg of the payment that was acted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "values::LegPlace"))]
    pub(super) leg: Option<u8>,
    /// `capture`: whether the rest is released.
    #[serde(rename = "final", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "bool"))]
    is_final: Option<bool>,
    /// `authorize`: for how many seconds the money is held, as the task said it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "u32", range(min = 1, max = u32::MAX)))]
    expires_in: Option<u32>,
    /// `open_account` and `set_limits`: the limit, in minor units, as the task said it; `null` is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "values::AskedLimit"))]
    min_balance: Option<Limit>,
    /// `set_limits`: the limit, in minor units, as the task said it; `null` is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "values::AskedLimit"))]
    max_balance: Option<Limit>,
    /// When the task was to be applied, in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "values::Time"))]
    execute_at: Option<Timestamp>,
    /// The task that was to have its outcome first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "values::TaskId"))]
    after: Option<Uuid>,
    /// As the task said it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "values::Reference"))]
    reference: Option<&'a str>,
    /// As the task said it, keys sorted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "values::Metadata"))]
    metadata: Option<&'a RawValue>,
}

/// A limit, in the form in which it is written.
#[derive(Serialize)]
#[serde(untagged)]
enum Limit {
    /// An amount in minor units.
    Minor(i64),
    /// No limit in events: `null`.
    Unlimited,
    /// No limit in tasks.
    Word(&'static str),
}

impl Limit {
    fn of(limit: Option<i64>) -> Self {
        limit.map_or(Self::Unlimited, Self::Minor)
    }

    fn in_words(self) -> Self {
        if let Self::Unlimited = self { Self::Word(NO_LIMIT) } else { self }
    }
}

impl<'a> Asked<'a> {
    pub(super) fn of(task: &'a Task) -> Self {
        let mut asked = Self {
            payment_id: task.body.payment_id(),
            execute_at: task.when.execute_at,
            after: task.when.after,
            reference: task.body.reference(),
            // It was canonical JSON when the task was decoded.
            metadata: task.body.metadata().and_then(|json| serde_json::from_str(json).ok()),
            ..Self::default()
        };
        match &task.body {
            TaskBody::OpenAccount(open) => {
                asked.account = Some(open.account.as_str());
                asked.currency = Some(open.currency);
                asked.min_balance = Some(Limit::of(open.min_balance));
            }
            TaskBody::Transfer(transfer) => {
                asked.debit_account = Some(transfer.debit_account.as_str());
                asked.credit_account = Some(transfer.credit_account.as_str());
                asked.amount = Some(transfer.amount);
                asked.currency = Some(transfer.currency);
            }
            TaskBody::Split(split) => asked.legs = Some(&split.legs),
            TaskBody::Authorize(authorize) => {
                asked.terms(&authorize.terms);
                asked.expires_in = authorize.expires_in;
            }
            TaskBody::FollowUp(follow_up) => asked.action(follow_up.action),
            TaskBody::ChangeAccount(change) => {
                asked.account = Some(change.account.as_str());
                if let AccountChange::SetLimits(limits) = change.change {
                    asked.min_balance = limits.min_balance.map(Limit::of);
                    asked.max_balance = limits.max_balance.map(Limit::of);
                }
            }
        }
        asked
    }

    fn terms(&mut self, terms: &'a Terms) {
        match terms {
            Terms::Legs(legs) => self.legs = Some(legs),
            Terms::One(leg) => {
                self.debit_account = Some(leg.debit_account.as_str());
                self.credit_account = Some(leg.credit_account.as_str());
                self.amount = Some(leg.amount);
                self.currency = Some(leg.currency);
            }
        }
    }

    fn action(&mut self, action: Action) {
        self.amount = action.amount();
        self.leg = action.leg();
        if let Action::Capture { is_final, .. } = action {
            self.is_final = Some(is_final);
        }
    }
}

#[cfg(test)]
mod tests;
