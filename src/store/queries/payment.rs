//! Payments, and the tasks that they were.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::{GenericClient, Row};
use uuid::Uuid;

use super::Error;
use crate::contract::{
    AccountName, BalanceAfter, Currency, Event, OpenAccount, Properties, Rejection, Task, TaskBody, TaskType, Transfer,
    canonical_metadata,
};

/// A payment as it is stored: the task that it was, and what became of it.
#[derive(Clone, Debug)]
pub struct StoredTask {
    /// What was asked for.
    pub task: Task,
    /// Why it was declined; `None` is settled.
    pub rejection: Option<Rejection>,
    /// Who published it.
    pub publisher: Option<String>,
    /// How many outcomes it has had.
    pub version: i32,
    /// When its message was taken from the queue.
    pub received_at: Timestamp,
    /// When it was decided.
    pub settled_at: Timestamp,
    /// Its entries, the debit first; none unless it is a transfer that settled.
    pub entries: Vec<StoredEntry>,
}

/// One side of a payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoredEntry {
    /// Whose.
    pub account: AccountName,
    /// The account's version after it.
    pub seq: i64,
    /// What it added, in minor units.
    pub amount: i64,
    /// The account's posted balance after it, in minor units.
    pub balance_after: i64,
}

impl StoredTask {
    /// The balances right after the payment, as its event told them: those that it changed, or
    /// the one of the account that it opened. No type of task holds money yet, so `held` is 0.
    pub fn balances(&self) -> Vec<BalanceAfter<'_>> {
        match &self.task.body {
            TaskBody::OpenAccount(open) if self.rejection.is_none() => {
                vec![BalanceAfter { account: open.account.as_str(), posted: 0, held: 0, version: 0 }]
            }
            _ => self
                .entries
                .iter()
                .map(|entry| BalanceAfter {
                    account: entry.account.as_str(),
                    posted: entry.balance_after,
                    held: 0,
                    version: entry.seq,
                })
                .collect(),
        }
    }

    /// Puts its event together once more: with `properties`, but from the publisher of the task
    /// that was applied.
    pub fn with_event<T>(&self, properties: Properties, source: &str, tell: impl FnOnce(&Event<'_>) -> T) -> T {
        let publisher = self.publisher.as_deref().map(Into::into);
        let (properties, balances) = (Properties { publisher, ..properties }, self.balances());
        tell(&Event {
            task: &self.task,
            properties: &properties,
            rejection: self.rejection,
            settled_at: self.settled_at,
            balances: &balances,
            source,
        })
    }
}

/// A payment, in short. The names are those of its event.
#[derive(Clone, Debug, Serialize)]
pub struct PaymentRow {
    /// The task's id.
    pub id: Uuid,
    /// The task's type.
    #[serde(rename = "type")]
    pub task_type: String,
    /// `settled` or `rejected`.
    pub state: String,
    /// Why it was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The account that an `open_account` is about.
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
    /// Of the amount, or of the account.
    pub currency: String,
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
    /// Only those that name this account.
    pub account: Option<&'a str>,
    /// Only those with this reference.
    pub reference: Option<&'a str>,
    /// Only those decided at this time or later.
    pub since: Option<Timestamp>,
    /// Only those with a smaller id.
    pub before: Option<Uuid>,
    /// At most this many.
    pub limit: i64,
}

// No filter has an index: each would cost every payment more than this costs now and then.
const LIST: &str = "
    SELECT id, type::text, state::text, reason, debit_account, credit_account, amount, currency, reference, publisher,
           settled_at
      FROM payment_named
     WHERE ($1::text IS NULL OR state = $1::text::payment_state)
       AND ($2::text IS NULL OR debit_id = (SELECT id FROM account WHERE name = $2)
                             OR credit_id = (SELECT id FROM account WHERE name = $2))
       AND ($3::text IS NULL OR reference = $3)
       AND ($4::timestamptz IS NULL OR settled_at >= $4)
       AND ($5::uuid IS NULL OR id < $5)
     ORDER BY id DESC
     LIMIT $6";

/// The payments that the filter lets through, in descending order of their ids: the newest
/// first where the ids are of version 7. Without a filter it follows the key, with one it may
/// read all payments.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn list(client: &impl GenericClient, filter: &PaymentFilter<'_>) -> Result<Vec<PaymentRow>, Error> {
    let PaymentFilter { state, account, reference, since, before, limit } = filter;
    let rows = client.query(LIST, &[state, account, reference, since, before, limit]).await?;
    Ok(rows.iter().map(payment_row).collect())
}

fn payment_row(row: &Row) -> PaymentRow {
    let transfer = row.get::<_, &str>(1) == TaskType::Transfer.name();
    let first_account: String = row.get(4);
    let (account, debit_account) = if transfer { (None, Some(first_account)) } else { (Some(first_account), None) };
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
    }
}

const LOAD: &str = "
    SELECT p.id, p.type::text, p.reason, p.debit_account, p.credit_account, p.amount, p.currency, p.min_balance,
           p.reference, p.metadata::text, p.publisher, p.version, p.received_at, p.settled_at,
           d.seq, d.amount, d.balance_after, c.seq, c.amount, c.balance_after
      FROM payment_named p
      LEFT JOIN entry d ON d.account = p.debit_id  AND d.seq = p.debit_seq  AND d.payment_id = p.id
      LEFT JOIN entry c ON c.account = p.credit_id AND c.seq = p.credit_seq AND c.payment_id = p.id
     WHERE p.id = ANY($1)";

/// The payments of these ids, in no order; ids that are not known are left out.
///
/// # Errors
///
/// PostgreSQL's, and a row that no task could have become.
pub async fn load_tasks(client: &impl GenericClient, ids: &[Uuid]) -> Result<Vec<StoredTask>, Error> {
    client.query(LOAD, &[&ids]).await?.iter().map(stored_task).collect()
}

fn stored_task(row: &Row) -> Result<StoredTask, Error> {
    let id = row.get(0);
    let body = task_body(id, row)?;
    let reason: Option<&str> = row.get(2);
    let mut entries = Vec::new();
    for (account, first) in [(3, 14), (4, 17)] {
        if let Some(seq) = row.get(first) {
            let account = read(id, "account", row.get(account), AccountName::parse)?;
            entries.push(StoredEntry { account, seq, amount: row.get(first + 1), balance_after: row.get(first + 2) });
        }
    }
    Ok(StoredTask {
        task: Task::new(id, body),
        rejection: reason.map(|name| read(id, "reason", Some(name), Rejection::from_name)).transpose()?,
        publisher: row.get(10),
        version: row.get(11),
        received_at: row.get(12),
        settled_at: row.get(13),
        entries,
    })
}

fn task_body(id: Uuid, row: &Row) -> Result<TaskBody, Error> {
    let debit = read(id, "debit_account", row.get(3), AccountName::parse)?;
    let currency = read(id, "currency", row.get(6), Currency::parse)?;
    Ok(match read(id, "type", row.get(1), TaskType::from_name)? {
        TaskType::OpenAccount => {
            TaskBody::OpenAccount(OpenAccount { account: debit, currency, min_balance: row.get(7) })
        }
        TaskType::Transfer => TaskBody::Transfer(Transfer {
            debit_account: debit,
            credit_account: read(id, "credit_account", row.get(4), AccountName::parse)?,
            amount: row.get::<_, Option<i64>>(5).ok_or_else(|| unreadable(id, "amount", None))?,
            currency,
            reference: row.get::<_, Option<&str>>(8).map(Into::into),
            metadata: match row.get::<_, Option<&str>>(9) {
                Some(json) => Some(read(id, "metadata", Some(json), canonical_metadata)?),
                None => None,
            },
        }),
    })
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
