//! The first field in which two tasks with the same id differ, for the dead letter of the second.

use std::fmt::Debug;

use super::{AccountChange, Task, TaskBody, Terms};

/// A field's name and its value, in a form in which only equal values are equal.
type Field = (&'static str, String);

impl Task {
    /// Returns the name of the first field in which the two differ; `None` when they ask for the same.
    pub fn differs_from(&self, other: &Self) -> Option<&'static str> {
        if self.body.task_type() != other.body.task_type() {
            return Some("type");
        }
        let (own, others) = (self.fields(), other.fields());
        own.iter().zip(&others).find(|(own, other)| own != other).map(|((name, _), _)| *name)
    }

    /// The fields of a task, in the same order for all tasks of one type.
    fn fields(&self) -> Vec<Field> {
        let mut fields = match &self.body {
            TaskBody::OpenAccount(open) => vec![
                field("account", &open.account),
                field("currency", &open.currency),
                field("min_balance", &open.min_balance),
            ],
            TaskBody::Transfer(one) => movement(&one.debit_account, &one.credit_account, one.amount, &one.currency),
            TaskBody::Split(split) => vec![field("legs", &split.legs)],
            TaskBody::Authorize(authorize) => {
                let mut fields = match &authorize.terms {
                    Terms::One(one) => movement(&one.debit_account, &one.credit_account, one.amount, &one.currency),
                    Terms::Legs(legs) => vec![field("legs", legs)],
                };
                fields.push(field("expires_in", &authorize.expires_in));
                fields
            }
            TaskBody::FollowUp(follow_up) => vec![
                field("payment_id", &follow_up.payment_id),
                field("amount", &follow_up.action.amount()),
                field("leg", &follow_up.action.leg()),
                field("final", &follow_up.action),
            ],
            TaskBody::ChangeAccount(change) => match change.change {
                AccountChange::SetLimits(limits) => vec![
                    field("account", &change.account),
                    field("min_balance", &limits.min_balance),
                    field("max_balance", &limits.max_balance),
                ],
                AccountChange::Close | AccountChange::Freeze | AccountChange::Unfreeze => {
                    vec![field("account", &change.account)]
                }
            },
        };
        fields.extend([
            field("reference", &self.body.reference()),
            field("metadata", &self.body.metadata()),
            field("execute_at", &self.when.execute_at),
            field("after", &self.when.after),
        ]);
        fields
    }
}

/// One movement in a task's own fields: it differs from a list of them in `legs`.
fn movement(debit: &impl Debug, credit: &impl Debug, amount: i64, currency: &impl Debug) -> Vec<Field> {
    vec![
        ("legs", String::new()),
        field("debit_account", debit),
        field("credit_account", credit),
        field("amount", &amount),
        field("currency", currency),
    ]
}

fn field(name: &'static str, value: &impl Debug) -> Field {
    (name, format!("{value:?}"))
}

#[cfg(test)]
mod tests;
