//! The audit passes on a ledger in which everything is right, and each of its checks finds what
//! it is for.

use std::collections::BTreeMap;

use settled_store::queries::audit::{Audit, Totals, audit, audit_part};
use settled_testkit::harness::{LEDGER, World, connect, database, life};

/// The ways to break a ledger, each with the checks that must find it.
fn tampered() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    let blocks = include_str!("tampered.sql").split("\n\n");
    let blocks = blocks.filter_map(|block| block.split_once("\n-- finds: "));
    blocks.map(|(tampering, checks)| (tampering, checks.split_whitespace().collect()))
}

async fn audited(database: &str) -> Audit {
    audit(&mut connect(Some(database)).await).await.expect("an audit")
}

/// How often each check was violated, in an audit or in several.
fn violations<'a>(audits: impl IntoIterator<Item = &'a Audit>) -> BTreeMap<&'static str, i64> {
    let mut sums = BTreeMap::new();
    for check in audits.into_iter().flat_map(|audit| &audit.checks).filter(|check| check.violations > 0) {
        *sums.entry(check.name).or_default() += check.violations;
    }
    sums
}

/// The audits of both halves of a ledger.
async fn halves(database: &str) -> [Audit; 2] {
    let mut client = connect(Some(database)).await;
    let mut half = async |part: &str| audit_part(&mut client, part.parse().expect("a part"), |_| ()).await;
    [half("1/2").await.expect("an audit"), half("2/2").await.expect("an audit")]
}

fn broken(audit: &Audit) -> Vec<&str> {
    let mut names: Vec<&str> =
        audit.checks.iter().filter(|check| check.violations > 0).map(|check| check.name).collect();
    names.sort_unstable();
    names
}

/// What a daemon has made of all types of tasks, beside a ledger that no daemon has seen.
async fn healthy() -> String {
    let world = World::new(&[]).await;
    world.succeeds(&["migrate"]).await;
    world.sql().await.batch_execute(LEDGER).await.expect("the ledger");
    let _daemon = world.daemon().await;
    life::live(&world).await;
    world.name
}

#[tokio::test]
async fn each_check_finds_what_it_is_for() {
    let healthy = healthy().await;
    let before = audited(&healthy).await;
    assert!(before.passed, "{:#?}", before.checks);
    let totals = before.totals.as_ref().expect("an audit of the whole");
    let Totals { accounts, unopened_accounts, entries, legs, holds, currencies, .. } = totals;
    assert_eq!((accounts, unopened_accounts, entries), (&9, &1, &34));
    assert_eq!((legs, holds), (&6, &3));
    assert_eq!((currencies[0].held, currencies[0].shortfall), (550, 253));

    let admin = connect(None).await;
    let disconnect = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{healthy}'");
    let (mut found, mut wrong) = (std::collections::BTreeSet::new(), Vec::new());
    for (tampering, expected) in tampered() {
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
        let parts = halves(&tampered).await;
        if violations(&parts) != violations([&after]) {
            wrong.push(format!("{tampering}\n  halves find {:?} not {:?}", violations(&parts), violations([&after])));
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

#[tokio::test]
async fn an_audit_needs_no_right_to_write_and_can_be_had_in_parts() {
    let (world, daemon, _) = World::at_work(&[]).await;
    world.open_world_and_alice().await;
    world.end(daemon).await;
    let read_only = format!("ALTER DATABASE {} SET default_transaction_read_only = on", world.name);
    world.sql().await.batch_execute(&read_only).await.expect("read-only");
    let whole = world.audit().await;
    assert_eq!((&whole["is_standby"], &whole["part"]), (&false.into(), &serde_json::Value::Null));
    for part in ["1/3", "2/3", "3/3"] {
        let audit = world.run(&["audit", "--part", part, "--quiet"]).await;
        assert_eq!((audit.code, audit.stderr.as_str()), (0, ""), "{audit:?}");
        assert!(audit.stdout.ends_with(&format!("\naudit: passed, part {part}\n")), "{}", audit.stdout);
        assert_eq!(audit.stdout.contains("\noutbox: "), part == "1/3", "totals are those of the whole");
    }
    let refused = world.run(&["audit", "--part", "4/3"]).await;
    assert!(refused.code == 2 && refused.stderr.contains("expected a part and how many there are"), "{refused:?}");
}
