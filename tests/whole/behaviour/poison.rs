//! A task that PostgreSQL refuses is found among its neighbours, and only it is set apart.

use serde_json::json;
use settled_testkit::harness::{Task, World, open, transfer};

/// A constraint on what a task asks for, stricter than the ledger.
const REFUSE: &str = "
    ALTER TABLE payment DROP CONSTRAINT payment_amount,
        ADD CONSTRAINT payment_amount CHECK (reference IS DISTINCT FROM 'poison')";

/// The constraint as it was, as far as it matters here.
const TAKE_BACK: &str = "
    ALTER TABLE payment DROP CONSTRAINT payment_amount,
        ADD CONSTRAINT payment_amount CHECK (amount IS NULL OR amount > 0)";

fn poison(debit: &str, credit: &str) -> Task {
    transfer(debit, credit, 1).with("reference", "poison")
}

#[tokio::test]
async fn the_one_task_that_postgresql_refuses_is_a_dead_letter_and_its_batch_settles_in_order() {
    let world = World::new(&["pipeline.lanes = 1", "pipeline.workers = 1"]).await;
    let events = world.events().await;
    let mut daemon = world.daemon().await;
    let opened = [open("world", "USD", None), open("alice", "USD", Some(0))];
    world.publisher().await.publish_all(&opened).await;
    world.all_are("settled", &opened).await;
    world.sql().await.batch_execute(REFUSE).await.expect("a constraint");

    let good: Vec<Task> =
        (0..60).map(|number| transfer("world", "alice", 1).with("reference", format!("{number:03}"))).collect();
    let poisons: Vec<Task> = (0..3).map(|_| poison("world", "alice")).collect();
    let spend = transfer("alice", "world", 60);
    let mut batch: Vec<&Task> = good.iter().chain([&spend]).collect();
    for (place, poison) in [0, 17, 40].into_iter().zip(&poisons) {
        batch.insert(place, poison);
    }
    world.in_one_batch(&mut daemon, 64, async |publisher| publisher.publish_all(batch).await).await;
    world.all_are("settled", &good).await;
    world.all_are("settled", &[spend]).await;
    for poison in &poisons {
        let letter = world.dead_letter(poison.body().as_bytes()).await;
        assert_eq!((&letter["reason"], &letter["task_id"]), (&json!("unprocessable"), &json!(poison.id)));
        assert!(letter["detail"].as_str().expect("a text").contains("payment_amount"), "{letter}");
    }
    daemon.counts("settled_dead_letters_total", &[("reason", "unprocessable")], 3).await;
    assert!(daemon.metric("settled_bisections_total", &[]).await > 0.0);
    let order = "SELECT bool_and(reference = lpad((seq - 1)::text, 3, '0')) AS kept
                   FROM entry JOIN payment ON payment.id = payment_id JOIN account ON account.id = account
                  WHERE name = 'world' AND reference IS NOT NULL";
    assert_eq!(world.rows(order, &[]).await[0]["kept"], true);
    assert_eq!(daemon.readiness().await.0, 200, "a poisoned task is nobody's fault but its own");

    // Once the reason is gone the same task can settle.
    world.sql().await.batch_execute(TAKE_BACK).await.expect("taken back");
    world.publisher().await.publish(&poisons[0]).await;
    assert_eq!(world.outcome(&poisons[0]).await["state"], "settled");
    events.of(&poisons[0]).await;
    world.audit().await;
}

#[tokio::test]
async fn who_waits_for_a_payment_that_turns_out_to_be_poison_is_declined_and_not_forgotten() {
    let world = World::new(&[]).await;
    let daemon = world.daemon().await;
    let publisher = world.publisher().await;
    let mut opened = vec![open("bank", "USD", None)];
    opened.extend((0..40).map(|number| open(&format!("account:{number}"), "USD", Some(0))));
    publisher.publish_all(&opened).await;
    world.all_are("settled", &opened).await;
    world.sql().await.batch_execute(REFUSE).await.expect("a constraint");
    let mut spends = Vec::new();
    let mut all = Vec::new();
    for number in 0..40 {
        let account = format!("account:{number}");
        let spend = transfer(&account, "bank", 1);
        all.extend([poison("bank", &account), spend.clone()]);
        spends.push(spend);
    }
    publisher.publish_all(&all).await;
    world.all_are("rejected", &spends).await;
    let letters = "SELECT 1 FROM dead_letter WHERE reason = 'unprocessable' HAVING count(*) = 40";
    world.row("40 dead letters", letters, &[]).await;
    daemon.stop().await;
    assert_eq!(world.waiting().await, 0);
    world.audit().await;
}
