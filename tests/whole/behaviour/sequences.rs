//! A sequence that gives out keys which are there already: the server's fault, and no task's.

use settled_testkit::harness::{Task, World, eventually, open, transfer};

/// How many keys are taken, so that trying again and again doesn't get past them.
const TAKEN: u32 = 5000;

/// Sets the sequence of `table` back and publishes `tasks`, which have to wait until it is mended.
async fn pauses_until_mended(table: &str, taken: &str, tasks: impl FnOnce() -> Vec<Task>) -> World {
    let world = World::new(&[]).await;
    let mut daemon = world.daemon().await;
    let publisher = world.publisher().await;
    let opened = [open("world", "USD", None), open("alice", "USD", Some(0))];
    publisher.publish_all(&opened).await;
    world.all_are("settled", &opened).await;
    let admin = world.sql().await;
    admin.batch_execute(taken).await.expect("keys that are taken");
    let restart = format!("ALTER SEQUENCE {table}_id_seq RESTART");
    admin.batch_execute(&restart).await.expect("set back");

    let tasks = tasks();
    publisher.publish_all(&tasks).await;
    let mends = format!("SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))");
    let mut reason = String::new();
    eventually("it says which sequence is behind", async || {
        // By intake that pauses, or by the sweeper of the events.
        let (status, report) = daemon.readiness().await;
        reason = report.to_string();
        assert!(daemon.is_running(), "{}", daemon.tail());
        let letters = "SELECT reason, detail FROM dead_letter WHERE reason = 'unprocessable'";
        assert_eq!(world.rows(letters, &[]).await, [] as [serde_json::Value; 0], "no task is at fault");
        status == 503 && reason.contains(&format!("the sequence of {table}.id is behind"))
    })
    .await;
    assert!(reason.contains(&mends), "{reason}");
    // Found before it hurts, too.
    let audit = world.run(&["audit", "--json"]).await;
    let checks = audit.json()["checks"].as_array().expect("checks").clone();
    let found = checks.iter().find(|check| check["name"] == "sequences").expect("the check");
    assert!(audit.code == 1 && found["examples"][0].as_str().is_some_and(|text| text.contains(&mends)), "{found}");
    let checked = world.run(&["check", "--connect", "--json"]).await.json();
    assert!(checked["warnings"][0].as_str().is_some_and(|text| text.contains(&mends)), "{checked}");

    admin.batch_execute(&mends).await.expect("mended");
    eventually("it goes on", async || daemon.readiness().await.0 == 200).await;
    daemon.stop().await;
    world
}

#[tokio::test]
async fn tasks_that_name_new_accounts_wait_for_the_sequence_of_the_accounts() {
    let taken = format!("INSERT INTO account (name) SELECT 'name:' || n FROM generate_series(1, {TAKEN}) AS n");
    let tasks: Vec<Task> = (0..20).map(|n| open(&format!("new:{n}"), "USD", Some(0))).collect();
    let world = pauses_until_mended("account", &taken, || tasks.clone()).await;
    let daemon = world.daemon().await;
    world.all_are("settled", &tasks).await;
    daemon.stop().await;
    world.audit().await;
}

#[tokio::test]
async fn tasks_that_have_events_wait_for_the_sequence_of_the_outbox() {
    let taken = format!(
        "INSERT INTO outbox (leased_until, events, held_key, body)
         SELECT now() + interval '1 hour', 1, 'nowhere', '{{}}' FROM generate_series(1, {TAKEN})"
    );
    let tasks: Vec<Task> = (0..20).map(|_| transfer("world", "alice", 1)).collect();
    let world = pauses_until_mended("outbox", &taken, || tasks.clone()).await;
    let daemon = world.daemon().await;
    world.all_are("settled", &tasks).await;
    daemon.stop().await;
    world.audit().await;
}

#[tokio::test]
async fn a_malformed_message_waits_for_the_sequence_of_the_dead_letters() {
    let taken = format!(
        "INSERT INTO dead_letter (digest, reason, detail, body, properties, first_seen, last_seen)
         SELECT decode(lpad(to_hex(n), 64, '0'), 'hex'), 'malformed', 'seeded', '', '{{}}', now(), now()
           FROM generate_series(1, {TAKEN}) AS n"
    );
    let wrong = transfer("world", "alice", 1).with("amount", "much");
    let world = pauses_until_mended("dead_letter", &taken, || vec![wrong.clone()]).await;
    let daemon = world.daemon().await;
    assert_eq!(world.dead_letter(wrong.body().as_bytes()).await["reason"], "malformed");
    daemon.stop().await;
    world.audit().await;
}

#[tokio::test]
async fn a_constraint_that_is_not_about_what_a_task_asks_for_pauses_and_charges_no_task() {
    let world = World::new(&[]).await;
    let mut daemon = world.daemon().await;
    let publisher = world.publisher().await;
    let opened = [open("world", "USD", None), open("alice", "USD", Some(0))];
    publisher.publish_all(&opened).await;
    world.all_are("settled", &opened).await;
    let admin = world.sql().await;
    let own = "ALTER TABLE payment ADD CONSTRAINT somebody_elses CHECK (received_at < '2000-01-01') NOT VALID";
    admin.batch_execute(own).await.expect("a constraint");
    let payments: Vec<Task> = (0..20).map(|_| transfer("world", "alice", 1)).collect();
    publisher.publish_all(&payments).await;
    eventually("it says which constraint is in the way", async || {
        let (_, report) = daemon.readiness().await;
        report["paused"]["reason"].as_str().is_some_and(|reason| reason.contains("somebody_elses"))
    })
    .await;
    admin.batch_execute("ALTER TABLE payment DROP CONSTRAINT somebody_elses").await.expect("dropped");
    world.all_are("settled", &payments).await;
    assert_eq!(world.rows("SELECT count(*) AS n FROM dead_letter", &[]).await[0]["n"], 0);
    daemon.stop().await;
}
