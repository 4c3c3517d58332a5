//! A ledger of the version before, on its way to this one while that version goes on writing.

use settled_testkit::harness::{World, follow_up, transfer};
use settled_testkit::seed;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::Client;
use uuid::Uuid;

/// The last migration of the version before.
const BEFORE: i32 = 2;

const ACCOUNTS: usize = 1000;

/// How many payments there are. More by hand, to see how long it takes:
/// `SETTLED_TEST_LEDGER=1000000 cargo test --release --test whole migrations -- --nocapture`.
fn payments() -> usize {
    std::env::var("SETTLED_TEST_LEDGER").ok().and_then(|count| count.parse().ok()).unwrap_or(20_000)
}

/// A payment as the version before wrote it, statement by statement.
async fn pay_as_before(client: &mut Client, debit: i64, credit: i64) {
    const LOCK: &str = "SELECT id, posted, held, version, min_balance, status::text, currency
                          FROM account WHERE id = ANY($1::bigint[]) ORDER BY id FOR NO KEY UPDATE";
    const PAYMENT: &str = "
        INSERT INTO payment (id, debit_account, credit_account, amount, min_balance, debit_seq, credit_seq, received_at,
                             settled_at, type, state, currency, fingerprint, reason, publisher, reference, metadata)
        VALUES ($1, $2, $3, 5, NULL, $4, $5, now(), now(), 'transfer', 'settled', 'USD', decode(repeat('ab', 16), 'hex'),
                NULL, 'before', NULL, NULL)";
    const ENTRY: &str =
        "INSERT INTO entry (account, seq, amount, balance_after, payment_id) VALUES ($1, $2, $3, $4, $5)";
    const BALANCE: &str = "UPDATE account SET posted = $2, version = $3 WHERE id = $1 AND version = $4";
    let transaction = client.transaction().await.expect("a transaction");
    let rows = transaction.query(LOCK, &[&vec![debit, credit]]).await.expect("locked");
    let of = |id: i64| {
        let row = rows.iter().find(|row| row.get::<_, i64>(0) == id).expect("an account");
        (row.get::<_, i64>(1), row.get::<_, i64>(3))
    };
    let id = Uuid::now_v7();
    let ((paid, paid_version), (got, got_version)) = (of(debit), of(credit));
    let seqs = [paid_version + 1, got_version + 1];
    let inserted = transaction.execute(PAYMENT, &[&id, &debit, &credit, &seqs[0], &seqs[1]]).await;
    inserted.expect("a payment of the version before is valid");
    for (account, version, amount, after) in
        [(debit, paid_version, -5_i64, paid - 5), (credit, got_version, 5, got + 5)]
    {
        transaction.execute(ENTRY, &[&account, &(version + 1), &amount, &after, &id]).await.expect("an entry");
        let changed = transaction.execute(BALANCE, &[&account, &after, &(version + 1), &version]).await;
        assert_eq!(changed.expect("a balance"), 1);
    }
    transaction.commit().await.expect("committed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_version_before_goes_on_writing_while_its_ledger_migrates_and_afterwards() {
    let world = World::new(&[]).await;
    let mut client = world.sql().await;
    settled_store::migrate_to(&mut client, BEFORE).await.expect("the schema of the version before");
    seed::accounts(&client, ACCOUNTS).await.expect("accounts");
    seed::payments(&mut client, payments()).await.expect("payments");
    let oldest: Uuid = client
        .query_one("SELECT id FROM payment WHERE type = 'transfer' ORDER BY id LIMIT 1", &[])
        .await
        .expect("one")
        .get(0);
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn({
        let (mut client, stop) = (world.sql().await, Arc::clone(&stop));
        let ids =
            client.query("SELECT id FROM account WHERE status = 'open' ORDER BY id LIMIT 2", &[]).await.expect("ids");
        let ids: Vec<i64> = ids.iter().map(|row| row.get(0)).collect();
        async move {
            let (mut written, mut longest) = (0, Duration::ZERO);
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                pay_as_before(&mut client, ids[written % 2], ids[(written + 1) % 2]).await;
                longest = longest.max(began.elapsed());
                written += 1;
            }
            (written, longest)
        }
    });
    let began = Instant::now();
    let applied = settled_store::migrate(&mut client).await.expect("migrated");
    let took = began.elapsed();
    assert!(applied.len() >= 3, "{applied:?}");
    // The version before is still there, as it is while a fleet is restarted one by one.
    let mut daemon = world.starting_daemon();
    daemon.ready().await;
    let publisher = world.publisher().await;
    let new = transfer("account:1", "account:2", 5);
    publisher.publish(&new).await;
    world.becomes("settled", &new).await;
    stop.store(true, Ordering::Relaxed);
    let (written, longest) = writing.await.expect("the version before can write throughout");
    assert!(written > 0);
    println!(
        "{} payments migrated in {took:.2?} ({}); meanwhile the version before wrote {written}, waiting {longest:.2?} at most",
        payments(),
        applied.join(", ")
    );
    // What the version before has written can be acted on.
    let old = settled_testkit::harness::Task { id: oldest, ..transfer("account:1", "account:2", 100) };
    let refund = follow_up("refund", &old, None);
    publisher.publish(&refund).await;
    assert_eq!(world.becomes("settled", &refund).await["amount"], 100);
    world.audit().await;
}
