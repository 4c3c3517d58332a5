//! Tasks as publishers write them.

use serde_json::{Value, json};
use uuid::Uuid;

/// A task: a JSON document that a test may change before it is published.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) id: Uuid,
    pub(crate) json: Value,
}

impl Task {
    /// The same task with this id.
    pub(crate) fn identified(mut self, id: Uuid) -> Self {
        self.id = id;
        self.with("id", id.to_string())
    }

    /// The same task with this field.
    pub(crate) fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.json[field] = value.into();
        self
    }

    /// The same task without this field.
    pub(crate) fn without(mut self, field: &str) -> Self {
        self.json.as_object_mut().expect("an object").remove(field);
        self
    }

    pub(crate) fn body(&self) -> String {
        self.json.to_string()
    }

    /// The routing key that goes with it.
    pub(crate) fn routing_key(&self) -> String {
        format!("task.{}", self.json["type"].as_str().unwrap_or("unknown"))
    }
}

fn task(id: Uuid, json: Value) -> Task {
    Task { id, json }
}

/// Opens an account; a `min_balance` of `None` is no limit.
pub(crate) fn open(account: &str, currency: &str, min_balance: Option<i64>) -> Task {
    let id = Uuid::now_v7();
    let json = json!({"id": id, "type": "open_account", "account": account, "currency": currency,
                      "min_balance": min_balance.map_or_else(|| json!("none"), Value::from)});
    task(id, json)
}

/// Moves US dollars.
pub(crate) fn transfer(debit: &str, credit: &str, amount: i64) -> Task {
    let id = Uuid::now_v7();
    let json = json!({"id": id, "type": "transfer", "debit_account": debit, "credit_account": credit,
                      "amount": amount, "currency": "USD"});
    task(id, json)
}

/// Holds US dollars.
pub(crate) fn authorize(debit: &str, credit: &str, amount: i64) -> Task {
    transfer(debit, credit, amount).with("type", "authorize")
}

/// Acts on a payment: `capture`, `void`, `refund`, `cancel`; with an amount or without.
pub(crate) fn follow_up(kind: &str, payment: &Task, amount: Option<i64>) -> Task {
    let id = Uuid::now_v7();
    let task = task(id, json!({"id": id, "type": kind, "payment_id": payment.id}));
    match amount {
        Some(amount) => task.with("amount", amount),
        None => task,
    }
}

/// Changes an account: `close_account`, `freeze_account`, `unfreeze_account`, `set_limits`.
pub(crate) fn change(kind: &str, account: &str) -> Task {
    let id = Uuid::now_v7();
    task(id, json!({"id": id, "type": kind, "account": account}))
}

/// Moves US dollars between several accounts.
pub(crate) fn split(legs: &[(&str, &str, i64)]) -> Task {
    let id = Uuid::now_v7();
    let leg = |(debit, credit, amount): &(&str, &str, i64)| json!({"debit_account": debit, "credit_account": credit, "amount": amount, "currency": "USD"});
    task(id, json!({"id": id, "type": "transfer", "legs": legs.iter().map(leg).collect::<Vec<_>>()}))
}
