//! The second round trip: all rows of a batch with set-based statements, and the commit.

use crate::error::{around_commit, before_commit};
use std::borrow::Borrow;
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use jiff::Timestamp;

use super::commit::{commit, timed, within};
use super::events::Events;
use super::life_statements::LifeStatements;
use super::rows::Rows;
use super::statements::{InsertDeadLetters, InsertEntries, InsertOutbox, InsertPayments, OpenAccounts, UpdateBalances};
use settled_pipeline::store::Proof;
use settled_pipeline::store::StoreError;

struct Statements {
    payments: InsertPayments,
    entries: InsertEntries,
    opened: OpenAccounts,
    balances: UpdateBalances,
    dead_letters: InsertDeadLetters,
    outbox: InsertOutbox,
    /// Prepared only if they have rows to write.
    life: Option<LifeStatements>,
}

impl Statements {
    async fn prepare(client: &ClientWrapper, rows: &Rows<'_>) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            payments: InsertPayments::prepare(client).await?,
            entries: InsertEntries::prepare(client).await?,
            opened: OpenAccounts::prepare(client).await?,
            balances: UpdateBalances::prepare(client).await?,
            dead_letters: InsertDeadLetters::prepare(client).await?,
            outbox: InsertOutbox::prepare(client).await?,
            life: Box::pin(LifeStatements::prepare(client, &rows.life)).await?,
        })
    }
}

pub struct Written<E> {
    pub proof: Proof,
    /// The id of the outbox row and its events, if there are any.
    pub outbox: Option<(i64, E)>,
    /// Number of waiting tasks that have become due.
    pub woken: u64,
}

/// Writes all rows and commits.
///
/// If a statement fails, PostgreSQL carries out the COMMIT behind it as a ROLLBACK and reports success for it. So the
/// result of each statement is checked.
///
/// `events` is called after the statements for the rows were sent: the events are serialized while PostgreSQL works.
pub async fn write_and_commit<E: Borrow<Events>>(
    client: &ClientWrapper,
    rows: &Rows<'_>,
    now: Timestamp,
    lease: Duration,
    limit: Duration,
    events: impl FnOnce() -> E,
) -> Result<Written<E>, StoreError> {
    let statements = timed(limit, Statements::prepare(client, rows)).await?.map_err(before_commit)?;
    let Statements { payments, entries, opened, balances, dead_letters, outbox: insert, life } = statements;
    // Boxed, as the future of a plain batch would be as large as theirs.
    let before = async {
        match &life {
            Some(life) => Box::pin(life.before(client, &rows.life, now)).await,
            None => Ok(()),
        }
    };
    let after = async {
        match &life {
            Some(life) => Box::pin(life.after(client, &rows.life, now)).await,
            None => Ok(0),
        }
    };
    let trip = async {
        // The order of this list is the order on the wire.
        futures_util::join!(
            before,
            payments.write(client, &rows.payments, now),
            entries.write(client, &rows.entries),
            opened.write(client, &rows.opened, now),
            balances.write(client, &rows.balances),
            after,
            dead_letters.write(client, &rows.dead_letters),
            outbox(client, &insert, rows.tells.then_some(events), lease),
            commit(client, rows.surely_write()),
        )
    };
    let (before, payments, entries, opened, balances, after, dead_letters, outbox, committed) =
        within(limit, trip).await?;
    before.map_err(around_commit)?;
    let written = [payments.map_err(around_commit)?, entries.map_err(around_commit)?];
    for checked in [opened, balances, dead_letters] {
        checked.map_err(around_commit)?;
    }
    let (woken, outbox) = (after.map_err(around_commit)?, outbox.map_err(around_commit)?);
    let proof = committed.map_err(around_commit)?;
    // An insert of n rows writes n rows or fails. Checked nevertheless, because it is money.
    if written != [rows.payments.len() as u64, rows.entries.len() as u64] {
        return Err(StoreError::Broken(format!("{written:?} rows of payments and entries were written")));
    }
    Ok(Written { proof, outbox, woken })
}

async fn outbox<E: Borrow<Events>>(
    client: &ClientWrapper,
    statement: &InsertOutbox,
    events: Option<impl FnOnce() -> E>,
    lease: Duration,
) -> Result<Option<(i64, E)>, tokio_postgres::Error> {
    let Some(events) = events.map(|tell| tell()).filter(|events| events.borrow().count != 0) else { return Ok(None) };
    let rows = statement.query(client, events.borrow(), lease).await?;
    Ok(rows.first().map(|row| (row.get("id"), events)))
}
