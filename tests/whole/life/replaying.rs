//! The replay itself: it comes to what was recorded however that came about, and it finds what
//! never happened.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use settled_testkit::harness::{SOON, Task, World, authorize, change, follow_up, open, split, transfer, within};
use settled_testkit::replay::model::Step;
use settled_testkit::replay::{self, Recorded, Replayed, Settings, model};
use tokio_postgres::Client;

const TASKS: usize = 2_000;
const PARTS: usize = 5;

/// As the daemons are configured that make the history.
fn settings() -> Settings {
    Settings { parking: SignedDuration::from_secs(2), ..Settings::default() }
}

/// Random tasks of all types. What they wait for by the clock comes within seconds, counted from now.
fn publishable(tasks: &[(usize, model::Task)]) -> Vec<Task> {
    let mut published = Vec::new();
    for (nth, task) in tasks {
        let mut json: Value = serde_json::from_str(&task.to_json()).expect("JSON");
        if json.get("execute_at").is_some() {
            json["execute_at"] = super::soon((nth * 37 % 3_500) as i64 - 500).into();
        }
        // Most of those that ask for more than seconds ask for days.
        if json["expires_in"].as_u64().is_some_and(|seconds| seconds < 1_000) {
            json["expires_in"] = (1 + nth % 5).into();
        }
        published.push(Task { id: task.id, json });
    }
    published
}

/// Two daemons with four lanes each have a go at them, one of which is killed again and again.
async fn history(seed: u64) -> World {
    let world = World::new(&["pipeline.max_batch = 40", "broker.prefetch = 200", "payments.parking = \"2s\""]).await;
    let mut daemons = [world.daemon().await, world.daemon().await];
    let publisher = world.publisher().await;
    let steps = model::steps(seed, TASKS, Timestamp::now()).into_iter();
    let arriving = steps.flat_map(|step| if let Step::Arrive(tasks) = step { tasks } else { Vec::new() });
    let tasks: Vec<(usize, model::Task)> = arriving.enumerate().collect();
    for part in tasks.chunks(TASKS / PARTS) {
        publisher.publish_all(&publishable(part)).await;
        daemons[0].kill();
        daemons[0] = world.daemon().await;
    }
    let ids: std::collections::BTreeSet<_> = tasks.iter().map(|(_, task)| task.id).collect();
    let known = of_each_kind(&world).await;
    let done = "SELECT (SELECT count(*) FROM payment) AS n,
                       (SELECT count(*) FROM transition WHERE cause IS NULL) AS expired";
    // Some wait still, and may do so for long.
    within(SOON * 2, "all have come to something, and some holds have run out", async || {
        let row = world.rows(done, &[]).await.remove(0);
        row["n"] == ids.len() + known && row["expired"].as_u64() > Some(10)
    })
    .await;
    for daemon in daemons {
        daemon.stop().await;
    }
    world
}

/// Has a payment come to each state that the lies are about, whatever chance has made. Returns how many tasks it took.
async fn of_each_kind(world: &World) -> usize {
    let [bank, buyer, shop] = ["kind:bank", "kind:buyer", "kind:shop"];
    let held = authorize(buyer, shop, 100);
    let sale = transfer(buyer, shop, 50);
    let expired = authorize(buyer, shop, 10).with("expires_in", 1);
    let later = transfer(buyer, shop, 1).with("execute_at", "2099-01-01T00:00:00Z");
    let tasks = [
        ("settled", open(bank, "USD", None)),
        ("settled", open(buyer, "USD", Some(0))),
        ("settled", open(shop, "USD", Some(0))),
        ("settled", transfer(bank, buyer, 1_000)),
        ("settled", split(&[(bank, buyer, 7), (bank, shop, 9)])),
        ("rejected", transfer(buyer, shop, 100_000)),
        ("authorized", authorize(buyer, shop, 20)),
        ("authorized", held.clone()),
        ("settled", follow_up("capture", &held, Some(40)).with("final", false)),
        ("settled", sale.clone()),
        ("settled", follow_up("chargeback", &sale, Some(20))),
        ("settled", transfer(bank, buyer, 3).with("execute_at", super::soon(500))),
        ("expired", expired),
        ("scheduled", later.clone()),
        ("parked", transfer(buyer, shop, 2).with("after", later.id.to_string())),
    ];
    for (state, task) in &tasks {
        super::done(world, state, task).await;
    }
    tasks.len()
}

/// What the replay says once the records have been changed, which is taken back.
async fn tampered(client: &Client, statement: &str, settings: &Settings) -> Result<Replayed, String> {
    client.batch_execute("BEGIN; SET LOCAL session_replication_role = replica").await.expect("no triggers");
    let changed = client.execute(statement, &[]).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    assert_ne!(changed, 0, "{statement}: there is nothing to change");
    let recorded = Recorded::read(client).await;
    client.batch_execute("ROLLBACK").await.expect("as it was");
    replay::of(&recorded?, settings)
}

/// What nobody did, and what one would see of it.
fn lies() -> Vec<String> {
    // The file says which rows may be changed; one is enough.
    let of_one_row = |lie: &str| {
        let update = lie.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n");
        let (table, _) = update.strip_prefix("UPDATE ")?.split_once(' ')?;
        let (change, which) = update.trim_end().strip_suffix(';')?.split_once("\n WHERE ")?;
        Some(format!("{change} WHERE ctid = (SELECT ctid FROM {table} WHERE {which} ORDER BY ctid LIMIT 1)"))
    };
    let mut lies: Vec<String> = include_str!("lies.sql").split("\n\n").filter_map(of_one_row).collect();
    assert!(lies.len() >= 28, "{lies:#?}");
    let others = [
        // Of different payments: two entries of one task may change places and nothing has changed.
        "UPDATE entry e SET payment_id = o.payment_id FROM entry o
          WHERE e.account = o.account AND (e.seq, o.seq) IN ((1, 2), (2, 1)) AND e.account =
                (SELECT min(a.account) FROM entry a JOIN entry b USING (account)
                  WHERE a.seq = 1 AND b.seq = 2 AND a.payment_id <> b.payment_id AND a.amount <> b.amount)",
        "DELETE FROM entry WHERE ctid = (SELECT max(ctid) FROM entry)",
        "INSERT INTO entry SELECT account, max(seq) + 1, 1, 1, (array_agg(payment_id))[1] FROM entry GROUP BY account",
        "DELETE FROM payment WHERE ctid = (SELECT min(ctid) FROM payment
                                            WHERE type = 'transfer' AND request IS NULL AND state = 'settled')",
        "DELETE FROM transition WHERE ctid = (SELECT min(ctid) FROM transition)",
    ];
    lies.extend(others.map(str::to_owned));
    lies
}

#[tokio::test]
async fn what_two_daemons_and_kills_made_of_random_tasks_is_what_one_thread_makes_of_them() {
    let world = history(11).await;
    let replayed = super::reckon_by(&world, settings()).await;
    assert!(replayed.tasks > TASKS / 10 * 9 && replayed.entries > TASKS / 4, "{replayed:?}");
    println!("replayed: {replayed:?}");
}

#[tokio::test]
async fn where_the_clock_stands_still_entries_and_versions_tell_the_order() {
    let (world, daemon) = World::with_daemon(&[]).await;
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
        super::done(&world, state, task).await;
    }
    daemon.stop().await;
    let replayed = super::reckon(&world).await;
    // All at one moment, and the last one first.
    let moment = "timestamptz '2026-01-01'";
    let still = format!(
        "WITH moved AS (UPDATE transition SET at = {moment} RETURNING 1)
         UPDATE payment SET expires_at = expires_at - (settled_at - {moment}), settled_at = {moment},
                            received_at = {moment} - (received_at - {moment})"
    );
    assert_eq!(tampered(&world.sql().await, &still, &Settings::default()).await, Ok(replayed));
}

#[tokio::test]
async fn what_had_read_the_clock_before_the_task_that_it_waited_for_was_committed_keeps_its_place() {
    let (world, daemon) = World::with_daemon(&[]).await;
    for task in [open("world", "USD", None), open("alice", "USD", Some(0)), open("shop", "USD", Some(0))] {
        super::done(&world, "settled", &task).await;
    }
    super::done(&world, "settled", &transfer("world", "alice", 100)).await;
    let awaited = transfer("world", "shop", 1);
    let waiting = transfer("alice", "shop", 30).with("after", awaited.id.to_string());
    super::done(&world, "parked", &waiting).await;
    super::done(&world, "settled", &awaited).await;
    world.becomes("settled", &waiting).await;
    let freeze = change("freeze_account", "alice");
    super::done(&world, "settled", &freeze).await;
    daemon.stop().await;
    let replayed = super::reckon(&world).await;
    // Both in one batch, which read the clock before another daemon did for what is waited for.
    let meanwhile = format!(
        "UPDATE payment SET settled_at = (SELECT settled_at FROM payment WHERE id = '{}')
                                         + CASE id WHEN '{awaited}' THEN interval '1 ms' ELSE '0' END
          WHERE id IN ('{awaited}', '{}')",
        waiting.id,
        freeze.id,
        awaited = awaited.id,
    );
    assert_eq!(tampered(&world.sql().await, &meanwhile, &Settings::default()).await, Ok(replayed));
}

#[tokio::test]
async fn whatever_is_changed_in_the_records_is_found() {
    let world = history(12).await;
    super::reckon_by(&world, settings()).await;
    let client = world.sql().await;
    for lie in lies() {
        let found = tampered(&client, &lie, &settings()).await;
        let found = found.expect_err(&lie);
        println!("{}\n    {}", lie.split_whitespace().collect::<Vec<_>>().join(" "), &found[..found.len().min(300)]);
    }
}
