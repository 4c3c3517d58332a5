//! Reads what the database has recorded.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use futures_util::TryStreamExt;
use jiff::Timestamp;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::contract::{
    AccountName, Currency, OpenAccount, PaymentState, Rejection, Task, TaskBody, Transfer, canonical_metadata,
    decode_stored,
};

/// The contents of all tables that the replay needs.
#[derive(Default)]
pub struct Recorded {
    /// In no particular order.
    pub(super) payments: Vec<Payment>,
    pub(super) accounts: HashMap<i64, Account>,
    /// By the task that made them, ordered by account and position.
    pub(super) entries: HashMap<Uuid, Vec<Entry>>,
    /// By payment, ordered by version.
    pub(super) transitions: HashMap<Uuid, Vec<Transition>>,
}

/// A task and its recorded state.
pub(super) struct Payment {
    pub(super) task: Arc<Task>,
    pub(super) state: PaymentState,
    pub(super) reason: Option<Rejection>,
    pub(super) version: i32,
    pub(super) received_at: Timestamp,
    pub(super) settled_at: Timestamp,
    pub(super) expires_at: Option<Timestamp>,
    /// For each leg of an applied payment: amount, captured, refunded, charged back.
    pub(super) legs: Vec<[i64; 4]>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) status: String,
    pub(super) currency: Option<String>,
    pub(super) posted: i64,
    pub(super) held: i64,
    pub(super) version: i64,
    pub(super) shortfall: i64,
    pub(super) min_balance: Option<i64>,
    pub(super) max_balance: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) account: i64,
    pub(super) seq: i64,
    pub(super) amount: i64,
    pub(super) balance: i64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Transition {
    pub(super) payment: Uuid,
    pub(super) version: i32,
    pub(super) from: PaymentState,
    pub(super) to: PaymentState,
    pub(super) at: Timestamp,
    /// The task that caused it; `None` if a hold expired.
    pub(super) cause: Option<Uuid>,
}

const ACCOUNTS: &str = "
    SELECT id, name, status::text, currency, posted, held, version, shortfall, min_balance, max_balance FROM account";

const ENTRIES: &str = "SELECT payment_id, account, seq, amount, balance_after FROM entry";

const TRANSITIONS: &str = "
    SELECT payment_id, version, from_state::text, to_state::text, at, cause FROM transition ORDER BY payment_id, version";

/// Only legs of payments, not of follow-ups.
const LEGS: &str = "
    SELECT payment_id, amount, captured, refunded, charged_back FROM leg WHERE captured IS NOT NULL
     ORDER BY payment_id, leg";

const PAYMENTS: &str = "
    SELECT id, type::text, state::text, reason, version, received_at, settled_at, expires_at, legs IS NOT NULL, amount,
           captured, refunded, charged_back, fingerprint, request, debit_account, credit_account, currency, min_balance,
           reference, metadata::text
      FROM payment";

impl Recorded {
    /// Reads all records. They must not change meanwhile, so use a transaction with a snapshot.
    ///
    /// # Errors
    ///
    /// Those of PostgreSQL, and rows that can't be valid.
    pub async fn read(client: &Client) -> Result<Self, String> {
        let mut recorded = Self::default();
        each(client, ACCOUNTS, |row| {
            recorded.accounts.insert(row.get(0), account(row));
            Ok(())
        })
        .await?;
        each(client, ENTRIES, |row| {
            let entry = Entry { account: row.get(1), seq: row.get(2), amount: row.get(3), balance: row.get(4) };
            recorded.entries.entry(row.get(0)).or_default().push(entry);
            Ok(())
        })
        .await?;
        recorded.entries.values_mut().for_each(|entries| entries.sort_unstable());
        each(client, TRANSITIONS, |row| {
            let state = |column| name(row, column, PaymentState::from_name);
            let (payment, version, at, cause) = (row.get(0), row.get(1), row.get(4), row.get(5));
            let transition = Transition { payment, version, from: state(2)?, to: state(3)?, at, cause };
            recorded.transitions.entry(payment).or_default().push(transition);
            Ok(())
        })
        .await?;
        let mut legs: HashMap<Uuid, Vec<[i64; 4]>> = HashMap::new();
        each(client, LEGS, |row| {
            legs.entry(row.get(0)).or_default().push([row.get(1), row.get(2), row.get(3), row.get(4)]);
            Ok(())
        })
        .await?;
        each(client, PAYMENTS, |row| {
            recorded.payments.push(payment(row, &recorded.accounts, &mut legs)?);
            Ok(())
        })
        .await?;
        match legs.keys().next() {
            Some(id) => Err(format!("there are legs of {id}, which has none")),
            None => Ok(recorded),
        }
    }
}

/// Calls `read` with each row of a query. The rows are streamed: there can be millions.
async fn each(client: &Client, query: &str, mut read: impl FnMut(&Row) -> Result<(), String>) -> Result<(), String> {
    let failed = |error: tokio_postgres::Error| format!("the records can't be read: {error:?}");
    let rows = client.query_raw(query, std::iter::empty::<&i64>()).await.map_err(failed)?;
    let mut rows = pin!(rows);
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        read(&row)?;
    }
    Ok(())
}

/// Converts a name in a column to its value.
fn name<T>(row: &Row, column: usize, read: impl FnOnce(&str) -> Option<T>) -> Result<T, String> {
    let name: &str = row.get(column);
    read(name).ok_or_else(|| format!("nothing is called {name:?}"))
}

fn account(row: &Row) -> Account {
    Account {
        name: row.get(1),
        status: row.get(2),
        currency: row.get(3),
        posted: row.get(4),
        held: row.get(5),
        version: row.get(6),
        shortfall: row.get(7),
        min_balance: row.get(8),
        max_balance: row.get(9),
    }
}

fn payment(
    row: &Row,
    accounts: &HashMap<i64, Account>,
    legs: &mut HashMap<Uuid, Vec<[i64; 4]>>,
) -> Result<Payment, String> {
    let id: Uuid = row.get(0);
    let of_it = |found: String| format!("{id}: {found}");
    let task = task(id, row, accounts).map_err(of_it)?;
    let state = name(row, 2, PaymentState::from_name).map_err(of_it)?;
    let reason: Option<&str> = row.get(3);
    let reason = reason.map(|_| name(row, 3, Rejection::from_name)).transpose().map_err(of_it)?;
    let is_made = !state.is_pending() && !state.is_failed();
    let legs = match (is_made && matches!(row.get(1), "transfer" | "authorize"), row.get(8)) {
        (false, _) if row.get::<_, Option<i64>>(10).is_some() => {
            return Err(of_it("something was captured of what was never made".into()));
        }
        (false, _) => Vec::new(),
        (true, true) => legs.remove(&id).ok_or_else(|| of_it("its legs are missing".into()))?,
        // A plain transfer without a follow-up has no leg row: all of it was captured.
        (true, false) => {
            let or = |column, otherwise| row.get::<_, Option<i64>>(column).unwrap_or(otherwise);
            vec![[or(9, 0), or(10, or(9, 0)), or(11, 0), or(12, 0)]]
        }
    };
    Ok(Payment {
        task: Arc::new(task),
        state,
        reason,
        version: row.get(4),
        received_at: row.get(5),
        settled_at: row.get(6),
        expires_at: row.get(7),
        legs,
    })
}

/// Returns the task: from the stored request, or from the columns if they contain all of it.
fn task(id: Uuid, row: &Row, accounts: &HashMap<i64, Account>) -> Result<Task, String> {
    let request: Option<&str> = row.get(14);
    let task = match request {
        Some(request) => decode_stored(request.as_bytes()).map_err(|letter| letter.detail)?,
        None => Task::new(id, body(row, accounts)?),
    };
    let is_same = task.fingerprint.as_bytes().as_slice() == row.get::<_, &[u8]>(13);
    if task.id != id || task.body.task_type().name() != row.get::<_, &str>(1) || !is_same {
        return Err(format!("it is not the task that its fingerprint is of: {task:?}"));
    }
    Ok(task)
}

fn body(row: &Row, accounts: &HashMap<i64, Account>) -> Result<TaskBody, String> {
    let account = |column| {
        let id: Option<i64> = row.get(column);
        let account = id.and_then(|id| accounts.get(&id)).and_then(|account| AccountName::parse(&account.name));
        account.ok_or_else(|| format!("there is no account {id:?}"))
    };
    let currency = name(row, 17, Currency::parse)?;
    match row.get(1) {
        "open_account" => {
            Ok(TaskBody::OpenAccount(OpenAccount { account: account(15)?, currency, min_balance: row.get(18) }))
        }
        "transfer" => Ok(TaskBody::Transfer(Transfer {
            debit_account: account(15)?,
            credit_account: account(16)?,
            amount: row.get::<_, Option<i64>>(9).ok_or("it has no amount")?,
            currency,
            reference: row.get::<_, Option<&str>>(19).map(Into::into),
            metadata: row.get::<_, Option<&str>>(20).and_then(canonical_metadata),
        })),
        other => Err(format!("the request of a {other} is missing")),
    }
}
