//! One payment in one transaction, on one connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use jiff::Timestamp;
use settled_core::contract::{Access, AccountName, DeadLetter, DeadReason, Message, Task, TaskBody};
use settled_core::ledger;
use settled_core::ledger::{Account, AccountIx, Arrival, Item, NonePending, Rules};
use settled_pipeline::labels::Outcome;
use settled_store::{Client, PostgresSettings, connect, queries};
use tokio_postgres::Transaction;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::sql::{self, Statements};

/// How often a payment is tried when another one is in its way.
const ATTEMPTS: usize = 10;

/// The ids of account names, which never change; all connections share what they know.
#[derive(Debug, Default)]
pub(super) struct AccountIds(Mutex<HashMap<AccountName, i64>>);

pub(super) struct Books {
    client: Client,
    statements: Statements,
    ids: Arc<AccountIds>,
}

enum Known {
    Not,
    TheSame,
    /// The named field has another value.
    Differing(&'static str),
}

impl Books {
    pub(super) async fn open(settings: &PostgresSettings, ids: Arc<AccountIds>) -> Result<Self> {
        let client = connect(settings).await?;
        client.batch_execute(sql::SESSION).await?;
        let statements = Statements::prepare(&client).await?;
        Ok(Self { client, statements, ids })
    }

    /// Commits what becomes of a message. One that another was in the way of is tried again.
    pub(super) async fn book(&mut self, message: &Message) -> Result<Outcome> {
        let mut attempts = 1;
        loop {
            let tried = match &message.content {
                Ok(task) => self.task(message, task).await,
                Err(letter) => self.dead_letter(message, letter).await,
            };
            match tried {
                Err(error) if attempts < ATTEMPTS && is_conflict(&error) => attempts += 1,
                tried => return tried,
            }
        }
    }

    async fn dead_letter(&self, message: &Message, letter: &DeadLetter) -> Result<Outcome> {
        sql::insert_dead_letter(&self.client, &self.statements, message, letter).await?;
        Ok(Outcome::DeadLettered(letter.reason))
    }

    async fn task(&mut self, message: &Message, task: &Task) -> Result<Outcome> {
        let statements = &self.statements;
        let mut pairs = task.body.account_pairs();
        let (Some((debit, credit)), None) = (pairs.next(), pairs.next()) else {
            anyhow::bail!("this consumer opens accounts and makes transfers, nothing else");
        };
        let debit = self.ids.of(&self.client, statements, debit).await?;
        let credit = self.ids.of(&self.client, statements, credit).await?;
        let transaction = self.client.transaction().await?;
        let mut accounts = sql::lock(&transaction, statements, [debit, credit]).await?;
        let outcome = match known(&transaction, statements, task).await? {
            Known::TheSame => Outcome::Duplicate,
            Known::Differing(field) => {
                let letter = conflict(task, field);
                sql::insert_dead_letter(&transaction, statements, message, &letter).await?;
                Outcome::DeadLettered(letter.reason)
            }
            Known::Not => {
                decide_and_write(&transaction, statements, message, task, [debit, credit], &mut accounts).await?
            }
        };
        transaction.commit().await?;
        Ok(outcome)
    }
}

async fn known(transaction: &Transaction<'_>, statements: &Statements, task: &Task) -> Result<Known> {
    let known = transaction.query_opt(statements.get(sql::KNOWN), &[&task.id]).await?;
    let Some(fingerprint) = known.map(|row| row.get::<_, Vec<u8>>(0)) else { return Ok(Known::Not) };
    if fingerprint == *task.fingerprint.as_bytes() {
        return Ok(Known::TheSame);
    }
    let first = queries::payment::load_tasks(transaction, &[task.id]).await?.pop().context("a payment is gone")?;
    Ok(Known::Differing(task.differs_from(&first.task).unwrap_or("id")))
}

/// The daemon's own decision, of one task: no earlier one is waited for, as none is known.
async fn decide_and_write(
    transaction: &Transaction<'_>,
    statements: &Statements,
    message: &Message,
    task: &Task,
    [debit, credit]: [i64; 2],
    accounts: &mut [Account],
) -> Result<Outcome> {
    let place =
        |id: i64| accounts.iter().position(|account| account.id == id).map(AccountIx).context("no such account");
    let pairs = smallvec::smallvec![(place(debit)?, place(credit)?)];
    let item = Item { task, arrival: Arrival(0), pairs, resumes: false, publisher: None, access: Access::Everything };
    let names: Vec<&AccountName> =
        task.body.account_pairs().flat_map(|(one, other)| [one, other]).take(accounts.len()).collect();
    let books = ledger::Books {
        accounts,
        names: &names,
        payments: &mut HashMap::new(),
        known: &HashMap::<Uuid, ledger::Known>::new(),
        now: Timestamp::now(),
        rules: &Rules::default(),
    };
    let decided = ledger::apply(&[item], books, &NonePending).outcomes.pop();
    let (rejection, postings) = match decided.context("one task, one outcome")? {
        ledger::Outcome::Opened => (None, None),
        ledger::Outcome::Settled { debit, credit } => (None, Some([debit, credit])),
        ledger::Outcome::Rejected(rejection) => (Some(rejection), None),
        other => anyhow::bail!("{other:?} of a task on its own"),
    };
    for account in accounts.iter().filter(|_| postings.is_some()) {
        let Account { id, posted, version, .. } = account;
        transaction.execute(statements.get(sql::BALANCE), &[id, posted, version]).await?;
    }
    if let (TaskBody::OpenAccount(open), None) = (&task.body, rejection) {
        let (currency, min_balance) = (open.currency.as_str(), open.min_balance);
        transaction.execute(statements.get(sql::OPEN), &[&debit, &currency, &min_balance]).await?;
    }
    let row = sql::PaymentRow { message, task, debit, credit, rejection, postings: postings.as_ref() };
    sql::insert_payment(transaction, statements, &row).await?;
    if let Some(postings) = &postings {
        sql::insert_entries(transaction, statements, task.id, [debit, credit], postings).await?;
    }
    Ok(rejection.map_or(Outcome::Settled, Outcome::Rejected))
}

fn conflict(task: &Task, field: &str) -> DeadLetter {
    DeadLetter {
        reason: DeadReason::IdempotencyConflict,
        field: Some(field.to_owned()),
        detail: format!("`{field}` differs from the task that had the id {} first", task.id),
        task_id: Some(task.id),
    }
}

/// Another transaction was in the way, or was first with the same id: then it is known now.
fn is_conflict(error: &anyhow::Error) -> bool {
    let state = error.downcast_ref::<tokio_postgres::Error>().and_then(tokio_postgres::Error::code);
    let conflicts =
        [&SqlState::T_R_SERIALIZATION_FAILURE, &SqlState::T_R_DEADLOCK_DETECTED, &SqlState::UNIQUE_VIOLATION];
    state.is_some_and(|state| conflicts.contains(&state))
}

impl AccountIds {
    /// The id of a name, from memory or else from the database, outside of any transaction.
    async fn of(&self, client: &Client, statements: &Statements, name: &AccountName) -> Result<i64> {
        if let Some(id) = self.remembered().get(name).copied() {
            return Ok(id);
        }
        let id = sql::intern(client, statements, name).await?;
        self.remembered().insert(name.clone(), id);
        Ok(id)
    }

    fn remembered(&self) -> MutexGuard<'_, HashMap<AccountName, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
