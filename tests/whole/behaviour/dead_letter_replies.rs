//! Who asked is told that a task became a dead letter.

use lapin::BasicProperties;
use serde_json::json;
use settled_testkit::harness::{Events, Publisher, Received, Task, World, assert_has, open, transfer};
use uuid::Uuid;

fn asking(properties: BasicProperties, queue: &str, correlation_id: &str) -> BasicProperties {
    properties.with_reply_to(queue.into()).with_correlation_id(correlation_id.into())
}

async fn reply(replies: &Events, correlation_id: &str) -> Received {
    replies.find(correlation_id, |reply| reply.correlation_id() == correlation_id).await
}

fn told_of_dead_letters(events: &Events) -> usize {
    events.all().iter().filter(|event| event.routing_key == "task.dead_lettered").count()
}

fn pay() -> Task {
    transfer("world", "alice", 5)
}

#[tokio::test]
async fn who_asks_is_told_why_a_message_is_a_dead_letter() {
    let (world, daemon, publisher) = World::at_work(&[]).await;
    let (events, replies) = (world.events().await, Events::replies(&world).await);
    let paid = pay();
    publisher.publish_all(&[open("world", "USD", None), open("alice", "USD", None), paid.clone()]).await;
    let malformed = pay().with("amount", "12.50");
    publisher.publish_with(&malformed, asking(Publisher::properties(&malformed), &replies.queue, "malformed")).await;
    let told = reply(&replies, "malformed").await;
    assert_eq!(told.properties.kind().as_ref().map(|kind| kind.as_str()), Some("task.dead_lettered"));
    let (body, letter) = (&told.body, world.dead_letter_of(&malformed).await);
    let wanted = json!({"id": malformed.id, "state": "dead_lettered", "reason": "malformed", "field": "amount",
                        "detail": letter["detail"], "publisher": "behaviour", "message_id": malformed.id});
    assert_has(body, wanted);
    assert!(told.message_id().starts_with("dead-letter/") && told.message_id().ends_with("/reply"), "{told:?}");

    let altered = paid.clone().with("amount", 6);
    publisher.publish_with(&altered, asking(Publisher::properties(&altered), &replies.queue, "conflict")).await;
    let body = reply(&replies, "conflict").await.body;
    assert_has(&body, json!({"reason": "idempotency_conflict", "field": "amount", "id": paid.id}));

    let unreadable = asking(BasicProperties::default(), &replies.queue, "unreadable");
    publisher.raw("task.transfer", b"nonsense", unreadable.clone()).await;
    let first = reply(&replies, "unreadable").await;
    assert_has(&first.body, json!({"id": null, "reason": "malformed"}));
    let named = Uuid::now_v7();
    let oversize = asking(BasicProperties::default(), &replies.queue, "oversize");
    let oversize = oversize.with_message_id(named.to_string().into());
    publisher.raw("task.transfer", &vec![b' '; 70_000], oversize).await;
    let body = reply(&replies, "oversize").await.body;
    assert_has(&body, json!({"id": named, "reason": "oversize"}));

    // Who asks again is told again, by the same id.
    publisher.raw("task.transfer", b"nonsense", unreadable).await;
    let both = replies.count(5).await;
    assert_eq!(both[4].message_id(), first.message_id());
    world.end(daemon).await;
    assert_eq!(told_of_dead_letters(&events), 0, "without the setting there is no event");
}

#[tokio::test]
async fn a_task_that_postgresql_refuses_is_answered_and_told_where_that_is_set() {
    let (world, daemon, publisher) = World::at_work(&["events.dead_letters = true"]).await;
    let (events, replies) = (world.events().await, Events::replies(&world).await);
    world.open(["world", "alice"]).await;
    let refused = "ALTER TABLE payment DROP CONSTRAINT payment_amount,
                       ADD CONSTRAINT payment_amount CHECK (reference IS DISTINCT FROM 'refused')";
    world.sql().await.batch_execute(refused).await.expect("a constraint");
    let poison = pay().with("reference", "refused");
    publisher.publish_with(&poison, asking(Publisher::properties(&poison), &replies.queue, "poison")).await;
    let body = reply(&replies, "poison").await.body;
    assert_has(&body, json!({"reason": "unprocessable", "type": "transfer"}));
    let event = events.find("the event", |event| event.routing_key == "task.dead_lettered").await;
    assert_eq!((&event.body, event.correlation_id()), (&body, poison.id.to_string().as_str()));
    assert_eq!(event.header("cloudEvents:subject").as_deref(), Some(poison.id.to_string().as_str()));
    publisher.raw("task.transfer", b"nonsense", BasicProperties::default()).await;
    let event = events.find("another one", |event| event.body["reason"] == "malformed").await;
    assert_eq!(event.header("cloudEvents:id").as_deref(), Some(event.message_id()));
    world.end(daemon).await;
}

#[tokio::test]
async fn two_deliveries_in_one_batch_are_one_dead_letter_one_event_and_two_replies() {
    let (world, mut daemon) =
        World::with_daemon(&["pipeline.lanes = 1", "pipeline.workers = 1", "events.dead_letters = true"]).await;
    let (events, replies) = (world.events().await, Events::replies(&world).await);
    world.open(["world", "alice"]).await;
    world
        .in_one_batch(&mut daemon, 2, async |publisher| {
            for asker in ["first", "second"] {
                let properties = asking(BasicProperties::default(), &replies.queue, asker);
                publisher.raw("task.transfer", b"nonsense", properties).await;
            }
        })
        .await;
    let ids = [reply(&replies, "first").await, reply(&replies, "second").await].map(|got| got.message_id().to_owned());
    assert_eq!(ids[0], ids[1]);
    assert_eq!(world.dead_letter(b"nonsense").await["attempts"], 2);
    events.find("the event", |event| event.routing_key == "task.dead_lettered").await;
    let last = pay();
    world.publisher().await.publish(&last).await;
    events.of(&last).await;
    assert_eq!(told_of_dead_letters(&events), 1);
    world.end(daemon).await;
}
