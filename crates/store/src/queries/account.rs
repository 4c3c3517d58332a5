//! Accounts, their holds and their histories.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::{GenericClient, Row};
use uuid::Uuid;

use super::Error;
use crate::sql::{named, row};

/// An account. Amounts are in minor units.
#[derive(Clone, Debug, Serialize)]
pub struct Account {
    pub account: String,
    /// `open`, `frozen`, `closed`, or `unopened` for a name that tasks have mentioned only.
    pub status: String,
    /// `None` before the account is opened.
    pub currency: Option<String>,
    /// The sum of its entries.
    pub posted: i64,
    /// The sum of its holds.
    pub held: i64,
    /// `posted - held`
    pub available: i64,
    /// Lower limit of `available`.
    pub min_balance: Option<i64>,
    /// Upper limit of `posted`.
    pub max_balance: Option<i64>,
    /// How far chargebacks have taken `available` below `min_balance`.
    pub shortfall: i64,
    /// Number of its entries.
    pub version: i64,
    pub opened_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug)]
pub struct AccountFilter<'a> {
    pub currency: Option<&'a str>,
    /// Also names that were never opened.
    pub unopened: bool,
    /// Only those whose names come after this one.
    pub after: Option<&'a str>,
    pub limit: i64,
}

row! {
    /// A hold on an account for one leg of an authorization.
    #[derive(Clone, Debug, Serialize)]
    pub struct Hold {
        pub payment_id: Uuid,
        /// Index of the leg, from 0.
        pub leg: i16,
        /// In minor units.
        pub amount: i64,
        /// When it is released unless it is captured or voided before.
        pub expires_at: Timestamp,
        pub reference: Option<String>,
    }
}

/// The posted balance of an account at some time.
#[derive(Clone, Debug, Serialize)]
pub struct BalanceAt {
    pub account: String,
    pub currency: Option<String>,
    /// The time, by the database's clock.
    pub at: Timestamp,
    /// The sum of the entries until then, in minor units.
    pub posted: i64,
    /// Number of the last of these entries.
    pub version: i64,
    /// The task of the last entry.
    pub payment_id: Option<Uuid>,
    pub settled_at: Option<Timestamp>,
}

row! {
    /// An entry and its task.
    #[derive(Clone, Debug, Serialize)]
    pub struct HistoryEntry {
        /// The account's version after it.
        pub seq: i64,
        /// The amount that was added, in minor units.
        pub amount: i64,
        /// The balance after it, in minor units.
        pub balance_after: i64,
        /// The other account of the movement.
        pub counter_account: Option<String>,
        pub payment_id: Uuid,
        #[serde(rename = "type")]
        pub task_type: Option<String> = "type",
        /// Index of the leg, from 0; `None` if the payment has no list of legs.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub leg: Option<i16>,
        /// The payment that the task acts on.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub parent_id: Option<Uuid>,
        pub reference: Option<String>,
        pub settled_at: Option<Timestamp>,
    }
}

macro_rules! columns {
    () => {
        "name, status::text, currency, posted, held, min_balance, version, opened_at, max_balance, shortfall"
    };
}

/// Returns the account with that name.
pub async fn show(client: &impl GenericClient, name: &str) -> Result<Option<Account>, Error> {
    let row =
        named!(client.query_opt(concat!("SELECT ", columns!(), " FROM account WHERE name = {name}"), name = name));
    Ok(row?.as_ref().map(account))
}

/// Returns the selected accounts in the order of their names.
pub async fn list(client: &impl GenericClient, filter: &AccountFilter<'_>) -> Result<Vec<Account>, Error> {
    let rows = named!(client.query(
        concat!(
            "SELECT ",
            columns!(),
            " FROM account
               WHERE name > coalesce({after}, '') AND ({currency}::text IS NULL OR currency = {currency})
                 AND ({unopened} OR status <> 'unopened')
               ORDER BY name LIMIT {limit}"
        ),
        after = filter.after,
        currency = filter.currency,
        unopened = filter.unopened,
        limit = filter.limit,
    ));
    Ok(rows?.iter().map(account).collect())
}

// There are few holds beside the payments, so they have no index by account.
const HOLDS: &str = "
    SELECT h.payment_id, h.leg, h.amount, h.expires_at, p.reference, count(*) OVER () AS found
      FROM hold h
      LEFT JOIN payment p ON p.id = h.payment_id
     WHERE h.account = (SELECT id FROM account WHERE name = {name})
     ORDER BY h.expires_at, h.payment_id, h.leg
     LIMIT {limit}";

/// Returns the holds on an account in the order in which they run out, at most `limit`, and the number of all.
pub async fn holds(client: &impl GenericClient, name: &str, limit: i64) -> Result<(Vec<Hold>, i64), Error> {
    let rows = named!(client.query(HOLDS, name = name, limit = limit))?;
    Ok((rows.iter().map(Hold::from).collect(), rows.first().map_or(0, |row| row.get("found"))))
}

// The time of an entry is that of its task. The tasks of an account are applied one after the other, so its entries can
// be searched by bisection.
const BALANCE_AT: &str = "
    WITH RECURSIVE owner AS (
        SELECT id, name, currency, version FROM account WHERE name = {name}
    ), search (low, high) AS (
        SELECT 0::bigint, version FROM owner
         UNION ALL
        SELECT CASE WHEN middle.settled_at <= {at} THEN middle.seq ELSE low END,
               CASE WHEN middle.settled_at <= {at} THEN high ELSE middle.seq - 1 END
          FROM search, LATERAL (
              SELECT e.seq, p.settled_at
                FROM entry e JOIN payment p ON p.id = e.payment_id
               WHERE e.account = (SELECT id FROM owner) AND e.seq = (low + high + 1) / 2
               LIMIT 1) AS middle
         WHERE low < high
    )
    SELECT owner.name, owner.currency, coalesce(e.balance_after, 0) AS posted, search.low AS version, e.payment_id, p.settled_at
      FROM search
      CROSS JOIN owner
      LEFT JOIN entry e ON e.account = owner.id AND e.seq = search.low
      LEFT JOIN payment p ON p.id = e.payment_id
     WHERE search.low = search.high";

/// Returns the balance of an account at some time, or `None` if there is no such account or entries are missing.
pub async fn balance_at(client: &impl GenericClient, name: &str, at: Timestamp) -> Result<Option<BalanceAt>, Error> {
    let row = named!(client.query_opt(BALANCE_AT, name = name, at = at))?;
    Ok(row.map(|row| BalanceAt {
        account: row.get("name"),
        currency: row.get("currency"),
        at,
        posted: row.get("posted"),
        version: row.get("version"),
        payment_id: row.get("payment_id"),
        settled_at: row.get("settled_at"),
    }))
}

const HISTORY: &str = "
    SELECT e.seq, e.amount, e.balance_after, other.name AS counter_account, e.payment_id, p.reference, p.settled_at, p.type::text, l.leg,
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
     WHERE e.account = (SELECT id FROM account WHERE name = {name})
       AND e.seq < coalesce({before}, 9223372036854775807)
     ORDER BY e.account DESC, e.seq DESC
     LIMIT {limit}";

/// Returns the entries of an account with numbers below `before`, the newest first, at most `limit`.
pub async fn history(
    client: &impl GenericClient,
    name: &str,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<HistoryEntry>, Error> {
    let rows = named!(client.query(HISTORY, name = name, before = before, limit = limit))?;
    Ok(rows.iter().map(HistoryEntry::from).collect())
}

fn account(row: &Row) -> Account {
    let (posted, held): (i64, i64) = (row.get("posted"), row.get("held"));
    Account {
        account: row.get("name"),
        status: row.get("status"),
        currency: row.get("currency"),
        posted,
        held,
        available: posted.saturating_sub(held),
        min_balance: row.get("min_balance"),
        max_balance: row.get("max_balance"),
        shortfall: row.get("shortfall"),
        version: row.get("version"),
        opened_at: row.get("opened_at"),
    }
}
