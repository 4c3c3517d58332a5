//! The audit passes on a ledger in which everything is right, and each of its checks finds what
//! it is for.

use settled_store::queries::audit::{Audit, Totals, audit};
use settled_testkit::harness::{Installation, connect, database, life};

const LEDGER: &str = settled_testkit::harness::LEDGER;

/// Takes 900 back of a payment of which 800 were captured and 300 refunded: the books balance.
const OVER_REFUND: &str = "
    ALTER TABLE payment DROP CONSTRAINT payment_captured, DROP CONSTRAINT payment_progress;
    INSERT INTO payment (id, parent_id, type, state, debit_account, credit_account, amount, currency, debit_seq, credit_seq,
                         received_at, settled_at, fingerprint, request)
    SELECT '01920000-0000-7000-8000-000000000900', p.id, 'refund', 'settled', p.credit_account, p.debit_account, 900, 'USD',
           d.version + 1, c.version + 1, now(), now(), p.fingerprint, '{}'
      FROM payment p JOIN account d ON d.id = p.credit_account JOIN account c ON c.id = p.debit_account
     WHERE p.reference = 'captured';
    INSERT INTO entry (account, seq, amount, balance_after, payment_id)
    SELECT a.id, a.version + 1, m.amount, a.posted + m.amount, '01920000-0000-7000-8000-000000000900'
      FROM (VALUES ('buyer', -900), ('bank', 900)) AS m (name, amount) JOIN account a USING (name);
    UPDATE account a SET posted = posted + m.amount, version = version + 1
      FROM (VALUES ('buyer', -900), ('bank', 900)) AS m (name, amount) WHERE a.name = m.name;
    INSERT INTO transition
    SELECT id, version + 1, state, state, now(), '01920000-0000-7000-8000-000000000900' FROM payment WHERE reference = 'captured';
    UPDATE payment SET refunded = refunded + 900, version = version + 1 WHERE reference = 'captured'";

/// What is broken, and the checks that find it. A wrong entry shows in several ways.
const TAMPERED: [(&str, &[&str]); 73] = [
    ("UPDATE payment SET reason = 'because' WHERE state = 'rejected'", &["payment_state"]),
    ("UPDATE payment SET version = 2 WHERE reference = 'fund'", &["payment_transitions"]),
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
    ("UPDATE account SET min_balance = -5 WHERE name = 'alice'", &["account_terms"]),
    ("DROP TRIGGER entry_append_only ON entry", &["guards"]),
    ("ALTER TABLE account DISABLE TRIGGER account_name_valid", &["guards"]),
    // Tasks that are not what they can be.
    ("UPDATE payment SET request = NULL WHERE reference = 'later'", &["payment_state"]),
    ("UPDATE payment SET state = 'scheduled' WHERE type = 'freeze_account'", &["account_status", "agenda_task"]),
    ("UPDATE payment SET currency = 'USD' WHERE type = 'freeze_account'", &["payment_shape"]),
    ("UPDATE payment SET debit_account = 1 WHERE reference = 'split'", &["payment_shape"]),
    // Legs.
    (
        "DELETE FROM leg WHERE leg = 1 AND payment_id = (SELECT id FROM payment WHERE reference = 'split-refund')",
        &["entry_payment", "payment_captured", "payment_legs"],
    ),
    ("UPDATE payment SET legs = 3 WHERE reference = 'split'", &["payment_legs"]),
    ("UPDATE payment SET amount = 200 WHERE reference = 'split'", &["payment_legs"]),
    (
        "UPDATE leg SET amount = amount + 1 WHERE debit_seq IS NOT NULL AND captured IS NOT NULL AND leg = 0",
        &["payment_captured", "payment_entries"],
    ),
    ("UPDATE leg SET currency = 'EUR' WHERE captured IS NULL", &["follow_up_parent", "payment_currency"]),
    (
        "UPDATE leg SET credit_account = 4711 WHERE debit_seq IS NULL AND leg = 1",
        &["payment_accounts", "payment_currency"],
    ),
    // What has become of payments.
    (OVER_REFUND, &["guards", "payment_captured", "payment_progress"]),
    ("UPDATE payment SET refunded = refunded + 1 WHERE reference = 'sale'", &["payment_captured"]),
    ("UPDATE payment SET captured = captured - 1 WHERE reference = 'held'", &["hold_payment", "payment_captured"]),
    ("UPDATE leg SET refunded = refunded - 1 WHERE refunded > 0 AND leg = 1", &["payment_captured"]),
    ("UPDATE payment SET state = 'settled' WHERE reference = 'split'", &["payment_progress", "payment_transitions"]),
    (
        "ALTER TABLE payment DROP CONSTRAINT payment_progress;
         UPDATE payment SET state = 'refunded' WHERE reference = 'sale'",
        &["guards", "payment_progress", "payment_transitions"],
    ),
    (
        "UPDATE payment SET parent_id = gen_random_uuid() WHERE reference = 'sale-refund'",
        &["follow_up_parent", "payment_captured", "transition_cause"],
    ),
    ("DELETE FROM payment WHERE reference = 'sale'", &["entry_payment", "follow_up_parent", "payment_transitions"]),
    (
        "UPDATE payment SET captured = NULL, refunded = NULL, charged_back = NULL WHERE reference = 'sale'",
        &["payment_captured", "payment_progress"],
    ),
    // Transitions.
    ("UPDATE payment SET state = 'expired' WHERE reference = 'voided'", &["payment_transitions"]),
    (
        "DELETE FROM transition WHERE version = 3 AND payment_id = (SELECT id FROM payment WHERE reference = 'sale')",
        &["payment_transitions", "transition_cause"],
    ),
    (
        "UPDATE transition SET version = 9
          WHERE version = 4 AND payment_id = (SELECT id FROM payment WHERE reference = 'sale')",
        &["payment_transitions"],
    ),
    (
        "ALTER TABLE transition DROP CONSTRAINT transition_legal;
         UPDATE transition SET to_state = 'settled' WHERE to_state = 'voided';
         UPDATE transition SET from_state = 'expired' WHERE to_state = 'canceled'",
        &["guards", "payment_transitions", "transition_legal"],
    ),
    ("UPDATE transition SET cause = NULL WHERE to_state = 'voided'", &["transition_cause"]),
    ("UPDATE transition SET cause = payment_id WHERE to_state = 'expired'", &["transition_cause"]),
    ("UPDATE transition SET cause = gen_random_uuid() WHERE to_state = 'canceled'", &["transition_cause"]),
    // What is held, and what waits.
    ("DELETE FROM hold WHERE leg = 1", &["account_held", "hold_payment"]),
    (
        "INSERT INTO hold SELECT gen_random_uuid(), 0, id, 5, now() FROM account WHERE name = 'buyer';
         UPDATE account SET held = held + 5 WHERE name = 'buyer'",
        &["hold_payment"],
    ),
    (
        "UPDATE hold SET amount = amount + 5 WHERE amount = 450;
         UPDATE account SET held = held + 5 WHERE name = 'buyer'",
        &["hold_payment"],
    ),
    ("UPDATE hold SET expires_at = expires_at + interval '1 s'", &["hold_payment"]),
    ("DELETE FROM agenda WHERE waits_for IS NULL", &["agenda_task"]),
    ("UPDATE agenda SET waits_for = NULL", &["agenda_task"]),
    (
        "INSERT INTO agenda SELECT id, now(), now(), 0, 0, NULL, '{}' FROM payment WHERE reference = 'sale'",
        &["agenda_task"],
    ),
    // Accounts.
    ("UPDATE account SET shortfall = shortfall + 1 WHERE name = 'seller'", &["account_shortfall"]),
    ("UPDATE account SET shortfall = 5 WHERE name = 'buyer'", &["account_shortfall"]),
    ("UPDATE account SET max_balance = 79999 WHERE name = 'fee'", &["account_terms"]),
    ("UPDATE account SET min_balance = -4 WHERE name = 'fee'", &["account_terms"]),
    (
        "ALTER TABLE account DROP CONSTRAINT account_below_limit;
         UPDATE account SET max_balance = 7 WHERE name = 'buyer'",
        &["account_limit", "account_terms", "guards"],
    ),
    ("UPDATE account SET status = 'open' WHERE name = 'ice'", &["account_status"]),
    ("UPDATE account SET status = 'frozen' WHERE name = 'gone'", &["account_status"]),
    ("DELETE FROM payment WHERE type = 'close_account'", &["account_status"]),
    // Keys.
    (
        "ALTER TABLE account DROP CONSTRAINT account_name_key; INSERT INTO account (name) VALUES ('alice')",
        &["account_name", "guards"],
    ),
    (
        "DROP INDEX outbox_held;
         CREATE INDEX outbox_held ON outbox (held_key COLLATE \"en-x-icu\", id) WHERE held_key IS NOT NULL",
        &["text_keys"],
    ),
    ("ALTER SEQUENCE account_id_seq RESTART", &["sequences"]),
    (
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$",
        &["durability"],
    ),
    ("DROP INDEX payment_parent", &["guards"]),
    ("ALTER TABLE payment DISABLE TRIGGER payment_updated", &["guards"]),
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

/// What a daemon has made of all types of tasks, beside a ledger that no daemon has seen.
async fn healthy() -> String {
    let database = database(None).await;
    connect(Some(&database)).await.batch_execute(LEDGER).await.expect("the ledger");
    let settled = Installation::of(database.clone()).await;
    let mut daemon = settled.daemon();
    life::live(&settled).await;
    daemon.kill();
    database
}

#[tokio::test]
async fn each_check_finds_what_it_is_for() {
    let healthy = healthy().await;
    let before = audited(&healthy).await;
    assert!(before.passed, "{:#?}", before.checks);
    let Totals { accounts, unopened_accounts, entries, legs, holds, currencies, .. } = &before.totals;
    assert_eq!((accounts, unopened_accounts, entries), (&9, &1, &34));
    assert_eq!((legs, holds), (&6, &3));
    assert_eq!((currencies[0].held, currencies[0].shortfall), (550, 253));

    let admin = connect(None).await;
    let disconnect = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{healthy}'");
    let (mut found, mut wrong) = (std::collections::BTreeSet::new(), Vec::new());
    for (tampering, expected) in TAMPERED {
        admin.batch_execute(&disconnect).await.expect("nobody connected");
        let tampered = database(Some(&healthy)).await;
        let client = connect(Some(&tampered)).await;
        let unguarded = format!("SET session_replication_role = replica; {tampering}");
        client.batch_execute(&unguarded).await.unwrap_or_else(|error| panic!("{tampering}: {error:?}"));
        let after = audited(&tampered).await;
        if broken(&after) != expected {
            let said: Vec<_> = after.checks.iter().flat_map(|check| &check.examples).collect();
            wrong.push(format!("{tampering}\n  found {:?} not {expected:?}\n  {said:#?}", broken(&after)));
        }
        for check in after.checks.iter().filter(|check| check.violations > 0) {
            assert!(!check.examples.is_empty() && check.examples.iter().all(|text| !text.is_empty()), "{check:?}");
            found.insert(check.name);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
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
