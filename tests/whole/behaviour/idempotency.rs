//! An id has one outcome, for ever, whatever comes under it later.

use serde_json::{Value, json};
use settled_testkit::harness::{Daemon, Events, Publisher, Task, World, open, transfer};

async fn duplicates(daemon: &mut Daemon, count: usize) {
    daemon.counts("settled_outcomes_total", &[("outcome", "duplicate")], count).await;
}

/// Two accounts, and a transfer with every field between them.
async fn paid(world: &World) -> Task {
    let pay = transfer("world", "alice", 1250)
        .with("reference", "order-1")
        .with("metadata", json!({"channel": "web", "shop": "7"}));
    let tasks = [open("world", "USD", None), open("alice", "USD", Some(0)), open("bob", "USD", None), pay.clone()];
    world.settle(&tasks).await;
    pay
}

/// One task for each field that a conflict can be about, with the field's name.
fn altered(pay: &Task) -> Vec<(&'static str, Task)> {
    let mut account = open("alice", "USD", Some(0));
    account.id = pay.id;
    vec![
        ("debit_account", pay.clone().with("debit_account", "bob")),
        ("credit_account", pay.clone().with("credit_account", "bob")),
        ("amount", pay.clone().with("amount", 1251)),
        ("currency", pay.clone().with("currency", "EUR")),
        ("reference", pay.clone().with("reference", "order-2")),
        ("reference", pay.clone().without("reference")),
        ("metadata", pay.clone().with("metadata", json!({"channel": "web", "shop": "8"}))),
        ("metadata", pay.clone().without("metadata")),
        ("type", account.with("id", pay.id.to_string())),
    ]
}

async fn conflicts(world: &World, altered: &[(&str, Task)]) {
    for (field, task) in altered {
        let letter = world.is_dead_letter(task, json!({"reason": "idempotency_conflict", "field": field})).await;
        assert_eq!(letter["task_id"], json!(task.id));
    }
    assert_eq!(world.account("alice").await["posted"], 1250);
    assert_eq!(world.account("bob").await["version"], 0);
}

#[tokio::test]
async fn a_repetition_applies_nothing_however_it_is_written() {
    let (world, mut daemon) = World::with_daemon(&[]).await;
    let events = world.events().await;
    let pay = paid(&world).await;
    let publisher = world.publisher().await;
    publisher.publish(&pay).await;
    let reformatted = format!(
        "\n{{ \"metadata\" : {{\"shop\":\"7\", \"ch\\u0061nnel\":\"web\"}},\t\"reference\":\"order\\u002d1\",\"currency\":\"USD\",
            \"amount\":1250, \"credit_account\":\"alice\",\"debit_account\":\"world\",\"type\":\"transfer\",\"id\":\"{}\"}} ",
        pay.id.to_string().to_uppercase()
    );
    publisher.raw("task.transfer", reformatted.as_bytes(), Publisher::properties(&pay)).await;
    duplicates(&mut daemon, 2).await;
    assert_eq!(world.account("alice").await["posted"], 1250);
    let after = transfer("world", "alice", 1);
    publisher.publish(&after).await;
    events.of(&after).await;
    let told = events.all().iter().filter(|event| event.correlation_id() == pay.id.to_string()).count();
    assert_eq!(told, 1, "a repetition is no news");
    world.audit().await;
}

#[tokio::test]
async fn an_altered_repetition_is_a_dead_letter_that_names_the_field() {
    let (world, mut daemon) = World::with_daemon(&[]).await;
    let pay = paid(&world).await;
    let altered = altered(&pay);
    world.publisher().await.publish_all(altered.iter().map(|(_, task)| task)).await;
    conflicts(&world, &altered).await;
    daemon.counts("settled_dead_letters_total", &[("reason", "idempotency_conflict")], altered.len()).await;
    world.audit().await;
}

#[tokio::test]
async fn repetitions_in_the_batch_of_the_first_are_recognised_too() {
    let (world, mut daemon) = World::with_daemon(&["pipeline.lanes = 1", "pipeline.workers = 1"]).await;
    let before = paid(&world).await;
    let pay = transfer("world", "alice", 7).with("reference", "a").with("metadata", json!({"a": "1"}));
    let altered = altered(&pay);
    let count = u32::try_from(altered.len()).expect("few") + 2;
    world
        .in_one_batch(&mut daemon, count, async |publisher| {
            publisher.publish_all([&pay, &pay].into_iter().chain(altered.iter().map(|(_, task)| task))).await;
        })
        .await;
    duplicates(&mut daemon, 1).await;
    for (field, task) in &altered {
        assert_eq!(world.dead_letter_of(task).await["field"], json!(field));
    }
    assert_eq!(world.outcome(&pay).await["state"], "settled");
    assert_eq!(world.outcome(&before).await["state"], "settled");
    assert_eq!(world.account("alice").await["posted"], 1257);
    world.audit().await;
}

#[tokio::test]
async fn repetitions_are_recognised_after_a_restart() {
    let (world, daemon) = World::with_daemon(&[]).await;
    let pay = paid(&world).await;
    daemon.stop().await;
    let altered = altered(&pay);
    let publisher = world.publisher().await;
    publisher.publish_all([&pay, &pay].into_iter().chain(altered.iter().map(|(_, task)| task))).await;
    let mut daemon = world.daemon().await;
    duplicates(&mut daemon, 2).await;
    conflicts(&world, &altered).await;
    world.audit().await;
}

/// The body of the reply with this correlation id.
async fn reply(replies: &Events, correlation_id: &str) -> Value {
    let reply = replies.find(correlation_id, |reply| reply.correlation_id() == correlation_id).await;
    assert_eq!(reply.exchange, "", "sent to the queue itself");
    reply.body
}

async fn ask(publisher: &Publisher, replies: &Events, task: &Task, correlation_id: &str, app: &str) {
    let properties = Publisher::properties(task)
        .with_reply_to(replies.queue.as_str().into())
        .with_correlation_id(correlation_id.into())
        .with_app_id(app.into());
    publisher.publish_with(task, properties).await;
}

#[tokio::test]
async fn who_asks_again_gets_the_stored_outcome_but_for_what_was_held_then() {
    let (world, daemon, publisher) = World::at_work(&[]).await;
    let replies = Events::replies(&world).await;
    let opened = [open("world", "USD", None), open("alice", "USD", Some(-5))];
    let settled = transfer("world", "alice", 10).with("metadata", json!({"b": "1", "aa": "ü\n"}));
    let rejected = transfer("alice", "world", 1_000).with("reference", "too much");
    let tasks = [&opened[1], &settled, &rejected];
    publisher.publish(&opened[0]).await;
    let mut first = Vec::new();
    for task in tasks {
        ask(&publisher, &replies, task, &format!("first {}", task.id), "shop").await;
        let mut answer = reply(&replies, &format!("first {}", task.id)).await;
        // What was held at that moment is not kept.
        if task.json["type"] == "transfer" {
            for balance in answer["balances"].as_array_mut().expect("a list") {
                assert_eq!(balance.as_object_mut().expect("a balance").remove("held"), Some(json!(0)));
            }
        }
        first.push(answer);
    }
    // The balances move on; the outcome doesn't.
    let more = transfer("world", "alice", 1);
    publisher.publish(&more).await;
    world.outcome(&more).await;
    daemon.stop().await;
    let _daemon = world.daemon().await;
    for (task, first) in tasks.into_iter().zip(&first) {
        ask(&publisher, &replies, task, &format!("again {}", task.id), "another").await;
        assert_eq!(reply(&replies, &format!("again {}", task.id)).await, *first);
    }
    assert_eq!(first[1]["publisher"], "shop");
    world.audit().await;
}

#[tokio::test]
async fn who_asks_twice_within_a_batch_gets_the_same_answer_twice() {
    let (world, mut daemon) = World::with_daemon(&["pipeline.lanes = 1", "pipeline.workers = 1"]).await;
    let replies = Events::replies(&world).await;
    paid(&world).await;
    let (settled, rejected) = (transfer("world", "alice", 10), transfer("alice", "world", 1_000_000));
    world
        .in_one_batch(&mut daemon, 4, async |publisher| {
            for (task, name) in [(&settled, "settled"), (&rejected, "rejected")] {
                ask(publisher, &replies, task, &format!("{name} 1"), "shop").await;
                ask(publisher, &replies, task, &format!("{name} 2"), "another").await;
            }
        })
        .await;
    for name in ["settled", "rejected"] {
        let first = reply(&replies, &format!("{name} 1")).await;
        assert_eq!(first["state"], name);
        assert_eq!(reply(&replies, &format!("{name} 2")).await, first);
    }
    world.audit().await;
}
