//! Does the ledger keep its promises? Every invariant, checked over every row, in one snapshot.
//!
//! A check reads the tables, never what the daemon believes. Each file under `audit/` is one
//! pass that yields a row per violation; together they also prove that what was moved and the
//! entries match one to one: each movement has its two, and each entry is a side of one.

mod totals;

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, IsolationLevel, Transaction};

pub use self::totals::{CurrencyTotals, DeadLetterCount, OutboxTotals, PaymentCount, Totals};
use super::super::server;
use super::Error;
use crate::contract::{MAX_AMOUNT, MAX_BALANCE, Rejection};
use crate::ledger::state;

/// How many violations of a check are shown.
const EXAMPLES: usize = 10;

/// The checks: name, and what holds when it finds nothing.
const CHECKS: [(&str, &str); 33] = [
    ("payment_state", "every task is in a state that its type can have, rejected for a reason that has a name"),
    ("payment_shape", "every task has the accounts, amounts and keys that its type has"),
    ("payment_entries", "what has moved money has its two entries, -amount and +amount; of a list, each leg"),
    ("payment_sum", "the entries of a payment sum to zero"),
    ("payment_accounts", "a payment's accounts exist, and are opened if it was applied"),
    ("payment_currency", "a payment that was applied has the currency of its accounts"),
    ("payment_legs", "a payment has the legs that it says it has"),
    (
        "payment_captured",
        "captured, refunded and charged back are the sums of the follow-ups, and never more than there was",
    ),
    ("payment_progress", "a payment's state is the one that its amounts say"),
    ("payment_transitions", "a payment came to its state by transitions, one a version, without a gap"),
    ("transition_legal", "every transition is one of the state table's"),
    ("transition_cause", "every transition was made by a task that can, and every follow-up that settled made one"),
    ("follow_up_parent", "what a follow-up moved goes between its payment's accounts"),
    ("hold_payment", "what is held is what a payment still holds, and the other way round"),
    ("agenda_task", "every task that waits is on the agenda, and nothing else is"),
    ("entry_payment", "every entry is a side of what one task moved"),
    ("entry_chain", "every entry continues the balance before it"),
    ("account_exists", "every entry and every hold belongs to an account"),
    ("account_posted", "a balance is the sum of the account's entries"),
    ("account_last_balance", "a balance is the one after the account's last entry"),
    ("account_version", "an account's entries are numbered 1 to its version, without a gap"),
    ("account_limit", "no balance is beyond its limits, or was when they were never changed"),
    ("account_shortfall", "only chargebacks take a balance below its limit, and the account says how far"),
    ("account_held", "what an account holds is the sum of its holds"),
    ("account_status", "an account is unopened, open, frozen or closed as the tasks about it left it"),
    ("account_opening", "an account was opened once, with the currency it has"),
    ("account_terms", "an account's limits are those that it was given last"),
    ("currency_sum", "the balances of a currency sum to zero"),
    ("account_name", "no two accounts have the same name"),
    ("text_keys", "indexes on text find every row, in an order that no update of the system changes"),
    ("sequences", "no sequence gives out a key that is there already"),
    ("durability", "the server has every commit on its disk before it acknowledges it"),
    ("guards", "the database's own constraints, triggers and indexes are in force"),
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
    let (from, to): (Vec<&str>, Vec<&str>) =
        state::transitions().into_iter().map(|(from, to)| (from.name(), to.name())).unzip();
    let passes: [(&str, &[&(dyn ToSql + Sync)]); 8] = [
        (include_str!("audit/payments.sql"), &[&reasons, &MAX_AMOUNT]),
        (include_str!("audit/legs.sql"), &[&MAX_AMOUNT]),
        (include_str!("audit/follow_ups.sql"), &[]),
        (include_str!("audit/transitions.sql"), &[&from, &to]),
        (include_str!("audit/waiting.sql"), &[]),
        (include_str!("audit/entries.sql"), &[]),
        (include_str!("audit/accounts.sql"), &[&MAX_BALANCE]),
        (include_str!("audit/database.sql"), &[]),
    ];
    for (sql, parameters) in passes {
        violations(&snapshot, sql, parameters, &mut checks).await?;
    }
    snapshot.batch_execute("SET LOCAL enable_seqscan = off").await?;
    violations(&snapshot, include_str!("audit/keys.sql"), &[], &mut checks).await?;
    snapshot.batch_execute("SET LOCAL enable_seqscan = on").await?;
    for (name, found) in
        [("sequences", server::sequences(&snapshot).await?), ("durability", server::durability(&snapshot).await?)]
    {
        for example in found {
            add(&mut checks, name, 1, vec![example]);
        }
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
        add(checks, row.get(0), row.get(1), row.get(2));
    }
    Ok(())
}

/// Adds what a pass has found. Payments and their legs are two passes over the same checks.
fn add(checks: &mut [Check], name: &str, violations: i64, examples: Vec<String>) {
    let check = checks.iter_mut().find(|check| check.name == name);
    debug_assert!(check.is_some(), "a pass yields the unknown check {name}");
    if let Some(check) = check {
        check.violations += violations;
        check.examples.extend(examples);
        check.examples.truncate(EXAMPLES);
    }
}
