//! The second round trip: all rows of a batch with set-based statements, and the commit.

use crate::error::{around_commit, before_commit};
use std::borrow::Borrow;
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use jiff::Timestamp;
use tokio_postgres::Row;

use super::commit::{commit, timed, within};
use super::events::{Events, Lines};
use super::life_statements::LifeStatements;
use super::rows::Rows;
use super::statements::{
    InsertDeadLetters, InsertEntries, InsertOutbox, InsertPayments, InsertStream, OpenAccounts, UpdateBalances,
};
use settled_pipeline::store::Proof;
use settled_pipeline::store::StoreError;

struct Statements {
    payments: InsertPayments,
    entries: InsertEntries,
    opened: OpenAccounts,
    balances: UpdateBalances,
    dead_letters: InsertDeadLetters,
    outbox: InsertOutbox,
    /// Prepared only if events go to a stream.
    stream: Option<InsertStream>,
    /// Prepared only if they have rows to write.
    life: Option<LifeStatements>,
}

impl Statements {
    async fn prepare(client: &ClientWrapper, rows: &Rows<'_>, has_stream: bool) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            payments: InsertPayments::prepare(client).await?,
            entries: InsertEntries::prepare(client).await?,
            opened: OpenAccounts::prepare(client).await?,
            balances: UpdateBalances::prepare(client).await?,
            dead_letters: InsertDeadLetters::prepare(client).await?,
            outbox: InsertOutbox::prepare(client).await?,
            stream: if has_stream { Some(InsertStream::prepare(client).await?) } else { None },
            life: Box::pin(LifeStatements::prepare(client, &rows.life)).await?,
        })
    }
}

/// Where what a batch tells is written.
#[derive(Clone, Copy, Debug)]
pub struct Outboxes {
    /// How long this process has the outbox row for itself.
    pub lease: Duration,
    /// Whether events go to a stream.
    pub has_stream: bool,
}

pub struct Written<E> {
    pub proof: Proof,
    /// What the batch tells, if it tells anything.
    pub events: Option<E>,
    /// The id of the outbox row, if there is one.
    pub outbox: Option<i64>,
    /// The id of the stream's row, if there is one.
    pub stream: Option<i64>,
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
    outboxes: Outboxes,
    limit: Duration,
    events: impl FnOnce() -> E,
) -> Result<Written<E>, StoreError> {
    let statements =
        timed(limit, Statements::prepare(client, rows, outboxes.has_stream)).await?.map_err(before_commit)?;
    let Statements { payments, entries, opened, balances, dead_letters, outbox, stream, life } = statements;
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
    // The order of these lists is the order on the wire: all of the first one are queued before the second one goes on.
    let written = async {
        futures_util::join!(
            before,
            payments.write(client, &rows.payments, now),
            entries.write(client, &rows.entries),
            opened.write(client, &rows.opened, now),
            balances.write(client, &rows.balances),
            after,
            dead_letters.write(client, &rows.dead_letters),
        )
    };
    let ended = async {
        // Lets the connection's task send the rows, so that PostgreSQL writes them while the events are serialized.
        tokio::task::yield_now().await;
        futures_util::join!(
            tell(client, (&outbox, stream.as_ref()), rows.tells.then_some(events), outboxes.lease),
            commit(client, rows.surely_write()),
        )
    };
    let trip = async { futures_util::join!(written, ended) };
    let ((before, payments, entries, opened, balances, after, dead_letters), (told, committed)) =
        within(limit, trip).await?;
    before.map_err(around_commit)?;
    let written = [payments.map_err(around_commit)?, entries.map_err(around_commit)?];
    for checked in [opened, balances, dead_letters] {
        checked.map_err(around_commit)?;
    }
    let (woken, (events, outbox, stream)) = (after.map_err(around_commit)?, told.map_err(around_commit)?);
    let proof = committed.map_err(around_commit)?;
    // An insert of n rows writes n rows or fails. Checked nevertheless, because it is money.
    if written != [rows.payments.len() as u64, rows.entries.len() as u64] {
        return Err(StoreError::Broken(format!("{written:?} rows of payments and entries were written")));
    }
    Ok(Written { proof, events, outbox, stream, woken })
}

/// What the batch tells, and the ids of the rows that have it: of the outbox and of the stream.
type Told<E> = (Option<E>, Option<i64>, Option<i64>);

async fn tell<E: Borrow<Events>>(
    client: &ClientWrapper,
    (outbox, stream): (&InsertOutbox, Option<&InsertStream>),
    events: Option<impl FnOnce() -> E>,
    lease: Duration,
) -> Result<Told<E>, tokio_postgres::Error> {
    let Some(events) = events.map(|tell| tell()) else { return Ok((None, None, None)) };
    let told: &Events = events.borrow();
    let some = |lines: &&Lines| lines.count != 0;
    let (outbox, stream) = futures_util::join!(
        async {
            match Some(&told.outbox).filter(some) {
                Some(lines) => outbox.query(client, lines, lease).await.map(id),
                None => Ok(None),
            }
        },
        async {
            match stream.zip(told.stream.as_ref().filter(some)) {
                Some((stream, lines)) => stream.query(client, lines).await.map(id),
                None => Ok(None),
            }
        },
    );
    Ok((Some(events), outbox?, stream?))
}

fn id(inserted: Vec<Row>) -> Option<i64> {
    inserted.first().map(|row| row.get("id"))
}
