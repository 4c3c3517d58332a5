//! Does the ledger keep its promises? Every invariant, checked over every row, in one snapshot.
//!
//! A check reads the tables, never what the daemon believes. Each file under `audit/` is one
//! pass that yields a row per violation; together they also prove that settled transfers and
//! entries match one to one: each transfer has its two, and each entry is a side of one.

mod totals;

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, IsolationLevel, Transaction};

pub use self::totals::{CurrencyTotals, DeadLetterCount, OutboxTotals, PaymentCount, Totals};
use super::Error;
use crate::contract::{MAX_AMOUNT, MAX_BALANCE, Rejection};

/// How many violations of a check are shown.
const EXAMPLES: i64 = 10;

/// The checks: name, and what holds when it finds nothing.
const CHECKS: [(&str, &str); 17] = [
    ("payment_state", "every outcome is legal: settled, or rejected for a reason that has a name"),
    ("payment_entries", "a settled transfer has its two entries, -amount and +amount"),
    ("payment_sum", "the entries of a payment sum to zero"),
    ("payment_accounts", "a payment's accounts exist, and are opened if it settled"),
    ("payment_currency", "a settled payment has the currency of its accounts"),
    ("entry_payment", "every entry is a side of one settled transfer"),
    ("entry_chain", "every entry continues the balance before it"),
    ("account_exists", "every entry belongs to an account"),
    ("account_posted", "a balance is the sum of the account's entries"),
    ("account_last_balance", "a balance is the one after the account's last entry"),
    ("account_version", "an account's entries are numbered 1 to its version, without a gap"),
    ("account_limit", "no balance is or was below its limit, or beyond the largest"),
    ("account_held", "nothing is held without a payment that holds it"),
    ("account_status", "an account is open with a currency, or untouched"),
    ("account_opening", "an account was opened once, with the currency and limit it has"),
    ("currency_sum", "the balances of a currency sum to zero"),
    ("guards", "the database's own constraints and triggers are in force"),
];

/// One invariant, and how often it is broken.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Its stable name.
    pub name: &'static str,
    /// What holds when there is no violation.
    pub holds: &'static str,
    /// The number of violations.
    pub violations: i64,
    /// The first of them.
    pub examples: Vec<String>,
}

/// The verdict, and what it is about.
#[derive(Clone, Debug, Serialize)]
pub struct Audit {
    /// Whether no check found a violation.
    pub passed: bool,
    /// The moment of the snapshot, by the database's clock.
    pub at: Timestamp,
    /// All checks.
    pub checks: Vec<Check>,
    /// What the ledger holds.
    pub totals: Totals,
}

/// Audits the ledger, in one read-only snapshot; a running daemon is not held up.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn audit(client: &mut Client) -> Result<Audit, Error> {
    let snapshot =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
    // Whole tables are joined: the limits are those of a payment's transaction.
    snapshot.batch_execute("SET LOCAL statement_timeout = 0; SET LOCAL work_mem = '256MB'").await?;
    let at = snapshot.query_one("SELECT now()", &[]).await?.get(0);
    let mut checks: Vec<Check> =
        CHECKS.iter().map(|&(name, holds)| Check { name, holds, violations: 0, examples: Vec::new() }).collect();
    let reasons: Vec<&str> = Rejection::ALL.iter().map(|rejection| rejection.name()).collect();
    let passes: [(&str, &[&(dyn ToSql + Sync)]); 4] = [
        (include_str!("audit/payments.sql"), &[&reasons, &MAX_AMOUNT]),
        (include_str!("audit/entries.sql"), &[]),
        (include_str!("audit/accounts.sql"), &[&MAX_BALANCE]),
        (include_str!("audit/database.sql"), &[]),
    ];
    for (sql, parameters) in passes {
        violations(&snapshot, sql, parameters, &mut checks).await?;
    }
    let totals = Totals::read(&snapshot).await?;
    snapshot.commit().await?;
    Ok(Audit { passed: checks.iter().all(|check| check.violations == 0), at, checks, totals })
}

/// Runs one pass and adds what it finds to `checks`.
async fn violations(
    snapshot: &Transaction<'_>,
    pass: &str,
    parameters: &[&(dyn ToSql + Sync)],
    checks: &mut [Check],
) -> Result<(), Error> {
    let counted = format!(
        "SELECT name, count(*), array_agg(example ORDER BY nth) FILTER (WHERE nth <= {EXAMPLES})
           FROM (SELECT name, example, row_number() OVER (PARTITION BY name ORDER BY example) AS nth
                   FROM ({pass}) AS violation) AS numbered
          GROUP BY name"
    );
    for row in snapshot.query(&counted, parameters).await? {
        let name: &str = row.get(0);
        let check = checks.iter_mut().find(|check| check.name == name);
        debug_assert!(check.is_some(), "a pass yields the unknown check {name}");
        if let Some(check) = check {
            check.violations = row.get(1);
            check.examples = row.get(2);
        }
    }
    Ok(())
}
