//! The replay itself: it comes to what was recorded however that came about, and it finds what
//! never happened.

use tokio_postgres::Client;

use crate::replay::{self, Recorded, Replayed, Settings, model};
use crate::support::{SOON, Task, World, authorize, change, follow_up, open, transfer, within};

const TASKS: usize = 2_000;

/// Random tasks of all types, all at once, for two daemons with four lanes each, one of which is
/// killed again and again.
async fn history(seed: u64) -> World {
    let world = World::new(&["pipeline.max_batch = 40", "broker.prefetch = 200"]).await;
    let mut daemons = [world.daemon().await, world.daemon().await];
    let publisher = world.publisher().await;
    let tasks: Vec<Task> = model::tasks(seed, TASKS, "a")
        .iter()
        .map(|task| Task { id: task.id, json: serde_json::from_str(&task.to_json()).expect("JSON") })
        .collect();
    for part in tasks.chunks(TASKS / 4) {
        publisher.publish_all(part).await;
        daemons[0].kill();
        daemons[0] = world.daemon().await;
    }
    let ids: std::collections::BTreeSet<_> = tasks.iter().map(|task| task.id).collect();
    // Some wait, and may do so for long.
    within(SOON, "all have come to something", async || {
        world.rows("SELECT count(*) AS n FROM payment", &[]).await[0]["n"] == ids.len()
    })
    .await;
    for daemon in daemons {
        daemon.stop().await;
    }
    world
}

/// What the replay says once the records have been changed, which is taken back.
async fn tampered(client: &Client, statement: &str) -> Result<Replayed, String> {
    client.batch_execute("BEGIN; SET LOCAL session_replication_role = replica").await.expect("no triggers");
    let changed = client.execute(statement, &[]).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    assert_ne!(changed, 0, "{statement}: there is nothing to change");
    let recorded = Recorded::read(client).await;
    client.batch_execute("ROLLBACK").await.expect("as it was");
    replay::of(&recorded?, &Settings::default())
}

/// One row of a table.
fn one(table: &str, change: &str, which: &str) -> String {
    format!("UPDATE {table} SET {change} WHERE ctid = (SELECT ctid FROM {table} WHERE {which} ORDER BY ctid LIMIT 1)")
}

/// What nobody did, and what one would see of it.
fn lies() -> Vec<String> {
    let plain = "type = 'transfer' AND request IS NULL";
    vec![
        one("account", "posted = posted + 1", "status = 'open' AND max_balance IS NULL"),
        one("account", "held = held + 1", "status = 'open' AND min_balance IS NULL"),
        one("account", "version = version + 1", "status = 'open'"),
        one("account", "shortfall = shortfall + 1", "status = 'open' AND min_balance IS NOT NULL"),
        one("account", "min_balance = min_balance - 1", "status = 'open' AND min_balance IS NOT NULL"),
        one("account", "max_balance = 1000000000", "status = 'open' AND max_balance IS NULL"),
        one(
            "account",
            "status = CASE status WHEN 'open' THEN 'frozen' ELSE 'open' END::account_status",
            "status IN ('open', 'frozen')",
        ),
        one("entry", "balance_after = balance_after + 1", "true"),
        one("entry", "amount = amount + 1", "amount > 0"),
        one("entry", "seq = seq + 1000000", "true"),
        "UPDATE entry e SET payment_id = o.payment_id FROM entry o
          WHERE e.account = o.account AND (e.seq, o.seq) IN ((1, 2), (2, 1)) AND e.account =
                (SELECT min(account) FROM entry WHERE seq = 2)"
            .to_owned(),
        "DELETE FROM entry WHERE ctid = (SELECT max(ctid) FROM entry)".to_owned(),
        "INSERT INTO entry SELECT account, max(seq) + 1, 1, 1, (array_agg(payment_id))[1] FROM entry GROUP BY account"
            .to_owned(),
        format!("DELETE FROM payment WHERE ctid = (SELECT min(ctid) FROM payment WHERE {plain} AND state = 'settled')"),
        "DELETE FROM transition WHERE ctid = (SELECT min(ctid) FROM transition)".to_owned(),
        one("payment", "reason = 'account_frozen'", "reason = 'insufficient_funds' AND request IS NULL"),
        one(
            "payment",
            "state = 'rejected', reason = 'insufficient_funds', debit_seq = NULL, credit_seq = NULL",
            &format!("{plain} AND state = 'settled'"),
        ),
        one("payment", "state = 'scheduled'", "state = 'parked'"),
        one("payment", "version = version + 1", "state = 'settled'"),
        one("payment", "amount = amount + 1", &format!("{plain} AND state = 'settled'")),
        one(
            "payment",
            "charged_back = charged_back + 1",
            "state = 'charged_back' AND captured > refunded + charged_back",
        ),
        one(
            "payment",
            "captured = captured - 1",
            "state = 'partially_captured' AND captured > 1 AND refunded = 0
             AND charged_back = 0",
        ),
        one("payment", "expires_at = expires_at + interval '1 us'", "state = 'authorized'"),
        one("payment", "settled_at = '2000-01-01'", &format!("{plain} AND state = 'settled'")),
        one("payment", "settled_at = settled_at - interval '1 hour'", "state = 'settled' AND parent_id IS NOT NULL"),
        one("payment", "settled_at = settled_at + interval '1 hour'", "type = 'authorize' AND state <> 'rejected'"),
        one("leg", "refunded = refunded + 1", "captured > refunded + charged_back"),
        one("transition", "at = at + interval '1 us'", "cause IS NOT NULL"),
        one("transition", "cause = NULL", "cause IS NOT NULL"),
        one("transition", "version = version + 100", "true"),
    ]
}

#[tokio::test]
async fn what_two_daemons_and_kills_made_of_random_tasks_is_what_one_thread_makes_of_them() {
    let world = history(11).await;
    let replayed = crate::reckon(&world).await;
    assert!(replayed.tasks > TASKS / 10 * 9 && replayed.entries > TASKS / 2, "{replayed:?}");
    println!("replayed: {replayed:?}");
}

#[tokio::test]
async fn where_the_clock_stands_still_entries_and_versions_tell_the_order() {
    let world = World::new(&[]).await;
    let daemon = world.daemon().await;
    let hold = authorize("alice", "shop", 60);
    let part = follow_up("capture", &hold, Some(20)).with("final", false);
    let sale = transfer("alice", "shop", 30);
    // Each is what it is because of those before it.
    let tasks = [
        ("settled", open("world", "USD", None)),
        ("settled", open("alice", "USD", Some(0))),
        ("rejected", transfer("alice", "shop", 1)),
        ("settled", open("shop", "USD", Some(0))),
        ("rejected", transfer("alice", "shop", 30)),
        ("settled", transfer("world", "alice", 100)),
        ("authorized", hold.clone()),
        ("rejected", transfer("alice", "shop", 41)),
        ("settled", part),
        ("settled", sale.clone()),
        ("settled", change("freeze_account", "alice")),
        ("rejected", transfer("alice", "shop", 1)),
        ("rejected", change("freeze_account", "alice")),
        ("settled", transfer("world", "alice", 5)),
        ("settled", change("unfreeze_account", "alice")),
        ("settled", follow_up("capture", &hold, None)),
        ("settled", follow_up("refund", &sale, Some(10))),
        ("rejected", follow_up("refund", &sale, Some(21))),
        ("settled", change("set_limits", "shop").with("max_balance", 90)),
        ("rejected", transfer("world", "shop", 11)),
        ("settled", transfer("world", "shop", 10)),
    ];
    for (state, task) in &tasks {
        crate::done(&world, state, task).await;
    }
    daemon.stop().await;
    let replayed = crate::reckon(&world).await;
    // All at one moment, and the last one first.
    let moment = "timestamptz '2026-01-01'";
    let still = format!(
        "WITH moved AS (UPDATE transition SET at = {moment} RETURNING 1)
         UPDATE payment SET expires_at = expires_at - (settled_at - {moment}), settled_at = {moment},
                            received_at = {moment} - (received_at - {moment})"
    );
    assert_eq!(tampered(&world.sql().await, &still).await, Ok(replayed));
}

#[tokio::test]
async fn whatever_is_changed_in_the_records_is_found() {
    let world = history(12).await;
    crate::reckon(&world).await;
    let client = world.sql().await;
    for lie in lies() {
        let found = tampered(&client, &lie).await;
        let found = found.expect_err(&lie);
        println!("{}\n    {}", lie.split_whitespace().collect::<Vec<_>>().join(" "), &found[..found.len().min(300)]);
    }
}
