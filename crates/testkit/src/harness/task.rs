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

fn task(kind: &str, json: Value) -> Task {
    Task { id: Uuid::nil(), json }.with("type", kind).identified(Uuid::now_v7())
}

/// Opens an account. With a `min_balance` of `None` it has no limit.
pub fn open(account: &str, currency: &str, min_balance: Option<i64>) -> Task {
    let min_balance = min_balance.map_or_else(|| "none".into(), Value::from);
    task("open_account", json!({"account": account, "currency": currency, "min_balance": min_balance}))
}

/// Transfers US dollars.
pub fn transfer(debit: &str, credit: &str, amount: i64) -> Task {
    task("transfer", leg(debit, credit, amount))
}

/// Holds US dollars.
pub fn authorize(debit: &str, credit: &str, amount: i64) -> Task {
    task("authorize", leg(debit, credit, amount))
}

/// Acts on a payment: `kind` is `capture`, `void`, `refund`, `cancel` or the like.
pub fn follow_up(kind: &str, payment: &Task, amount: Option<i64>) -> Task {
    let task = task(kind, json!({"payment_id": payment.id}));
    match amount {
        Some(amount) => task.with("amount", amount),
        None => task,
    }
}

/// Changes an account: `kind` is `close_account`, `freeze_account`, `unfreeze_account` or `set_limits`.
pub fn change(kind: &str, account: &str) -> Task {
    task(kind, json!({"account": account}))
}

/// Transfers US dollars in several legs.
pub fn split(legs: &[(&str, &str, i64)]) -> Task {
    let legs: Vec<Value> = legs.iter().map(|(debit, credit, amount)| leg(debit, credit, *amount)).collect();
    task("transfer", json!({"legs": legs}))
}

fn leg(debit: &str, credit: &str, amount: i64) -> Value {
    json!({"debit_account": debit, "credit_account": credit, "amount": amount, "currency": "USD"})
}
