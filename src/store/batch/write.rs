//! The second round trip: all rows of a batch with set-based statements, and the commit.

use std::borrow::Borrow;
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use jiff::Timestamp;
use tokio_postgres::Statement;
use uuid::Uuid;

use super::super::StoreError;
use super::column::Column;
use super::commit::{Proof, commit, within};
use super::events::Events;
use super::life::{self, Life};
use super::timed;
use crate::contract::{Currency, DeadReason, Message, Reply};

/// Another instance that committed the same id first shows as a violation of the key.
const PAYMENTS: &str = "
    INSERT INTO payment (id, debit_account, credit_account, amount, min_balance, debit_seq, credit_seq, received_at,
                         settled_at, type, state, currency, fingerprint, reason, publisher, reference, metadata)
    SELECT id, debit, credit, amount, min_balance, debit_seq, credit_seq, received_at,
           $16::timestamptz, type::task_type, state::payment_state, currency, fingerprint, reason, publisher, reference,
           metadata::jsonb
      FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                  $8::timestamptz[], $9::text[], $10::text[], $11::text[], $12::bytea[], $13::text[], $14::text[],
                  $15::text[], $17::text[])
        AS p(id, debit, credit, amount, min_balance, debit_seq, credit_seq, received_at, type, state, currency,
             fingerprint, reason, publisher, reference, metadata)";

const ENTRIES: &str = "
    INSERT INTO entry (account, seq, amount, balance_after, payment_id)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::uuid[])";

const OPENED: &str = "
    WITH written AS (
        UPDATE account a SET status = 'open', currency = o.currency, min_balance = o.min_balance, opened_at = $4::timestamptz
          FROM unnest($1::bigint[], $2::text[], $3::bigint[]) AS o(id, currency, min_balance)
         WHERE a.id = o.id AND a.status = 'unopened' RETURNING 1)
    SELECT expect_rows('accounts opened', (SELECT count(*) FROM written), cardinality($1::bigint[]))";

const BALANCES: &str = "
    WITH written AS (
        UPDATE account a SET posted = b.posted, version = b.version
          FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS b(id, posted, version, was)
         WHERE a.id = b.id AND a.version = b.was RETURNING 1)
    SELECT expect_rows('balances', (SELECT count(*) FROM written), cardinality($1::bigint[]))";

/// A redelivery is another attempt on the same row, and opens it again.
const DEAD_LETTERS: &str = "
    INSERT INTO dead_letter (digest, task_id, reason, field, detail, body, properties, attempts, first_seen, last_seen)
    SELECT digest, task_id, reason, field, detail, body, properties::jsonb, attempts, seen, seen
      FROM unnest($1::bytea[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::text[], $8::int[],
                  $9::timestamptz[])
        AS d(digest, task_id, reason, field, detail, body, properties, attempts, seen)
     ORDER BY digest
    ON CONFLICT (digest) DO UPDATE
       SET attempts = dead_letter.attempts + excluded.attempts, last_seen = excluded.last_seen,
           resolution = NULL, resolved_at = NULL";

const OUTBOX: &str = "
    INSERT INTO outbox (leased_until, events, body)
    VALUES (clock_timestamp() + make_interval(secs => $1), $2, $3) RETURNING id";

pub(super) struct PaymentRow<'a> {
    pub(super) id: Uuid,
    pub(super) debit: i64,
    pub(super) credit: Option<i64>,
    pub(super) amount: Option<i64>,
    pub(super) min_balance: Option<i64>,
    pub(super) debit_seq: Option<i64>,
    pub(super) credit_seq: Option<i64>,
    pub(super) received_at: Timestamp,
    pub(super) task_type: &'static str,
    pub(super) state: &'static str,
    pub(super) currency: Currency,
    pub(super) fingerprint: [u8; 16],
    pub(super) reason: Option<&'static str>,
    pub(super) publisher: Option<&'a str>,
    pub(super) reference: Option<&'a str>,
    pub(super) metadata: Option<&'a str>,
}

pub(super) struct EntryRow {
    pub(super) account: i64,
    pub(super) seq: i64,
    pub(super) amount: i64,
    pub(super) balance_after: i64,
    pub(super) payment: Uuid,
}

pub(super) struct OpenedRow {
    pub(super) account: i64,
    pub(super) currency: Currency,
    pub(super) min_balance: Option<i64>,
}

pub(super) struct BalanceRow {
    pub(super) account: i64,
    pub(super) posted: i64,
    pub(super) version: i64,
    pub(super) version_before: i64,
}

pub(super) struct DeadLetterRow<'a> {
    pub(super) digest: [u8; 32],
    pub(super) task_id: Option<Uuid>,
    pub(super) reason: DeadReason,
    pub(super) field: Option<String>,
    pub(super) detail: String,
    pub(super) body: &'a [u8],
    pub(super) properties: String,
    /// The deliveries in this batch, each one an attempt.
    pub(super) messages: Vec<&'a Message>,
    pub(super) seen: Timestamp,
}

impl<'a> DeadLetterRow<'a> {
    /// The deliveries that ask for a reply and may get one.
    pub(super) fn asked(&self) -> impl Iterator<Item = (&'a Message, Reply<'a>)> {
        self.messages.iter().filter(|message| message.is_answerable).filter_map(|message| {
            let properties = &message.properties;
            let reply_to = properties.reply_to.as_deref()?;
            Some((*message, Reply { reply_to, correlation_id: properties.correlation_id.as_deref() }))
        })
    }
}

/// All rows of a batch.
#[derive(Default)]
pub(super) struct Rows<'a> {
    pub(super) payments: Vec<PaymentRow<'a>>,
    pub(super) entries: Vec<EntryRow>,
    pub(super) opened: Vec<OpenedRow>,
    pub(super) balances: Vec<BalanceRow>,
    pub(super) dead_letters: Vec<DeadLetterRow<'a>>,
    pub(super) life: Life<'a>,
    /// Whether there are events.
    pub(super) tells: bool,
}

impl Rows<'_> {
    pub(super) const fn is_empty(&self) -> bool {
        self.payments.is_empty() && self.dead_letters.is_empty() && self.life.is_empty() && !self.tells
    }

    /// Whether a row is written for certain: the statements for what waits may find nothing to change.
    const fn surely_write(&self) -> bool {
        !(self.payments.is_empty() && self.dead_letters.is_empty() && self.life.tasks.is_empty())
    }
}

struct Statements {
    payments: Statement,
    entries: Statement,
    opened: Statement,
    balances: Statement,
    dead_letters: Statement,
    outbox: Statement,
    /// Only where there is something for them to write.
    life: Option<life::Statements>,
}

impl Statements {
    async fn prepare(client: &ClientWrapper, rows: &Rows<'_>) -> Result<Self, tokio_postgres::Error> {
        let life = if rows.life.is_empty() { None } else { Some(life::Statements::prepare(client).await?) };
        Ok(Self {
            life,
            payments: client.prepare_cached(PAYMENTS).await?,
            entries: client.prepare_cached(ENTRIES).await?,
            opened: client.prepare_cached(OPENED).await?,
            balances: client.prepare_cached(BALANCES).await?,
            dead_letters: client.prepare_cached(DEAD_LETTERS).await?,
            outbox: client.prepare_cached(OUTBOX).await?,
        })
    }
}

/// What was committed.
pub(super) struct Written<E> {
    pub(super) proof: Proof,
    /// The outbox row, if there is one.
    pub(super) outbox: Option<(i64, E)>,
    /// How many waiting tasks were woken.
    pub(super) woken: u64,
}

/// Writes all rows and commits.
///
/// A statement that fails turns the COMMIT behind it into a ROLLBACK, which PostgreSQL doesn't
/// call an error: so each result is looked at.
///
/// `events` is asked when the rows are on their way already.
pub(super) async fn write_and_commit<E: Borrow<Events>>(
    client: &ClientWrapper,
    rows: &Rows<'_>,
    now: Timestamp,
    lease: Duration,
    limit: Duration,
    events: impl FnOnce() -> E,
) -> Result<Written<E>, StoreError> {
    let prepared = timed(limit, Statements::prepare(client, rows)).await?;
    let statements = prepared.map_err(|error| StoreError::before_commit(&error))?;
    let trip = async {
        // The order of this list is the order on the wire.
        futures_util::join!(
            life::before(client, statements.life.as_ref(), &rows.life, now),
            payments(client, &statements.payments, &rows.payments, now),
            entries(client, &statements.entries, &rows.entries),
            opened(client, &statements.opened, &rows.opened, now),
            balances(client, &statements.balances, &rows.balances),
            life::after(client, statements.life.as_ref(), &rows.life, now),
            dead_letters(client, &statements.dead_letters, &rows.dead_letters),
            outbox(client, &statements.outbox, rows.tells.then_some(events), lease),
            commit(client, rows.surely_write()),
        )
    };
    let (before, payments, entries, opened, balances, after, dead_letters, outbox, committed) =
        within(limit, trip).await?;
    let failed = |error: tokio_postgres::Error| StoreError::around_commit(&error);
    before.map_err(failed)?;
    let written = [payments.map_err(failed)?, entries.map_err(failed)?];
    for checked in [opened, balances, dead_letters] {
        checked.map_err(failed)?;
    }
    let (woken, outbox) = (after.map_err(failed)?, outbox.map_err(failed)?);
    let proof = committed.map_err(failed)?;
    // An insert of n rows writes n or fails; should it ever not, money is at stake.
    if written != [rows.payments.len() as u64, rows.entries.len() as u64] {
        return Err(StoreError::Broken(format!("{written:?} rows of payments and entries were written")));
    }
    Ok(Written { proof, outbox, woken })
}

type Count = Result<u64, tokio_postgres::Error>;

async fn payments(client: &ClientWrapper, statement: &Statement, rows: &[PaymentRow<'_>], now: Timestamp) -> Count {
    if rows.is_empty() {
        return Ok(0);
    }
    client
        .execute(
            statement,
            &[
                &Column::new(rows, |row| row.id),
                &Column::new(rows, |row| row.debit),
                &Column::new(rows, |row| row.credit),
                &Column::new(rows, |row| row.amount),
                &Column::new(rows, |row| row.min_balance),
                &Column::new(rows, |row| row.debit_seq),
                &Column::new(rows, |row| row.credit_seq),
                &Column::new(rows, |row| row.received_at),
                &Column::new(rows, |row| row.task_type),
                &Column::new(rows, |row| row.state),
                &Column::new(rows, |row| row.currency.as_str()),
                &Column::new(rows, |row| row.fingerprint.as_slice()),
                &Column::new(rows, |row| row.reason),
                &Column::new(rows, |row| row.publisher),
                &Column::new(rows, |row| row.reference),
                &now,
                &Column::new(rows, |row| row.metadata),
            ],
        )
        .await
}

async fn entries(client: &ClientWrapper, statement: &Statement, rows: &[EntryRow]) -> Count {
    if rows.is_empty() {
        return Ok(0);
    }
    client
        .execute(
            statement,
            &[
                &Column::new(rows, |row| row.account),
                &Column::new(rows, |row| row.seq),
                &Column::new(rows, |row| row.amount),
                &Column::new(rows, |row| row.balance_after),
                &Column::new(rows, |row| row.payment),
            ],
        )
        .await
}

async fn opened(client: &ClientWrapper, statement: &Statement, rows: &[OpenedRow], now: Timestamp) -> Count {
    if rows.is_empty() {
        return Ok(0);
    }
    let accounts = Column::new(rows, |row| row.account);
    let currencies = Column::new(rows, |row| row.currency.as_str());
    let limits = Column::new(rows, |row| row.min_balance);
    client.execute(statement, &[&accounts, &currencies, &limits, &now]).await
}

async fn balances(client: &ClientWrapper, statement: &Statement, rows: &[BalanceRow]) -> Count {
    if rows.is_empty() {
        return Ok(0);
    }
    let accounts = Column::new(rows, |row| row.account);
    let posted = Column::new(rows, |row| row.posted);
    let versions = Column::new(rows, |row| row.version);
    let versions_before = Column::new(rows, |row| row.version_before);
    client.execute(statement, &[&accounts, &posted, &versions, &versions_before]).await
}

async fn dead_letters(client: &ClientWrapper, statement: &Statement, rows: &[DeadLetterRow<'_>]) -> Count {
    if rows.is_empty() {
        return Ok(0);
    }
    client
        .execute(
            statement,
            &[
                &Column::new(rows, |row| row.digest.as_slice()),
                &Column::new(rows, |row| row.task_id),
                &Column::new(rows, |row| row.reason.name()),
                &Column::new(rows, |row| row.field.as_deref()),
                &Column::new(rows, |row| row.detail.as_str()),
                &Column::new(rows, |row| row.body),
                &Column::new(rows, |row| row.properties.as_str()),
                &Column::new(rows, |row| i32::try_from(row.messages.len()).unwrap_or(i32::MAX)),
                &Column::new(rows, |row| row.seen),
            ],
        )
        .await
}

async fn outbox<E: Borrow<Events>>(
    client: &ClientWrapper,
    statement: &Statement,
    events: Option<impl FnOnce() -> E>,
    lease: Duration,
) -> Result<Option<(i64, E)>, tokio_postgres::Error> {
    let Some(events) = events.map(|tell| tell()) else { return Ok(None) };
    let Events { body, count } = events.borrow();
    if *count == 0 {
        return Ok(None);
    }
    let row = client.query_one(statement, &[&lease.as_secs_f64(), count, &body.as_slice()]).await?;
    let id = row.get(0);
    Ok(Some((id, events)))
}
