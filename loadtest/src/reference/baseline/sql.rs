//! The statements, and the rows they read and write: those of the daemon's tables.
//!
//! A payment takes eight of them: BEGIN, two locks in one, a look for the id, two balances, the
//! payment, its two entries in one, COMMIT.

use std::collections::HashMap;

use anyhow::{Context, Result};
use settled_core::contract::{AccountName, Currency, DeadLetter, Message, Rejection, Task, TaskBody};
use settled_core::ledger::{Account, AccountStatus, Posting};
use tokio_postgres::{Client, GenericClient, Row, Statement};
use uuid::Uuid;

type Done = Result<(), tokio_postgres::Error>;

/// As the daemon's sessions begin: plans are made once, and good for tables that grow.
pub(super) const SESSION: &str = "SET jit = off; SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off";

const ID: &str = "SELECT id FROM account WHERE name = $1";

const INTERN: &str = "INSERT INTO account (name) VALUES ($1) ON CONFLICT (name) DO NOTHING";

const LOCK: &str = "
    SELECT id, posted, held, version, min_balance, status::text, currency
      FROM account WHERE id = $1 OR id = $2 ORDER BY id FOR NO KEY UPDATE";

pub(super) const KNOWN: &str = "SELECT fingerprint FROM payment WHERE id = $1";

pub(super) const BALANCE: &str = "UPDATE account SET posted = $2, version = $3 WHERE id = $1";

pub(super) const OPEN: &str = "
    UPDATE account SET status = 'open', currency = $2, min_balance = $3, opened_at = clock_timestamp() WHERE id = $1";

const PAYMENT: &str = "
    INSERT INTO payment (id, debit_account, credit_account, amount, min_balance, debit_seq, credit_seq, received_at,
                         settled_at, type, state, currency, fingerprint, reason, publisher, reference, metadata)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp(), $9::text::task_type, $10::text::payment_state, $11, $12,
            $13, $14, $15, $16::text::jsonb)";

const ENTRIES: &str = "
    INSERT INTO entry (account, seq, amount, balance_after, payment_id)
    VALUES ($1, $2, $3, $4, $9), ($5, $6, $7, $8, $9)";

const DEAD_LETTER: &str = "
    INSERT INTO dead_letter (digest, task_id, reason, field, detail, body, properties, first_seen, last_seen)
    VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8, $8)
    ON CONFLICT (digest) DO UPDATE SET attempts = dead_letter.attempts + 1, last_seen = excluded.last_seen";

const ALL: [&str; 9] = [ID, INTERN, LOCK, KNOWN, BALANCE, OPEN, PAYMENT, ENTRIES, DEAD_LETTER];

/// All of them, prepared on one connection.
pub(super) struct Statements(HashMap<&'static str, Statement>);

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self> {
        let mut prepared = HashMap::new();
        for sql in ALL {
            prepared.insert(sql, client.prepare(sql).await?);
        }
        Ok(Self(prepared))
    }

    pub(super) fn get(&self, sql: &str) -> &Statement {
        &self.0[sql]
    }
}

/// The id of an account name; a new name is given one.
pub(super) async fn intern(client: &Client, statements: &Statements, name: &AccountName) -> Result<i64> {
    let name = name.as_str();
    if let Some(row) = client.query_opt(statements.get(ID), &[&name]).await? {
        return Ok(row.get(0));
    }
    client.execute(statements.get(INTERN), &[&name]).await?;
    Ok(client.query_one(statements.get(ID), &[&name]).await?.get(0))
}

/// Locks two accounts, in id order, so that no two payments wait for each other.
pub(super) async fn lock(
    client: &impl GenericClient,
    statements: &Statements,
    [one, other]: [i64; 2],
) -> Result<Vec<Account>> {
    client.query(statements.get(LOCK), &[&one, &other]).await?.iter().map(account).collect()
}

fn account(row: &Row) -> Result<Account> {
    let (status, currency): (&str, Option<&str>) = (row.get(5), row.get(6));
    Ok(Account {
        id: row.get(0),
        posted: row.get(1),
        held: row.get(2),
        version: row.get(3),
        min_balance: row.get(4),
        status: AccountStatus::from_name(status).with_context(|| format!("an account is {status}"))?,
        currency: currency.and_then(Currency::parse),
        ..Account::unopened(row.get(0))
    })
}

pub(super) struct PaymentRow<'a> {
    pub(super) message: &'a Message,
    pub(super) task: &'a Task,
    pub(super) debit: i64,
    pub(super) credit: i64,
    pub(super) rejection: Option<Rejection>,
    /// Of the debited and of the credited account.
    pub(super) postings: Option<&'a [Posting; 2]>,
}

pub(super) async fn insert_payment(client: &impl GenericClient, statements: &Statements, row: &PaymentRow<'_>) -> Done {
    let task = row.task;
    let (credit, amount, currency, min_balance) = match &task.body {
        TaskBody::OpenAccount(open) => (None, None, open.currency, open.min_balance),
        TaskBody::Transfer(transfer) => (Some(row.credit), Some(transfer.amount), transfer.currency, None),
        other => unreachable!("this consumer takes no {}", other.task_type().name()),
    };
    let [debit_seq, credit_seq] = match row.postings {
        Some([debit, credit]) => [Some(debit.after.version), Some(credit.after.version)],
        None => [None, None],
    };
    client
        .execute(
            statements.get(PAYMENT),
            &[
                &task.id,
                &row.debit,
                &credit,
                &amount,
                &min_balance,
                &debit_seq,
                &credit_seq,
                &row.message.received_at,
                &task.body.task_type().name(),
                &(if row.rejection.is_some() { "rejected" } else { "settled" }),
                &currency.as_str(),
                &task.fingerprint.as_bytes().as_slice(),
                &row.rejection.map(Rejection::name),
                &row.message.properties.publisher.as_deref(),
                &task.body.reference(),
                &task.body.metadata(),
            ],
        )
        .await
        .map(drop)
}

/// Writes the two sides of a settled payment.
pub(super) async fn insert_entries(
    client: &impl GenericClient,
    statements: &Statements,
    payment: Uuid,
    [debited, credited]: [i64; 2],
    [debit, credit]: &[Posting; 2],
) -> Done {
    client
        .execute(
            statements.get(ENTRIES),
            &[
                &debited,
                &debit.after.version,
                &debit.amount,
                &debit.after.posted,
                &credited,
                &credit.after.version,
                &credit.amount,
                &credit.after.posted,
                &payment,
            ],
        )
        .await
        .map(drop)
}

/// Writes a message that is no payment, or counts another attempt of it.
pub(super) async fn insert_dead_letter(
    client: &impl GenericClient,
    statements: &Statements,
    message: &Message,
    letter: &DeadLetter,
) -> Result<()> {
    let digest = letter.digest(&message.body, &message.properties);
    let body = &message.body[..message.body.len().min(DeadLetter::KEPT_BYTES)];
    let properties = serde_json::to_string(&message.properties)?;
    client
        .execute(
            statements.get(DEAD_LETTER),
            &[
                &digest.as_slice(),
                &letter.task_id,
                &letter.reason.name(),
                &letter.field,
                &letter.detail,
                &body,
                &properties,
                &message.received_at,
            ],
        )
        .await?;
    Ok(())
}
