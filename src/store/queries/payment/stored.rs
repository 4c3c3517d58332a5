//! Tasks as they are stored: what was asked for, and what became of it.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::{GenericClient, Row};
use uuid::Uuid;

use super::whole::{self, Legs, WholePayment};
use super::{Error, read, unreadable};
use crate::contract::{
    AccountName, BalanceAfter, Currency, Event, EventKind, OpenAccount, PaymentState, Properties, Rejection, Task,
    TaskBody, TaskType, Transfer, canonical_metadata, decode_stored,
};

/// A payment as it is stored: the task that it was, and what became of it.
#[derive(Clone, Debug)]
pub struct StoredTask {
    /// What was asked for.
    pub task: Task,
    /// Where it stands.
    pub state: PaymentState,
    /// Why it was declined.
    pub rejection: Option<Rejection>,
    /// Who published it.
    pub publisher: Option<String>,
    /// How many states it has had.
    pub version: i32,
    /// What a follow-up has moved, in minor units.
    pub moved: Option<i64>,
    /// When its message was taken from the queue.
    pub received_at: Timestamp,
    /// When it was decided.
    pub settled_at: Timestamp,
    /// Its own entries, of each movement the debit first.
    pub entries: Vec<StoredEntry>,
    /// The payment that it is or acts on.
    pub payment: Option<WholePayment>,
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

impl StoredEntry {
    /// An account's name in one column, the entry in those from `first` on; `None` without one.
    pub(super) fn read(id: Uuid, row: &Row, account: usize, first: usize) -> Result<Option<Self>, Error> {
        let Some(seq) = row.get(first) else { return Ok(None) };
        let account = read(id, "account", row.get(account), AccountName::parse)?;
        Ok(Some(Self { account, seq, amount: row.get(first + 1), balance_after: row.get(first + 2) }))
    }
}

impl StoredTask {
    /// The posted balances right after the payment, as its event told them: those that it changed,
    /// or the one of the account that it opened. What was held then isn't known any more.
    pub fn balances(&self) -> Vec<BalanceAfter<'_>> {
        match &self.task.body {
            TaskBody::OpenAccount(open) if self.state == PaymentState::Settled => {
                vec![BalanceAfter {
                    account: open.account.as_str(),
                    posted: 0,
                    held: Some(0),
                    version: 0,
                    shortfall: 0,
                }]
            }
            _ => self
                .entries
                .iter()
                .map(|entry| BalanceAfter {
                    account: entry.account.as_str(),
                    posted: entry.balance_after,
                    held: None,
                    version: entry.seq,
                    shortfall: 0,
                })
                .collect(),
        }
    }

    /// Puts its event together once more: with `properties`, but from the publisher of the task
    /// that was applied.
    pub fn with_event<T>(&self, properties: Properties, source: &str, tell: impl FnOnce(&Event<'_>) -> T) -> T {
        let publisher = self.publisher.as_deref().map(Into::into);
        let (properties, balances) = (Properties { publisher, ..properties }, self.balances());
        let payment = self.payment.as_ref().filter(|payment| !payment.is_plain).map(WholePayment::view);
        let kind = match (self.task.body.task_type(), self.state) {
            (TaskType::Authorize, PaymentState::Expired) => EventKind::PaymentExpired,
            (task_type, state) => EventKind::of(task_type, state),
        };
        tell(&Event {
            kind,
            task: &self.task,
            properties: &properties,
            state: self.state,
            version: self.version,
            rejection: self.rejection,
            moved: self.moved,
            settled_at: self.settled_at,
            payment: payment.as_ref(),
            balances: &balances,
            source,
        })
    }
}

const LOAD: &str = "
    SELECT p.id, p.type::text, p.reason, p.debit_account, p.credit_account, p.amount, p.currency, p.min_balance,
           p.reference, p.metadata::text, p.publisher, p.version, p.received_at, p.settled_at,
           d.seq, d.amount, d.balance_after, c.seq, c.amount, c.balance_after, p.state::text, p.request, p.parent_id,
           p.legs
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
    let rows = client.query(LOAD, &[&ids]).await?;
    let parents = rows.iter().filter_map(|row| row.get::<_, Option<Uuid>>(22));
    let payments: Vec<Uuid> = rows.iter().map(|row| row.get(0)).chain(parents).collect();
    let listed =
        rows.iter().any(|row| row.get::<_, Option<i16>>(23).is_some() || row.get::<_, Option<Uuid>>(22).is_some());
    let mut legs = if listed { Legs::load(client, &payments).await? } else { Legs::default() };
    let whole = whole::load(client, &payments, &mut legs).await?;
    rows.iter()
        .map(|row| {
            let mut stored = stored_task(row)?;
            stored.entries.extend(legs.entries.remove(&stored.task.id).unwrap_or_default());
            let payment = stored.task.body.payment_id().unwrap_or(stored.task.id);
            stored.payment = whole.get(&payment).cloned();
            Ok(stored)
        })
        .collect()
}

fn stored_task(row: &Row) -> Result<StoredTask, Error> {
    let id = row.get(0);
    let task = match row.get::<_, Option<&str>>(21) {
        Some(request) => {
            decode_stored(request.as_bytes()).map_err(|letter| unreadable(id, "request", Some(&letter.detail)))?
        }
        None => Task::new(id, task_body(id, row)?),
    };
    let reason: Option<&str> = row.get(2);
    let mut entries = Vec::new();
    for (account, first) in [(3, 14), (4, 17)] {
        entries.extend(StoredEntry::read(id, row, account, first)?);
    }
    Ok(StoredTask {
        moved: task.body.task_type().is_follow_up().then(|| row.get(5)).flatten(),
        task,
        state: read(id, "state", row.get(20), PaymentState::from_name)?,
        rejection: reason.map(|name| read(id, "reason", Some(name), Rejection::from_name)).transpose()?,
        publisher: row.get(10),
        version: row.get(11),
        received_at: row.get(12),
        settled_at: row.get(13),
        entries,
        payment: None,
    })
}

fn task_body(id: Uuid, row: &Row) -> Result<TaskBody, Error> {
    let debit = read(id, "debit_account", row.get(3), AccountName::parse)?;
    let currency = read(id, "currency", row.get(6), Currency::parse)?;
    match read(id, "type", row.get(1), TaskType::from_name)? {
        TaskType::OpenAccount => {
            Ok(TaskBody::OpenAccount(OpenAccount { account: debit, currency, min_balance: row.get(7) }))
        }
        TaskType::Transfer => Ok(TaskBody::Transfer(Transfer {
            debit_account: debit,
            credit_account: read(id, "credit_account", row.get(4), AccountName::parse)?,
            amount: row.get::<_, Option<i64>>(5).ok_or_else(|| unreadable(id, "amount", None))?,
            currency,
            reference: row.get::<_, Option<&str>>(8).map(Into::into),
            metadata: match row.get::<_, Option<&str>>(9) {
                Some(json) => Some(read(id, "metadata", Some(json), canonical_metadata)?),
                None => None,
            },
        })),
        _ => Err(unreadable(id, "request", None)),
    }
}
