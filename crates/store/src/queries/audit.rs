//! The audit: every invariant of the ledger, checked over all rows in one snapshot.
//!
//! It reads only the tables, never the daemon's state. Each file under `audit/` is one pass, which returns a row for
//! each violation. Together they prove that movements and entries match: each movement has two entries, and each entry
//! belongs to one movement.
//!
//! It writes nothing, so it can run on a standby. It can be had in parts: [`Part`].

mod part;
mod totals;

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, IsolationLevel, Transaction};

pub use self::part::Part;
pub use self::totals::{CurrencyTotals, DeadLetterCount, OutboxTotals, PaymentCount, Totals};
use super::super::server;
use super::Error;
use settled_core::contract::{MAX_AMOUNT, MAX_BALANCE, Rejection};
use settled_core::ledger::state;

/// Number of violations of a check that are shown.
const EXAMPLES: usize = 10;

/// The checks: the name, and the invariant.
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

/// An invariant and its violations.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    pub name: &'static str,
    /// The invariant, in words.
    pub holds: &'static str,
    pub violations: i64,
    pub examples: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Audit {
    /// True if there is no violation.
    pub passed: bool,
    /// When the snapshot was taken.
    pub at: Timestamp,
    /// On a standby: the last commit of the primary that it has replayed, if there was one since its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replayed_until: Option<Timestamp>,
    pub is_standby: bool,
    /// Which part of the ledger was checked.
    #[serde(skip_serializing_if = "Part::is_whole")]
    pub part: Part,
    pub checks: Vec<Check>,
    /// Those of the whole ledger, with the first part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub totals: Option<Totals>,
}

/// A query that returns violations, and its parameters.
type Pass<'a> = (&'static str, &'static str, &'a [&'a (dyn ToSql + Sync)]);

/// The number of times that [`audit_part`] says that it has come further.
pub const STEPS: u64 = 10;

/// Audits the ledger in a read-only snapshot. A running daemon is not blocked.
pub async fn audit(client: &mut Client) -> Result<Audit, Error> {
    audit_part(client, Part::WHOLE, |_| ()).await
}

/// Audits a part of the ledger in a read-only snapshot of its own. What is about the whole ledger goes with the first
/// part. Calls `next` with the name of each step before it begins.
pub async fn audit_part(client: &mut Client, part: Part, mut next: impl FnMut(&'static str)) -> Result<Audit, Error> {
    let snapshot =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
    // Whole tables are joined; the usual limits are made for payments. The server looks whether the command is still
    // there, and ends the query of one that was interrupted.
    snapshot
        .batch_execute(
            "SET LOCAL statement_timeout = 0; SET LOCAL work_mem = '256MB';
             SET LOCAL client_connection_check_interval = '2s'",
        )
        .await?;
    let moment = "SELECT now() AS at, pg_is_in_recovery() AS is_standby, pg_last_xact_replay_timestamp() AS replayed";
    let moment = snapshot.query_one(moment, &[]).await?;
    let mut checks: Vec<Check> =
        CHECKS.iter().map(|&(name, holds)| Check { name, holds, violations: 0, examples: Vec::new() }).collect();
    let reasons: Vec<&str> = Rejection::ALL.iter().map(|rejection| rejection.name()).collect();
    let (from, to): (Vec<&str>, Vec<&str>) =
        state::transitions().into_iter().map(|(from, to)| (from.name(), to.name())).unzip();
    let passes: [Pass; 7] = [
        ("payments", include_str!("audit/payments.sql"), &[&reasons, &MAX_AMOUNT]),
        ("legs", include_str!("audit/legs.sql"), &[&MAX_AMOUNT]),
        ("follow-ups", include_str!("audit/follow_ups.sql"), &[]),
        ("transitions", include_str!("audit/transitions.sql"), &[&from, &to]),
        ("waiting", include_str!("audit/waiting.sql"), &[]),
        ("entries", include_str!("audit/entries.sql"), &[]),
        ("accounts", include_str!("audit/accounts.sql"), &[&MAX_BALANCE]),
    ];
    for (name, sql, parameters) in passes {
        next(name);
        violations(&snapshot, &part.restrict(sql), parameters, &mut checks).await?;
    }
    let totals = if part.is_first() { Some(whole(&snapshot, &mut checks, &mut next).await?) } else { None };
    let audit = Audit {
        passed: checks.iter().all(|check| check.violations == 0),
        at: moment.get("at"),
        replayed_until: moment.get("replayed"),
        is_standby: moment.get("is_standby"),
        part,
        checks,
        totals,
    };
    snapshot.commit().await?;
    Ok(audit)
}

/// Checks what is about the ledger as a whole.
async fn whole(
    snapshot: &Transaction<'_>,
    checks: &mut [Check],
    next: &mut impl FnMut(&'static str),
) -> Result<Totals, Error> {
    next("database");
    violations(snapshot, include_str!("audit/database.sql"), &[], checks).await?;
    for (name, found) in
        [("sequences", server::sequences(snapshot).await?), ("durability", server::durability(snapshot).await?)]
    {
        for example in found {
            add(checks, name, 1, vec![example]);
        }
    }
    next("keys");
    snapshot.batch_execute("SET LOCAL enable_seqscan = off").await?;
    violations(snapshot, include_str!("audit/keys.sql"), &[], checks).await?;
    snapshot.batch_execute("SET LOCAL enable_seqscan = on").await?;
    next("totals");
    Totals::read(snapshot).await
}

/// Runs one pass and adds its violations to `checks`.
async fn violations(
    snapshot: &Transaction<'_>,
    pass: &str,
    parameters: &[&(dyn ToSql + Sync)],
    checks: &mut [Check],
) -> Result<(), Error> {
    let counted = format!(
        "SELECT name, count(*) AS violations, array_agg(example ORDER BY nth) FILTER (WHERE nth <= {EXAMPLES}) AS examples
           FROM (SELECT name, example, row_number() OVER (PARTITION BY name ORDER BY example) AS nth
                   FROM ({pass}) AS violation) AS numbered
          GROUP BY name"
    );
    for row in snapshot.query(&counted, parameters).await? {
        add(checks, row.get("name"), row.get("violations"), row.get("examples"));
    }
    Ok(())
}

/// Adds violations of a check. Payments and legs are two passes with the same checks.
fn add(checks: &mut [Check], name: &str, violations: i64, examples: Vec<String>) {
    let check = checks.iter_mut().find(|check| check.name == name);
    debug_assert!(check.is_some(), "a pass yields the unknown check {name}");
    if let Some(check) = check {
        check.violations += violations;
        check.examples.extend(examples);
        check.examples.truncate(EXAMPLES);
    }
}
