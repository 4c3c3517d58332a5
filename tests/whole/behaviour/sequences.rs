//! A sequence that gives out keys which are there already: the server's fault, and no task's.

use serde_json::json;
use settled_testkit::harness::{Daemon, Task, World, eventually, open, transfer};

/// How many keys are taken, so that trying again and again doesn't get past them.
const TAKEN: u32 = 5000;

/// Sets the sequence of `table` back and publishes `tasks`, which have to wait until it is mended.
async fn pauses_until_mended(table: &str, taken: &str, tasks: &[Task]) -> (World, Daemon) {
    let (world, mut daemon, publisher) = World::at_work(&[]).await;
    world.open_world_and_alice().await;
    let admin = world.sql().await;
    admin.batch_execute(taken).await.expect("keys that are taken");
    admin.batch_execute(&format!("ALTER SEQUENCE {table}_id_seq RESTART")).await.expect("set back");
    publisher.publish_all(tasks).await;
    let mends = format!("SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))");
    let mut reason = String::new();
    eventually("it says which sequence is behind", async || {
        // By intake that pauses, or by the sweeper of the events.
        let (status, report) = daemon.readiness().await;
        reason = report.to_string();
        assert!(daemon.is_running(), "{}", daemon.tail());
        assert_eq!(world.count("dead_letter WHERE reason = 'unprocessable'").await, 0, "no task is at fault");
        status == 503 && reason.contains(&format!("the sequence of {table}.id is behind"))
    })
    .await;
    assert!(reason.contains(&mends), "{reason}");
    // Found before it hurts, too.
    let found = world.broken("sequences").await;
    assert!(found[0].contains(&mends), "{found:?}");
    let checked = world.prints(&["check", "--connect"]).await;
    assert!(checked["warnings"][0].as_str().is_some_and(|text| text.contains(&mends)), "{checked}");

    admin.batch_execute(&mends).await.expect("mended");
    eventually("it goes on", async || daemon.readiness().await.0 == 200).await;
    (world, daemon)
}

#[tokio::test]
async fn tasks_that_name_new_accounts_wait_for_the_sequence_of_the_accounts() {
    let taken = format!("INSERT INTO account (name) SELECT 'name:' || n FROM generate_series(1, {TAKEN}) AS n");
    let tasks: Vec<Task> = (0..20).map(|n| open(&format!("new:{n}"), "USD", Some(0))).collect();
    let (world, daemon) = pauses_until_mended("account", &taken, &tasks).await;
    world.all_are("settled", &tasks).await;
    world.end(daemon).await;
}

#[tokio::test]
async fn tasks_that_have_events_wait_for_the_sequence_of_the_outbox() {
    let taken = format!(
        "INSERT INTO outbox (leased_until, events, held_key, body)
         SELECT now() + interval '1 hour', 1, 'nowhere', '{{}}' FROM generate_series(1, {TAKEN})"
    );
    let tasks: Vec<Task> = (0..20).map(|_| transfer("world", "alice", 1)).collect();
    let (world, daemon) = pauses_until_mended("outbox", &taken, &tasks).await;
    world.all_are("settled", &tasks).await;
    world.end(daemon).await;
}

#[tokio::test]
async fn a_malformed_message_waits_for_the_sequence_of_the_dead_letters() {
    let taken = format!(
        "INSERT INTO dead_letter (digest, reason, detail, body, properties, first_seen, last_seen)
         SELECT decode(lpad(to_hex(n), 64, '0'), 'hex'), 'malformed', 'seeded', '', '{{}}', now(), now()
           FROM generate_series(1, {TAKEN}) AS n"
    );
    let wrong = transfer("world", "alice", 1).with("amount", "much");
    let (world, daemon) = pauses_until_mended("dead_letter", &taken, std::slice::from_ref(&wrong)).await;
    world.is_dead_letter(&wrong, json!({"reason": "malformed"})).await;
    world.end(daemon).await;
}

#[tokio::test]
async fn a_constraint_that_is_not_about_what_a_task_asks_for_pauses_and_charges_no_task() {
    let (world, mut daemon, publisher) = World::at_work(&[]).await;
    world.open_world_and_alice().await;
    let admin = world.sql().await;
    let own = "ALTER TABLE payment ADD CONSTRAINT somebody_elses CHECK (received_at < '2000-01-01') NOT VALID";
    admin.batch_execute(own).await.expect("a constraint");
    let payments: Vec<Task> = (0..20).map(|_| transfer("world", "alice", 1)).collect();
    publisher.publish_all(&payments).await;
    daemon.pauses("somebody_elses").await;
    admin.batch_execute("ALTER TABLE payment DROP CONSTRAINT somebody_elses").await.expect("dropped");
    world.all_are("settled", &payments).await;
    assert_eq!(world.count("dead_letter").await, 0);
    daemon.stop().await;
}
