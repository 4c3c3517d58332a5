//! JSON documents of tasks, as publishers write them.

use serde_json::{Value, json};
use uuid::Uuid;

/// A task as a JSON document, which a test can change before publishing it.
#[derive(Clone, Debug)]
pub struct Task {
    pub id: Uuid,
    pub json: Value,
}

impl Task {
    /// Returns the task with this id.
    pub fn identified(mut self, id: Uuid) -> Self {
        self.id = id;
        self.with("id", id.to_string())
    }

    /// Returns the task with this field added or replaced.
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.json[field] = value.into();
        self
    }

    /// Returns the task without this field.
    pub fn without(mut self, field: &str) -> Self {
        self.json.as_object_mut().expect("an object").remove(field);
        self
    }

    pub fn body(&self) -> String {
        self.json.to_string()
    }

    /// Returns the routing key for the type of the task.
    pub fn routing_key(&self) -> String {
        format!("task.{}", self.json["type"].as_str().unwrap_or("unknown"))
    }
}

fn task(id: Uuid, json: Value) -> Task {
    Task { id, json }
}

/// Opens an account. With a `min_balance` of `None` it has no limit.
pub fn open(account: &str, currency: &str, min_balance: Option<i64>) -> Task {
    let id = Uuid::now_v7();
    let json = json!({"id": id, "type": "open_account", "account": account, "currency": currency,
                      "min_balance": min_balance.map_or_else(|| json!("none"), Value::from)});
    task(id, json)
}

/// Transfers US dollars.
pub fn transfer(debit: &str, credit: &str, amount: i64) -> Task {
    let id = Uuid::now_v7();
    let json = json!({"id": id, "type": "transfer", "debit_account": debit, "credit_account": credit,
                      "amount": amount, "currency": "USD"});
    task(id, json)
}

/// Holds US dollars.
pub fn authorize(debit: &str, credit: &str, amount: i64) -> Task {
    transfer(debit, credit, amount).with("type", "authorize")
}

/// Acts on a payment: `kind` is `capture`, `void`, `refund`, `cancel` or the like.
pub fn follow_up(kind: &str, payment: &Task, amount: Option<i64>) -> Task {
    let id = Uuid::now_v7();
    let task = task(id, json!({"id": id, "type": kind, "payment_id": payment.id}));
    match amount {
        Some(amount) => task.with("amount", amount),
        None => task,
    }
}

/// Changes an account: `kind` is `close_account`, `freeze_account`, `unfreeze_account` or `set_limits`.
pub fn change(kind: &str, account: &str) -> Task {
    let id = Uuid::now_v7();
    task(id, json!({"id": id, "type": kind, "account": account}))
}

/// Transfers US dollars in several legs.
pub fn split(legs: &[(&str, &str, i64)]) -> Task {
    let id = Uuid::now_v7();
    let leg = |(debit, credit, amount): &(&str, &str, i64)| json!({"debit_account": debit, "credit_account": credit, "amount": amount, "currency": "USD"});
    task(id, json!({"id": id, "type": "transfer", "legs": legs.iter().map(leg).collect::<Vec<_>>()}))
}
