//! The audit passes on a ledger in which everything is right, and each of its checks finds what
//! it is for.

use settled_store::queries::audit::{Audit, Totals, audit};
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
    let Totals { accounts, unopened_accounts, entries, legs, holds, currencies, .. } = &before.totals;
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
