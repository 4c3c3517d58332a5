//! Payments and the tasks that made them.

mod life;
mod list;
mod stored;
mod whole;

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;
use uuid::Uuid;

pub use self::life::{EventName, Life, Moved, Parent, Step, Waits};
pub use self::list::{Cursor, Page, PaymentFilter, list};
pub use self::stored::{StoredTask, load_tasks};
pub use self::whole::{StoredEntry, WholeLeg, WholePayment};
use super::Error;
use settled_core::contract::TaskType;

/// A payment in a list. Fields are named as in its event.
#[derive(Clone, Debug, Serialize)]
pub struct PaymentRow {
    pub id: Uuid,
    #[serde(rename = "type")]
    pub task_type: String,
    pub state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The payment that it acts on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment_id: Option<Uuid>,
    /// The account that the task opens or changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debit_account: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credit_account: Option<String>,
    /// In minor units.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<i64>,
    /// Number of legs, if the payment has a list of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub legs: Option<i16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    pub settled_at: Timestamp,
}

// The amount of a payment with a list of legs is their sum if all have one currency. The currency of a follow-up that
// was not applied is its payment's.
macro_rules! columns {
    () => {
        "
    id, type::text, state::text, reason, debit_account, credit_account,
    coalesce(amount, (SELECT sum(l.amount)::bigint FROM leg l WHERE l.payment_id = payment_named.id
                      HAVING min(l.currency) = max(l.currency))) AS total,
    coalesce(currency,
             (SELECT min(l.currency) FROM leg l WHERE l.payment_id = payment_named.id
              HAVING min(l.currency) = max(l.currency)),
             CASE WHEN amount IS NOT NULL THEN (SELECT p.currency FROM payment p WHERE p.id = parent_id) END,
             CASE WHEN amount IS NOT NULL THEN (SELECT min(l.currency) FROM leg l WHERE l.payment_id = parent_id
                                                HAVING min(l.currency) = max(l.currency)) END) AS common_currency,
    reference, publisher, settled_at, parent_id, legs"
    };
}

use columns;

fn payment_row(row: &Row) -> PaymentRow {
    let about_an_account = TaskType::from_name(row.get("type")).is_some_and(TaskType::is_about_an_account);
    let first_account: Option<String> = row.get("debit_account");
    let (account, debit_account) = if about_an_account { (first_account, None) } else { (None, first_account) };
    PaymentRow {
        id: row.get("id"),
        task_type: row.get("type"),
        state: row.get("state"),
        reason: row.get("reason"),
        account,
        debit_account,
        credit_account: row.get("credit_account"),
        amount: row.get("total"),
        currency: row.get("common_currency"),
        reference: row.get("reference"),
        publisher: row.get("publisher"),
        settled_at: row.get("settled_at"),
        payment_id: row.get("parent_id"),
        legs: row.get("legs"),
    }
}

fn read<T>(
    id: Uuid,
    column: &'static str,
    value: Option<&str>,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, Error> {
    value.and_then(parse).ok_or_else(|| unreadable(id, column, value))
}

fn unreadable(id: Uuid, column: &'static str, value: Option<&str>) -> Error {
    Error::Unreadable { id, column, value: value.unwrap_or("nothing").to_owned() }
}
