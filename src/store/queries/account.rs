//! Accounts and their histories.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::{GenericClient, Row};
use uuid::Uuid;

use super::Error;

/// An account as it is now. Amounts are in minor units.
#[derive(Clone, Debug, Serialize)]
pub struct Account {
    /// Its name.
    pub account: String,
    /// `open`, `frozen`, `closed`, or `unopened` for a name that was only mentioned.
    pub status: String,
    /// Its only currency; none before it is opened.
    pub currency: Option<String>,
    /// The sum of its entries.
    pub posted: i64,
    /// What is reserved of it.
    pub held: i64,
    /// `posted - held`: what the limit is held against.
    pub available: i64,
    /// The limit that `available` may not fall below; none is no limit.
    pub min_balance: Option<i64>,
    /// The limit that `posted` may not rise above; none is no limit.
    pub max_balance: Option<i64>,
    /// How far chargebacks have taken `available` below its limit.
    pub shortfall: i64,
    /// The number of its entries.
    pub version: i64,
    /// When.
    pub opened_at: Option<Timestamp>,
}

/// Which accounts to list, in the order of their names.
#[derive(Clone, Copy, Debug)]
pub struct AccountFilter<'a> {
    /// Only those in this currency.
    pub currency: Option<&'a str>,
    /// Also the names that nobody opened.
    pub unopened: bool,
    /// Only those behind this name.
    pub after: Option<&'a str>,
    /// At most this many.
    pub limit: i64,
}

/// What is reserved of an account for one leg of an authorization.
#[derive(Clone, Debug, Serialize)]
pub struct Hold {
    /// The authorization.
    pub payment_id: Uuid,
    /// Which of its legs, from 0.
    pub leg: i16,
    /// In minor units.
    pub amount: i64,
    /// When it is released, if it isn't captured or voided before.
    pub expires_at: Timestamp,
    /// The publisher's reference.
    pub reference: Option<String>,
}

/// What an account had posted at a moment.
#[derive(Clone, Debug, Serialize)]
pub struct BalanceAt {
    /// Whose.
    pub account: String,
    /// Its currency.
    pub currency: Option<String>,
    /// The moment, by the database's clock.
    pub at: Timestamp,
    /// The sum of the entries until then, in minor units.
    pub posted: i64,
    /// How many entries that is: the number of the last one.
    pub version: i64,
    /// The task that made the last one.
    pub payment_id: Option<Uuid>,
    /// When it was applied.
    pub settled_at: Option<Timestamp>,
}

/// An entry, with the task that made it.
#[derive(Clone, Debug, Serialize)]
pub struct HistoryEntry {
    /// The account's version after it.
    pub seq: i64,
    /// What it added, in minor units.
    pub amount: i64,
    /// The balance after it, in minor units.
    pub balance_after: i64,
    /// The other account of the movement.
    pub counter_account: Option<String>,
    /// The task that made it.
    pub payment_id: Uuid,
    /// The task's type.
    #[serde(rename = "type")]
    pub task_type: Option<String>,
    /// For which leg, from 0; none where there is no list of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leg: Option<i16>,
    /// The payment that the task acts on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<Uuid>,
    /// The publisher's reference.
    pub reference: Option<String>,
    /// When.
    pub settled_at: Option<Timestamp>,
}

const COLUMNS: &str =
    "name, status::text, currency, posted, held, min_balance, version, opened_at, max_balance, shortfall";

/// The account of that name.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn show(client: &impl GenericClient, name: &str) -> Result<Option<Account>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM account WHERE name = $1");
    Ok(client.query_opt(&sql, &[&name]).await?.as_ref().map(account))
}

/// The accounts that the filter lets through, by name.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn list(client: &impl GenericClient, filter: &AccountFilter<'_>) -> Result<Vec<Account>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM account
          WHERE name > coalesce($1, '') AND ($2::text IS NULL OR currency = $2) AND ($3 OR status <> 'unopened')
          ORDER BY name LIMIT $4"
    );
    let rows = client.query(&sql, &[&filter.after, &filter.currency, &filter.unopened, &filter.limit]).await?;
    Ok(rows.iter().map(account).collect())
}

// Live holds are few beside payments; they have no index by account.
const HOLDS: &str = "
    SELECT h.payment_id, h.leg, h.amount, h.expires_at, p.reference, count(*) OVER ()
      FROM hold h
      LEFT JOIN payment p ON p.id = h.payment_id
     WHERE h.account = (SELECT id FROM account WHERE name = $1)
     ORDER BY h.expires_at, h.payment_id, h.leg
     LIMIT $2";

/// What is held on an account, the first to run out first; and how many holds there are.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn holds(client: &impl GenericClient, name: &str, limit: i64) -> Result<(Vec<Hold>, i64), Error> {
    let rows = client.query(HOLDS, &[&name, &limit]).await?;
    let hold = |row: &Row| Hold {
        payment_id: row.get(0),
        leg: row.get(1),
        amount: row.get(2),
        expires_at: row.get(3),
        reference: row.get(4),
    };
    Ok((rows.iter().map(hold).collect(), rows.first().map_or(0, |row| row.get(5))))
}

// Entries have no time; each is of the moment in which its own task was applied. An account's
// tasks are applied one after the other, so that its entries can be searched by halves.
const BALANCE_AT: &str = "
    WITH RECURSIVE owner AS (
        SELECT id, name, currency, version FROM account WHERE name = $1
    ), search (low, high) AS (
        SELECT 0::bigint, version FROM owner
         UNION ALL
        SELECT CASE WHEN middle.settled_at <= $2 THEN middle.seq ELSE low END,
               CASE WHEN middle.settled_at <= $2 THEN high ELSE middle.seq - 1 END
          FROM search, LATERAL (
              SELECT e.seq, p.settled_at
                FROM entry e JOIN payment p ON p.id = e.payment_id
               WHERE e.account = (SELECT id FROM owner) AND e.seq = (low + high + 1) / 2
               LIMIT 1) AS middle
         WHERE low < high
    )
    SELECT owner.name, owner.currency, coalesce(e.balance_after, 0), search.low, e.payment_id, p.settled_at
      FROM search
      CROSS JOIN owner
      LEFT JOIN entry e ON e.account = owner.id AND e.seq = search.low
      LEFT JOIN payment p ON p.id = e.payment_id
     WHERE search.low = search.high";

/// What the account of that name had posted at a moment; `None` without the account, or where
/// entries are missing.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn balance_at(client: &impl GenericClient, name: &str, at: Timestamp) -> Result<Option<BalanceAt>, Error> {
    let row = client.query_opt(BALANCE_AT, &[&name, &at]).await?;
    Ok(row.map(|row| BalanceAt {
        account: row.get(0),
        currency: row.get(1),
        at,
        posted: row.get(2),
        version: row.get(3),
        payment_id: row.get(4),
        settled_at: row.get(5),
    }))
}

const HISTORY: &str = "
    SELECT e.seq, e.amount, e.balance_after, other.name, e.payment_id, p.reference, p.settled_at, p.type::text, l.leg,
           p.parent_id
      FROM entry e
      LEFT JOIN payment p ON p.id = e.payment_id
      LEFT JOIN leg l ON l.payment_id = e.payment_id AND p.legs IS NOT NULL
                     AND (l.debit_account = e.account AND l.debit_seq = e.seq
                          OR l.credit_account = e.account AND l.credit_seq = e.seq)
      LEFT JOIN account other
             ON other.id = CASE e.account WHEN coalesce(l.debit_account, p.debit_account)
                                          THEN coalesce(l.credit_account, p.credit_account)
                                          ELSE coalesce(l.debit_account, p.debit_account) END
     WHERE e.account = (SELECT id FROM account WHERE name = $1) AND e.seq < coalesce($2, 9223372036854775807)
     ORDER BY e.account DESC, e.seq DESC
     LIMIT $3";

/// The entries of an account, the newest first: those numbered below `before`, or all.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn history(
    client: &impl GenericClient,
    name: &str,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<HistoryEntry>, Error> {
    let rows = client.query(HISTORY, &[&name, &before, &limit]).await?;
    Ok(rows.iter().map(entry).collect())
}

fn account(row: &Row) -> Account {
    let (posted, held): (i64, i64) = (row.get(3), row.get(4));
    Account {
        account: row.get(0),
        status: row.get(1),
        currency: row.get(2),
        posted,
        held,
        available: posted.saturating_sub(held),
        min_balance: row.get(5),
        max_balance: row.get(8),
        shortfall: row.get(9),
        version: row.get(6),
        opened_at: row.get(7),
    }
}

fn entry(row: &Row) -> HistoryEntry {
    HistoryEntry {
        seq: row.get(0),
        amount: row.get(1),
        balance_after: row.get(2),
        counter_account: row.get(3),
        payment_id: row.get(4),
        reference: row.get(5),
        settled_at: row.get(6),
        task_type: row.get(7),
        leg: row.get(8),
        parent_id: row.get(9),
    }
}
