//! A task as JSON: what [`decode`](super::decode()) reads as the same task.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

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

/// The fields of all types of tasks; each type has some of them.
#[derive(Default, Serialize)]
pub(super) struct Asked<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    debit_account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credit_account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) amount: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) currency: Option<Currency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    legs: Option<&'a [Leg]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) leg: Option<u8>,
    #[serde(rename = "final", skip_serializing_if = "Option::is_none")]
    is_final: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_balance: Option<Limit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_balance: Option<Limit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    execute_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
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
