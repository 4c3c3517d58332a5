//! The audit passes on a ledger in which everything is right, and each of its checks finds what
//! it is for.

mod support;

use settled::store::queries::audit::{Audit, audit};
use support::{connect, database};

const LEDGER: &str = include_str!("support/ledger.sql");

/// What is broken, and the checks that find it. A wrong entry shows in several ways.
const TAMPERED: [(&str, &[&str]); 26] = [
    ("UPDATE payment SET reason = 'because' WHERE state = 'rejected'", &["payment_state"]),
    ("UPDATE payment SET version = 2 WHERE reference = 'fund'", &["payment_state"]),
    ("UPDATE payment SET fingerprint = '\\x00' WHERE reference = 'fund'", &["payment_state"]),
    ("UPDATE payment SET amount = 401 WHERE reference = 'order-1'", &["payment_entries"]),
    (
        "UPDATE payment SET debit_seq = 7 WHERE reference = 'order-1'",
        &["entry_payment", "payment_entries", "payment_sum"],
    ),
    (
        "UPDATE entry SET amount = amount - 1 WHERE amount = 400",
        &["account_posted", "entry_chain", "payment_entries", "payment_sum"],
    ),
    ("DELETE FROM payment WHERE reference = 'order-1'", &["entry_payment"]),
    (
        "INSERT INTO entry SELECT id, 2, 1, 401, '01920000-0000-7000-8000-000000000005' FROM account WHERE name = 'shop'",
        &["account_last_balance", "account_posted", "account_version", "entry_payment"],
    ),
    (
        "UPDATE payment SET debit_account = (SELECT id FROM account WHERE name = 'nobody'), debit_seq = 1
          WHERE reference = 'order-1'",
        &["entry_payment", "payment_accounts", "payment_currency", "payment_entries", "payment_sum"],
    ),
    ("UPDATE payment SET credit_account = 4711 WHERE reference = 'order-2'", &["payment_accounts"]),
    ("UPDATE payment SET currency = 'EUR' WHERE reference = 'order-1'", &["payment_currency"]),
    (
        "UPDATE account SET currency = 'EUR' WHERE name = 'shop'",
        &["account_opening", "currency_sum", "payment_currency"],
    ),
    ("UPDATE entry SET balance_after = 999 WHERE amount = 1000", &["entry_chain"]),
    ("UPDATE entry SET balance_after = 601 WHERE amount = -400", &["account_last_balance", "entry_chain"]),
    (
        "DELETE FROM account WHERE name = 'shop'",
        &["account_exists", "currency_sum", "payment_accounts", "payment_currency"],
    ),
    (
        "UPDATE account SET posted = 601 WHERE name = 'alice'",
        &["account_last_balance", "account_posted", "currency_sum"],
    ),
    ("UPDATE account SET version = 3 WHERE name = 'alice'", &["account_version"]),
    (
        "UPDATE entry SET seq = 3 WHERE amount = -400; UPDATE payment SET debit_seq = 3 WHERE reference = 'order-1'",
        &["account_version"],
    ),
    (
        "ALTER TABLE account DROP CONSTRAINT account_above_limit;
         UPDATE account SET min_balance = 601 WHERE name = 'alice';
         UPDATE payment SET min_balance = 601 WHERE id = '01920000-0000-7000-8000-000000000002'",
        &["account_limit", "guards"],
    ),
    (
        // The balance is above the limit, and was not.
        "UPDATE account SET min_balance = 500 WHERE name = 'alice';
         UPDATE payment SET min_balance = 500 WHERE id = '01920000-0000-7000-8000-000000000002';
         UPDATE entry SET balance_after = 400 WHERE amount = 1000",
        &["account_limit", "entry_chain"],
    ),
    ("UPDATE account SET held = 1 WHERE name = 'alice'", &["account_held"]),
    ("UPDATE account SET min_balance = -1 WHERE name = 'nobody'", &["account_status"]),
    ("DELETE FROM payment WHERE id = '01920000-0000-7000-8000-000000000002'", &["account_opening"]),
    ("UPDATE account SET min_balance = -5 WHERE name = 'alice'", &["account_opening"]),
    ("DROP TRIGGER entry_append_only ON entry", &["guards"]),
    ("ALTER TABLE account DISABLE TRIGGER account_name_valid", &["guards"]),
];

async fn audited(database: &str) -> Audit {
    audit(&mut connect(Some(database)).await).await.expect("an audit")
}

fn broken(audit: &Audit) -> Vec<&str> {
    let mut names: Vec<&str> =
        audit.checks.iter().filter(|check| check.violations > 0).map(|check| check.name).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn each_check_finds_what_it_is_for() {
    let healthy = database(None).await;
    connect(Some(&healthy)).await.batch_execute(LEDGER).await.expect("the ledger");
    let before = audited(&healthy).await;
    assert!(before.passed, "{:#?}", before.checks);
    assert_eq!((before.totals.accounts, before.totals.unopened_accounts, before.totals.entries), (3, 1, 4));

    let admin = connect(None).await;
    let disconnect = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{healthy}'");
    let mut found = std::collections::BTreeSet::new();
    for (tampering, expected) in TAMPERED {
        admin.batch_execute(&disconnect).await.expect("nobody connected");
        let tampered = database(Some(&healthy)).await;
        let client = connect(Some(&tampered)).await;
        let unguarded = format!("SET session_replication_role = replica; {tampering}");
        client.batch_execute(&unguarded).await.unwrap_or_else(|error| panic!("{tampering}: {error:?}"));
        let after = audited(&tampered).await;
        assert!(!after.passed);
        assert_eq!(broken(&after), expected, "{tampering}\n{:#?}", after.checks);
        for check in after.checks.iter().filter(|check| check.violations > 0) {
            assert!(!check.examples.is_empty() && check.examples.iter().all(|text| !text.is_empty()), "{check:?}");
            found.insert(check.name);
        }
    }
    let never: Vec<&str> = before.checks.iter().map(|check| check.name).filter(|name| !found.contains(name)).collect();
    assert_eq!(never, [""; 0], "no tampering for these checks");
}

#[tokio::test]
async fn an_empty_ledger_passes_and_examples_are_ten_at_most() {
    let name = database(None).await;
    assert!(audited(&name).await.passed);
    let client = connect(Some(&name)).await;
    client
        .batch_execute(
            "INSERT INTO account (name, currency, status, opened_at)
             SELECT 'a' || n, 'USD', 'open', now() FROM generate_series(1, 25) n",
        )
        .await
        .expect("accounts that no payment opened");
    let audit = audited(&name).await;
    let check = audit.checks.iter().find(|check| check.name == "account_opening").expect("the check");
    assert_eq!((check.violations, check.examples.len()), (25, 10));
}
