//! One payment in one transaction, on one connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use jiff::Timestamp;
use settled_core::contract::{
    Access, AccountName, Currency, DeadLetter, DeadReason, Message, Rejection, Task, TaskBody,
};
use settled_core::ledger;
use settled_core::ledger::{Account, AccountIx, AccountStatus, Arrival, Item, NonePending, Posting, Rules};
use settled_pipeline::labels::Outcome;
use settled_store::{Client, PostgresSettings, connect, queries};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{GenericClient, Row, Transaction};
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
        insert_dead_letter(&self.client, &self.statements, message, letter).await?;
        Ok(Outcome::DeadLettered(letter.reason))
    }

    async fn task(&mut self, message: &Message, task: &Task) -> Result<Outcome> {
        let mut pairs = task.body.account_pairs();
        let (Some((debit, credit)), None) = (pairs.next(), pairs.next()) else {
            anyhow::bail!("this consumer opens accounts and makes transfers, nothing else");
        };
        let ids = [self.id(debit).await?, self.id(credit).await?];
        let statements = &self.statements;
        let transaction = self.client.transaction().await?;
        // In the order of the ids, so that no two payments wait for each other.
        let locked = transaction.query(statements.get(sql::LOCK), &[&ids[0], &ids[1]]).await?;
        let known = transaction.query_opt(statements.get(sql::KNOWN), &[&task.id]).await?;
        let outcome = match known.map(|row| row.get::<_, Vec<u8>>(0)) {
            Some(fingerprint) if fingerprint == *task.fingerprint.as_bytes() => Outcome::Duplicate,
            Some(_) => {
                let first = queries::payment::load_tasks(&transaction, &[task.id]).await?.pop();
                let field = task.differs_from(&first.context("a payment is gone")?.task).unwrap_or("id");
                let letter = conflict(task, field);
                insert_dead_letter(&transaction, statements, message, &letter).await?;
                Outcome::DeadLettered(letter.reason)
            }
            None => {
                let mut accounts = locked.iter().map(account).collect::<Result<Vec<_>>>()?;
                let decided = decide(task, ids, &mut accounts)?;
                let rejection = decided.as_ref().err().copied();
                write(&transaction, statements, (message, task), ids, &accounts, decided).await?;
                rejection.map_or(Outcome::Settled, Outcome::Rejected)
            }
        };
        transaction.commit().await?;
        Ok(outcome)
    }

    /// The id of a name, from memory or else from the database, outside of any transaction; a new name is given one.
    async fn id(&self, account: &AccountName) -> Result<i64> {
        if let Some(id) = self.ids.remembered().get(account).copied() {
            return Ok(id);
        }
        let (name, ids) = (account.as_str(), self.statements.get(sql::ID));
        let id = match self.client.query_opt(ids, &[&name]).await? {
            Some(row) => row.get(0),
            None => {
                self.client.execute(self.statements.get(sql::INTERN), &[&name]).await?;
                self.client.query_one(ids, &[&name]).await?.get(0)
            }
        };
        self.ids.remembered().insert(account.clone(), id);
        Ok(id)
    }
}

fn account(row: &Row) -> Result<Account> {
    let (status, currency): (&str, Option<&str>) = (row.get(5), row.get(6));
    Ok(Account {
        posted: row.get(1),
        held: row.get(2),
        version: row.get(3),
        min_balance: row.get(4),
        status: AccountStatus::from_name(status).with_context(|| format!("an account is {status}"))?,
        currency: currency.and_then(Currency::parse),
        ..Account::unopened(row.get(0))
    })
}

/// What was posted, if anything was, to the debited and the credited account, or why nothing was.
type Decided = Result<Option<[Posting; 2]>, Rejection>;

/// The daemon's own decision, of one task: no earlier one is waited for, as none is known.
fn decide(task: &Task, ids: [i64; 2], accounts: &mut [Account]) -> Result<Decided> {
    let place =
        |id: i64| accounts.iter().position(|account| account.id == id).map(AccountIx).context("no such account");
    let pairs = smallvec::smallvec![(place(ids[0])?, place(ids[1])?)];
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
    match ledger::apply(&[item], books, &NonePending).outcomes.pop().context("one task, one outcome")? {
        ledger::Outcome::Opened => Ok(Ok(None)),
        ledger::Outcome::Settled { debit, credit } => Ok(Ok(Some([debit, credit]))),
        ledger::Outcome::Rejected(rejection) => Ok(Err(rejection)),
        other => anyhow::bail!("{other:?} of a task on its own"),
    }
}

async fn write(
    transaction: &Transaction<'_>,
    statements: &Statements,
    (message, task): (&Message, &Task),
    [debit, credit]: [i64; 2],
    accounts: &[Account],
    decided: Decided,
) -> Result<()> {
    let (postings, rejection) = match decided {
        Ok(postings) => (postings, None),
        Err(rejection) => (None, Some(rejection)),
    };
    for Account { id, posted, version, .. } in accounts.iter().filter(|_| postings.is_some()) {
        transaction.execute(statements.get(sql::BALANCE), &[id, posted, version]).await?;
    }
    let (payee, amount, currency, min_balance) = match &task.body {
        TaskBody::OpenAccount(open) => (None, None, open.currency, open.min_balance),
        TaskBody::Transfer(transfer) => (Some(credit), Some(transfer.amount), transfer.currency, None),
        other => unreachable!("this consumer takes no {}", other.task_type().name()),
    };
    if matches!(task.body, TaskBody::OpenAccount(_)) && rejection.is_none() {
        transaction.execute(statements.get(sql::OPEN), &[&debit, &currency.as_str(), &min_balance]).await?;
    }
    let seqs = postings.as_ref().map(|postings| postings.each_ref().map(|posting| posting.after.version));
    transaction
        .execute(
            statements.get(sql::PAYMENT),
            &[
                &task.id,
                &debit,
                &payee,
                &amount,
                &min_balance,
                &seqs.map(|[debit, _]| debit),
                &seqs.map(|[_, credit]| credit),
                &message.received_at,
                &task.body.task_type().name(),
                &(if rejection.is_some() { "rejected" } else { "settled" }),
                &currency.as_str(),
                &task.fingerprint.as_bytes().as_slice(),
                &rejection.map(Rejection::name),
                &message.properties.publisher.as_deref(),
                &task.body.reference(),
                &task.body.metadata(),
            ],
        )
        .await?;
    if let Some([debited, credited]) = &postings {
        let params: [&(dyn ToSql + Sync); 9] = [
            &debit,
            &debited.after.version,
            &debited.amount,
            &debited.after.posted,
            &credit,
            &credited.after.version,
            &credited.amount,
            &credited.after.posted,
            &task.id,
        ];
        transaction.execute(statements.get(sql::ENTRIES), &params).await?;
    }
    Ok(())
}

/// Writes a message that is no payment, or counts another attempt of it.
async fn insert_dead_letter(
    client: &impl GenericClient,
    statements: &Statements,
    message: &Message,
    letter: &DeadLetter,
) -> Result<()> {
    client
        .execute(
            statements.get(sql::DEAD_LETTER),
            &[
                &letter.digest(&message.body, &message.properties).as_slice(),
                &letter.task_id,
                &letter.reason.name(),
                &letter.field,
                &letter.detail,
                &&message.body[..message.body.len().min(DeadLetter::KEPT_BYTES)],
                &serde_json::to_string(&message.properties)?,
                &message.received_at,
            ],
        )
        .await?;
    Ok(())
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
    fn remembered(&self) -> MutexGuard<'_, HashMap<AccountName, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
