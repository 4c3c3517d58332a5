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

/// An entry, with the payment that made it.
#[derive(Clone, Debug, Serialize)]
pub struct HistoryEntry {
    /// The account's version after it.
    pub seq: i64,
    /// What it added, in minor units.
    pub amount: i64,
    /// The balance after it, in minor units.
    pub balance_after: i64,
    /// The payment's other account.
    pub counter_account: Option<String>,
    /// The payment.
    pub payment_id: Uuid,
    /// The publisher's reference.
    pub reference: Option<String>,
    /// When.
    pub settled_at: Option<Timestamp>,
}

const COLUMNS: &str = "name, status::text, currency, posted, held, min_balance, version, opened_at";

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

const HISTORY: &str = "
    SELECT e.seq, e.amount, e.balance_after, other.name, e.payment_id, p.reference, p.settled_at
      FROM entry e
      LEFT JOIN payment p ON p.id = e.payment_id
      LEFT JOIN account other
             ON other.id = CASE e.account WHEN p.debit_account THEN p.credit_account ELSE p.debit_account END
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
    }
}
