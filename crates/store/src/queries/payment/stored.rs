//! Stored tasks and their outcomes.

use jiff::Timestamp;
use tokio_postgres::{GenericClient, Row};
use uuid::Uuid;

use super::whole::{self, Legs, StoredEntry, WholePayment};
use super::{Error, read, unreadable};
use crate::sql::named;
use settled_core::contract::{
    AccountName, BalanceAfter, Currency, Event, EventKind, OpenAccount, PaymentState, Properties, Rejection, Task,
    TaskBody, TaskType, Transfer, canonical_metadata, decode_stored,
};

/// A stored task with its outcome.
#[derive(Clone, Debug)]
pub struct StoredTask {
    pub task: Task,
    pub state: PaymentState,
    pub rejection: Option<Rejection>,
    pub publisher: Option<String>,
    /// Number of states it has had.
    pub version: i32,
    /// The amount that a follow-up has moved, in minor units.
    pub moved: Option<i64>,
    /// When its message was delivered.
    pub received_at: Timestamp,
    pub settled_at: Timestamp,
    /// Its entries; of each movement the debit first.
    pub entries: Vec<StoredEntry>,
    /// The payment that it is or acts on.
    pub payment: Option<WholePayment>,
}

impl StoredTask {
    /// Returns the posted balances after the task, as in its event: those it changed, or that of the account it opened.
    /// What was held then is not stored.
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

    /// Builds its event again, with `properties` but the publisher of the stored task.
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
           d.seq AS debit_seq, d.amount AS debit_amount, d.balance_after AS debit_balance,
           c.seq AS credit_seq, c.amount AS credit_amount, c.balance_after AS credit_balance,
           p.state::text, p.request, p.parent_id, p.legs
      FROM payment_named p
      LEFT JOIN entry d ON d.account = p.debit_id  AND d.seq = p.debit_seq  AND d.payment_id = p.id
      LEFT JOIN entry c ON c.account = p.credit_id AND c.seq = p.credit_seq AND c.payment_id = p.id
     WHERE p.id = ANY({ids})";

/// Returns the tasks with these ids, in any order. Unknown ids are left out.
///
/// # Errors
///
/// Also if a row holds a value that is not in the contract.
pub async fn load_tasks(client: &impl GenericClient, ids: &[Uuid]) -> Result<Vec<StoredTask>, Error> {
    let rows = named!(client.query(LOAD, ids = ids))?;
    let parents = rows.iter().filter_map(|row| row.get::<_, Option<Uuid>>("parent_id"));
    let payments: Vec<Uuid> = rows.iter().map(|row| row.get("id")).chain(parents).collect();
    let is_listed =
        |row: &Row| row.get::<_, Option<i16>>("legs").is_some() || row.get::<_, Option<Uuid>>("parent_id").is_some();
    let listed = rows.iter().any(is_listed);
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
    let id = row.get("id");
    let task = match row.get::<_, Option<&str>>("request") {
        Some(request) => {
            decode_stored(request.as_bytes()).map_err(|letter| unreadable(id, "request", Some(&letter.detail)))?
        }
        None => Task::new(id, task_body(id, row)?),
    };
    let reason: Option<&str> = row.get("reason");
    Ok(StoredTask {
        moved: task.body.task_type().is_follow_up().then(|| row.get("amount")).flatten(),
        task,
        state: read(id, "state", row.get("state"), PaymentState::from_name)?,
        rejection: reason.map(|name| read(id, "reason", Some(name), Rejection::from_name)).transpose()?,
        publisher: row.get("publisher"),
        version: row.get("version"),
        received_at: row.get("received_at"),
        settled_at: row.get("settled_at"),
        entries: StoredEntry::both(id, row)?,
        payment: None,
    })
}

fn task_body(id: Uuid, row: &Row) -> Result<TaskBody, Error> {
    let debit = read(id, "debit_account", row.get("debit_account"), AccountName::parse)?;
    let currency = read(id, "currency", row.get("currency"), Currency::parse)?;
    match read(id, "type", row.get("type"), TaskType::from_name)? {
        TaskType::OpenAccount => {
            Ok(TaskBody::OpenAccount(OpenAccount { account: debit, currency, min_balance: row.get("min_balance") }))
        }
        TaskType::Transfer => Ok(TaskBody::Transfer(Transfer {
            debit_account: debit,
            credit_account: read(id, "credit_account", row.get("credit_account"), AccountName::parse)?,
            amount: row.get::<_, Option<i64>>("amount").ok_or_else(|| unreadable(id, "amount", None))?,
            currency,
            reference: row.get::<_, Option<&str>>("reference").map(Into::into),
            metadata: match row.get::<_, Option<&str>>("metadata") {
                Some(json) => Some(read(id, "metadata", Some(json), canonical_metadata)?),
                None => None,
            },
        })),
        _ => Err(unreadable(id, "request", None)),
    }
}
