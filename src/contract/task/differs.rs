//! What tells two tasks with the same id apart, for people.

use super::{Task, TaskBody, Terms};

type Fields = Vec<(&'static str, bool)>;

impl Task {
    /// The name of the first field in which the two differ; `None` when they ask for the same.
    pub fn differs_from(&self, other: &Self) -> Option<&'static str> {
        let mut fields = match (&self.body, &other.body) {
            (a, b) if a.task_type() != b.task_type() => vec![("type", true)],
            (TaskBody::OpenAccount(a), TaskBody::OpenAccount(b)) => vec![
                ("account", a.account != b.account),
                ("currency", a.currency != b.currency),
                ("min_balance", a.min_balance != b.min_balance),
            ],
            (TaskBody::Transfer(a), TaskBody::Transfer(b)) => vec![
                ("debit_account", a.debit_account != b.debit_account),
                ("credit_account", a.credit_account != b.credit_account),
                ("amount", a.amount != b.amount),
                ("currency", a.currency != b.currency),
            ],
            (TaskBody::Split(a), TaskBody::Split(b)) => vec![("legs", a.legs != b.legs)],
            (TaskBody::Authorize(a), TaskBody::Authorize(b)) => {
                let mut fields = terms(&a.terms, &b.terms);
                fields.push(("expires_in", a.expires_in != b.expires_in));
                fields
            }
            (TaskBody::FollowUp(a), TaskBody::FollowUp(b)) => vec![
                ("payment_id", a.payment_id != b.payment_id),
                ("amount", a.action.amount() != b.action.amount()),
                ("leg", a.action.leg() != b.action.leg()),
                ("final", a.action != b.action),
            ],
            (TaskBody::ChangeAccount(a), TaskBody::ChangeAccount(b)) => {
                vec![("account", a.account != b.account), ("min_balance", differ_in_min(a, b)), ("max_balance", a != b)]
            }
            // A transfer with legs, and one without.
            _ => vec![("legs", true)],
        };
        fields.extend([
            ("reference", self.body.reference() != other.body.reference()),
            ("metadata", self.body.metadata() != other.body.metadata()),
            ("execute_at", self.when.execute_at != other.when.execute_at),
            ("after", self.when.after != other.when.after),
        ]);
        fields.into_iter().find_map(|(name, differs)| differs.then_some(name))
    }
}

fn terms(a: &Terms, b: &Terms) -> Fields {
    match (a, b) {
        (Terms::One(a), Terms::One(b)) => vec![
            ("debit_account", a.debit_account != b.debit_account),
            ("credit_account", a.credit_account != b.credit_account),
            ("amount", a.amount != b.amount),
            ("currency", a.currency != b.currency),
        ],
        (a, b) => vec![("legs", a != b)],
    }
}

fn differ_in_min(a: &super::ChangeAccount, b: &super::ChangeAccount) -> bool {
    use super::AccountChange::SetLimits;
    matches!((a.change, b.change), (SetLimits(a), SetLimits(b)) if a.min_balance != b.min_balance)
}

#[cfg(test)]
mod tests;
