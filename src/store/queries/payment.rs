//! Payments, and the tasks that they were.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::{GenericClient, Row};
use uuid::Uuid;

use super::Error;
use crate::contract::{
    AccountName, BalanceAfter, Currency, OpenAccount, Rejection, Task, TaskBody, TaskType, Transfer, canonical_metadata,
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
