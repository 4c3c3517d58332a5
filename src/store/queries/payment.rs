//! Payments, and the tasks that they were.

mod life;
mod stored;
mod whole;

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::{GenericClient, Row};
use uuid::Uuid;

pub use self::life::{EventName, Life, Moved, Parent, Step, Waits};
pub use self::stored::{StoredEntry, StoredTask, load_tasks};
pub use self::whole::{WholeLeg, WholePayment};
use super::Error;
use crate::contract::{PaymentState, TaskType};

/// A payment, in short. The names are those of its event.
#[derive(Clone, Debug, Serialize)]
pub struct PaymentRow {
    /// The task's id.
    pub id: Uuid,
    /// The task's type.
    #[serde(rename = "type")]
    pub task_type: String,
    /// Where it stands.
    pub state: String,
    /// Why it was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The payment that it acts on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment_id: Option<Uuid>,
    /// The account that a task is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Pays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debit_account: Option<String>,
    /// Is paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credit_account: Option<String>,
    /// In minor units.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<i64>,
    /// How many legs it has, where they are written as a list: between other accounts each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub legs: Option<i16>,
    /// Of the amount, or of the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// The publisher's reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Who published it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    /// When it was decided.
    pub settled_at: Timestamp,
}

/// Which payments to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct PaymentFilter<'a> {
    /// Only those in this state.
    pub state: Option<&'a str>,
    /// Only those of this type.
    pub task_type: Option<&'a str>,
    /// Only those that name this account.
    pub account: Option<&'a str>,
    /// Only those with this reference.
    pub reference: Option<&'a str>,
    /// Only those that act on this payment.
    pub payment: Option<Uuid>,
    /// Only those decided at this time or later.
    pub since: Option<Timestamp>,
    /// Only those with a smaller id.
    pub before: Option<Uuid>,
    /// At most this many.
    pub limit: i64,
}

// The amount of a payment with a list of legs is their sum, if they have one currency; that of a
// follow-up which was not applied is in its payment's.
const COLUMNS: &str = "
    id, type::text, state::text, reason, debit_account, credit_account,
    coalesce(amount, (SELECT sum(l.amount)::bigint FROM leg l WHERE l.payment_id = payment_named.id
                      HAVING min(l.currency) = max(l.currency))),
    coalesce(currency,
             (SELECT min(l.currency) FROM leg l WHERE l.payment_id = payment_named.id
              HAVING min(l.currency) = max(l.currency)),
             CASE WHEN amount IS NOT NULL THEN (SELECT p.currency FROM payment p WHERE p.id = parent_id) END,
             CASE WHEN amount IS NOT NULL THEN (SELECT min(l.currency) FROM leg l WHERE l.payment_id = parent_id
                                                HAVING min(l.currency) = max(l.currency)) END),
    reference, publisher, settled_at, parent_id, legs";

// No filter but the parent and the states of what is on its way has an index: each would cost every
// payment more than this costs now and then.
const FILTER: &str = "
     WHERE ($1::text IS NULL OR state = $1::text::payment_state)
       AND ($2::text IS NULL OR type = $2::text::task_type)
       AND ($3::text IS NULL OR debit_id = (SELECT id FROM account WHERE name = $3)
                             OR credit_id = (SELECT id FROM account WHERE name = $3)
                             OR legs IS NOT NULL AND EXISTS (
                                SELECT FROM leg WHERE leg.payment_id = payment_named.id
                                   AND (SELECT id FROM account WHERE name = $3) IN (leg.debit_account, leg.credit_account)))
       AND ($4::text IS NULL OR reference = $4)
       AND ($5::timestamptz IS NULL OR settled_at >= $5)
       AND ($6::uuid IS NULL OR id < $6)";

/// The payments that the filter lets through, in descending order of their ids: the newest
/// first where the ids are of version 7. Without a filter it follows the key, with one it may
/// read all payments.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn list(client: &impl GenericClient, filter: &PaymentFilter<'_>) -> Result<Vec<PaymentRow>, Error> {
    let PaymentFilter { state, task_type, account, reference, payment, since, before, limit } = filter;
    // Apart from the others, so that the index is always used for it.
    let of = if payment.is_some() { "AND parent_id = $8" } else { "AND $8::uuid IS NULL" };
    // What is on its way is in small tables of its own.
    let among = match state.and_then(PaymentState::from_name) {
        Some(state) if state.is_pending() => "AND id IN (SELECT task_id FROM agenda)",
        Some(state) if state.is_held() => "AND id IN (SELECT payment_id FROM hold)",
        _ => "",
    };
    let sql = format!("SELECT {COLUMNS} FROM payment_named {FILTER} {of} {among} ORDER BY id DESC LIMIT $7");
    let rows = client.query(&sql, &[state, task_type, account, reference, since, before, limit, payment]).await?;
    Ok(rows.iter().map(payment_row).collect())
}

fn payment_row(row: &Row) -> PaymentRow {
    let about_an_account = TaskType::from_name(row.get(1)).is_some_and(TaskType::is_about_an_account);
    let first_account: Option<String> = row.get(4);
    let (account, debit_account) = if about_an_account { (first_account, None) } else { (None, first_account) };
    PaymentRow {
        id: row.get(0),
        task_type: row.get(1),
        state: row.get(2),
        reason: row.get(3),
        account,
        debit_account,
        credit_account: row.get(5),
        amount: row.get(6),
        currency: row.get(7),
        reference: row.get(8),
        publisher: row.get(9),
        settled_at: row.get(10),
        payment_id: row.get(11),
        legs: row.get(12),
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
