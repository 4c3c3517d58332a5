//! Payments and the tasks that made them.

mod life;
mod stored;
mod whole;

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::{GenericClient, Row};
use uuid::Uuid;

pub use self::life::{EventName, Life, Moved, Parent, Step, Waits};
pub use self::stored::{StoredTask, load_tasks};
pub use self::whole::{StoredEntry, WholeLeg, WholePayment};
use super::Error;
use crate::sql::named;
use settled_core::contract::{PaymentState, TaskType};

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

#[derive(Clone, Copy, Debug, Default)]
pub struct PaymentFilter<'a> {
    pub state: Option<&'a str>,
    pub task_type: Option<&'a str>,
    /// Only those that debit or credit this account.
    pub account: Option<&'a str>,
    pub reference: Option<&'a str>,
    /// Only those that act on this payment.
    pub payment: Option<Uuid>,
    /// Only those decided at this time or later.
    pub since: Option<Timestamp>,
    /// Only those with a smaller id.
    pub before: Option<Uuid>,
    pub limit: i64,
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

// Only the parent and the states of unfinished payments have an index. Each further one would cost every payment more
// than a scan costs now and then.
const FILTER: &str = "
     WHERE ({state}::text IS NULL OR state = {state}::text::payment_state)
       AND ({task_type}::text IS NULL OR type = {task_type}::text::task_type)
       AND ({account}::text IS NULL
            OR debit_id = (SELECT id FROM account WHERE name = {account})
            OR credit_id = (SELECT id FROM account WHERE name = {account})
            OR legs IS NOT NULL AND EXISTS (
               SELECT FROM leg WHERE leg.payment_id = payment_named.id
                  AND (SELECT id FROM account WHERE name = {account}) IN (leg.debit_account, leg.credit_account)))
       AND ({reference}::text IS NULL OR reference = {reference})
       AND ({since}::timestamptz IS NULL OR settled_at >= {since})
       AND ({before}::uuid IS NULL OR id < {before})";

/// Returns the selected payments in descending order of their ids, which is the newest first if the ids are of version
/// 7. Without a filter the key is used; with one, all payments may be read.
pub async fn list(client: &impl GenericClient, filter: &PaymentFilter<'_>) -> Result<Vec<PaymentRow>, Error> {
    let &PaymentFilter { state, task_type, account, reference, payment, since, before, limit } = filter;
    // Not in FILTER, so that its index is always used.
    let of = if payment.is_some() { "AND parent_id = {payment}" } else { "AND {payment}::uuid IS NULL" };
    // Unfinished payments are in small tables of their own.
    let among = match state.and_then(PaymentState::from_name) {
        Some(state) if state.is_pending() => "AND id IN (SELECT task_id FROM agenda)",
        Some(state) if state.is_held() => "AND id IN (SELECT payment_id FROM hold)",
        _ => "",
    };
    let rows = named!(dynamic client.query(
        [concat!("SELECT ", columns!(), " FROM payment_named"), FILTER, of, among, "ORDER BY id DESC LIMIT {limit}"]
            .join(" "),
        state = state,
        task_type = task_type,
        account = account,
        reference = reference,
        since = since,
        before = before,
        limit = limit,
        payment = payment,
    ));
    Ok(rows?.iter().map(payment_row).collect())
}

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
