//! The first field in which two tasks with the same id differ, for the dead letter of the second.

use serde_json::Value;

use super::Task;

/// All fields but the id, in the order in which they are compared. One movement in a task's own fields differs from a
/// list of them in `legs`.
pub(in crate::contract) const FIELDS: [&str; 17] = [
    "type",
    "account",
    "payment_id",
    "legs",
    "debit_account",
    "credit_account",
    "amount",
    "currency",
    "leg",
    "final",
    "expires_in",
    "min_balance",
    "max_balance",
    "reference",
    "metadata",
    "execute_at",
    "after",
];

impl Task {
    /// Returns the name of the first field in which the two differ; `None` when they ask for the same.
    pub fn differs_from(&self, other: &Self) -> Option<&'static str> {
        // Of equal tasks, and only of them, the canonical JSON is equal.
        let fields = |task: &Self| serde_json::from_str::<Value>(&task.to_json()).unwrap_or_default();
        let (own, others) = (fields(self), fields(other));
        FIELDS.into_iter().find(|field| own.get(field) != others.get(field))
    }
}

#[cfg(test)]
mod tests;
