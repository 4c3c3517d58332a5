//! What the broker gives up: it expires, the queue is too long, it was delivered too often. It becomes a
//! dead letter like any other.

use futures_util::StreamExt;
use lapin::BasicProperties;
use lapin::options::{BasicConsumeOptions, BasicNackOptions, BasicRejectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use serde_json::json;
use settled_testkit::harness::amqp::{declare_exchange, table};
use settled_testkit::harness::{
    Daemon, Publisher, Task, World, assert_has, declare_queue, eventually, open, servers, transfer,
};
use settled_testkit::servers::PrivateServers;

/// A world whose daemon has run, so that everything is declared, and is stopped; with two accounts.
async fn stopped_world(overrides: &[&str]) -> World {
    let (world, daemon) = World::with_daemon(overrides).await;
    world.open_world_and_alice().await;
    daemon.stop().await;
    world
}

/// Waits until the broker has moved so many messages to its dead-letter queue.
async fn given_up(world: &World, count: u32) {
    eventually("the broker has given it up", async || world.messages(&world.dead_letter_queue).await == count).await;
}

/// Has the policy for this world's task queue until `clear` is called.
async fn policy(servers: &PrivateServers, world: &World, definition: &str) {
    let pattern = format!("^{}$", world.queue.replace('.', "\\."));
    let set = ["set_policy", "--apply-to", "queues", &world.name, &pattern, definition];
    servers.rabbitmqctl(&set).await.expect("a policy");
}

/// What is said of a task that the broker gave up for `reason`, and that it settles when it is replayed.
async fn is_a_dead_letter(world: &World, daemon: &mut Daemon, task: &Task, reason: &str, word: &str) {
    let letter = world.is_dead_letter(task, json!({"reason": reason, "task_id": task.id})).await;
    let detail = letter["detail"].as_str().expect("a text");
    for part in [word, &world.queue, &world.exchange, "task.transfer"] {
        assert!(detail.contains(part), "{part} in {detail}");
    }
    let shown = world.run(&["payment", "show", &task.id.to_string()]).await;
    assert!(format!("{}{}", shown.stdout, shown.stderr).contains("dead letter"), "{shown:?}");
    eventually("nothing is left in the broker", async || world.messages(&world.dead_letter_queue).await == 0).await;
    daemon.counts("settled_dead_letters_open", &[], 1).await;
    world.succeeds(&["dead-letters", "replay", "--reason", reason]).await;
    assert_eq!(world.outcome(task).await["state"], "settled");
}

#[tokio::test]
async fn a_task_that_expires_while_the_daemon_is_away_is_a_dead_letter_with_its_story() {
    let world = stopped_world(&[]).await;
    let task = transfer("world", "alice", 5);
    let publisher = Publisher::only(&world).await;
    publisher.publish_with(&task, Publisher::properties(&task).with_expiration("200".into())).await;
    given_up(&world, 1).await;
    let mut daemon = world.daemon().await;
    daemon.counts("settled_dead_letters_total", &[("reason", "expired")], 1).await;
    is_a_dead_letter(&world, &mut daemon, &task, "expired", "expired").await;
    daemon.counts("settled_dead_letter_queue_depth", &[], 0).await;
    world.end(daemon).await;
}

#[tokio::test]
async fn a_policy_that_drops_tasks_makes_dead_letters_of_them() {
    let servers = servers().await;
    for (definition, reason, word) in
        [(r#"{"message-ttl":100}"#, "expired", "expired"), (r#"{"max-length":1}"#, "queue_full", "maxlen")]
    {
        let world = stopped_world(&[]).await;
        policy(servers, &world, definition).await;
        let publisher = Publisher::only(&world).await;
        // Of two that are too many the older one is dropped.
        let tasks = [transfer("world", "alice", 5), transfer("world", "alice", 6)];
        let dropped = if reason == "expired" { &tasks[..] } else { &tasks[..1] };
        publisher.publish_all(&tasks).await;
        given_up(&world, dropped.len() as u32).await;
        servers.rabbitmqctl(&["clear_policy", &world.name]).await.expect("cleared");
        let mut daemon = world.daemon().await;
        daemon.counts("settled_dead_letters_total", &[("reason", reason)], dropped.len()).await;
        if let [task] = dropped {
            is_a_dead_letter(&world, &mut daemon, task, reason, word).await;
        }
        world.end(daemon).await;
    }
}

#[tokio::test]
async fn what_was_delivered_too_often_is_kept_without_being_read_again() {
    let world = stopped_world(&["broker.delivery_limit = 2"]).await;
    let task = transfer("world", "alice", 5);
    let publisher = Publisher::only(&world).await;
    publisher.publish(&task).await;
    let (connection, channel) = world.channel().await;
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut consumer =
        channel.basic_consume(world.queue.as_str().into(), "crashes".into(), options, none).await.expect("consumes");
    while world.messages(&world.dead_letter_queue).await == 0 {
        // The last one may have been given up meanwhile.
        let next = tokio::time::timeout(std::time::Duration::from_millis(500), consumer.next()).await;
        let Ok(Some(Ok(delivery))) = next else { continue };
        let put_back = BasicNackOptions { requeue: true, multiple: false };
        channel.basic_nack(delivery.delivery_tag, put_back).await.expect("put back");
    }
    // Not only dropped: its consumer would go on getting tasks.
    connection.close(200, "done".into()).await.expect("closed");
    let mut daemon = world.daemon().await;
    is_a_dead_letter(&world, &mut daemon, &task, "delivery_limit", "delivery_limit").await;
    world.end(daemon).await;
}

#[tokio::test]
async fn what_somebody_rejected_or_put_there_is_a_dead_letter_and_nothing_is_acknowledged_before_it() {
    let world = stopped_world(&[]).await;
    let publisher = Publisher::only(&world).await;
    let rejected = transfer("world", "alice", 5);
    publisher.publish(&rejected).await;
    let channel = &publisher.channel;
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let consumer = channel.basic_consume(world.queue.as_str().into(), "other".into(), options, none).await;
    let delivery = consumer.expect("consumes").next().await.expect("a delivery").expect("read");
    channel.basic_reject(delivery.delivery_tag, BasicRejectOptions { requeue: false }).await.expect("rejected");
    // And something that never was a task.
    let exchange = world.dead_letter_exchange.as_str().into();
    let odd = channel.basic_publish(exchange, "x".into(), Default::default(), b"\xff\x00", BasicProperties::default());
    odd.await.expect("published").await.expect("confirmed");
    given_up(&world, 2).await;
    // PostgreSQL takes nothing for a while: it stays in the broker.
    let session = world.lock("LOCK TABLE dead_letter IN ACCESS EXCLUSIVE MODE").await;
    let mut daemon = world.daemon().await;
    let unacknowledged = async || {
        let queues = servers().await.rabbitmqctl(&["list_queues", "-q", "name", "messages", "messages_unacknowledged"]);
        let expected = [world.dead_letter_queue.as_str(), "2", "2"];
        queues.await.expect("queues").lines().any(|line| line.split_whitespace().eq(expected))
    };
    eventually("both are out and not acknowledged", unacknowledged).await;
    session.batch_execute("COMMIT").await.expect("unlocked");
    for body in [rejected.body().as_bytes(), b"\xff\x00"] {
        assert_eq!(world.dead_letter(body).await["reason"], "returned");
    }
    daemon.counts("settled_dead_letters_total", &[("reason", "returned")], 2).await;
    world.end(daemon).await;
    assert_eq!(world.messages(&world.dead_letter_queue).await, 0);
}

#[tokio::test]
async fn where_somebody_else_takes_them_they_stay_and_are_measured() {
    let world = stopped_world(&["broker.take_dead_letters = false"]).await;
    let task = transfer("world", "alice", 5);
    let publisher = Publisher::only(&world).await;
    publisher.publish_with(&task, Publisher::properties(&task).with_expiration("50".into())).await;
    given_up(&world, 1).await;
    let mut daemon = world.daemon().await;
    daemon.counts("settled_dead_letter_queue_depth", &[], 1).await;
    assert_eq!(daemon.readiness().await.0, 200);
    daemon.stop().await;
    given_up(&world, 1).await;
}

#[tokio::test]
async fn a_check_names_what_can_lose_tasks() {
    let world = World::new(&[]).await;
    let channel = &Publisher::only(&world).await.channel;
    declare_exchange(channel, &world.exchange).await;
    let arguments = table(&[
        ("x-queue-type", "quorum".into()),
        ("x-message-ttl", 60_000.into()),
        ("x-max-length", 1000.into()),
        ("x-overflow", "drop-head".into()),
        ("x-expires", 3_600_000.into()),
    ]);
    declare_queue(channel, &world.queue, QueueDeclareOptions::durable(), arguments).await;
    let report = world.prints(&["check", "--connect"]).await;
    assert_has(&report, json!({"ok": true}));
    let warnings = report["warnings"].to_string();
    for part in [
        "x-message-ttl = 60000",
        "x-max-length = 1000",
        "x-overflow = drop-head",
        "x-expires = 3600000",
        "no x-dead-letter-exchange",
        &format!("the dead-letter queue `{}` does not exist", world.dead_letter_queue),
        &format!("the dead-letter exchange `{}` does not exist", world.dead_letter_exchange),
    ] {
        assert!(warnings.contains(part), "{part} in {report:#}");
    }
    // What the daemon declares is no danger.
    let good = stopped_world(&[]).await;
    assert_has(&good.prints(&["check", "--connect"]).await, json!({"warnings": []}));
}

#[tokio::test]
async fn without_a_dead_letter_target_payments_go_on_and_the_log_says_what_is_missing() {
    let world = World::new(&["broker.declare = false"]).await;
    let publisher = world.publisher().await;
    let events = world.events().await;
    let mut daemon = world.daemon().await;
    let task = open("world", "USD", None);
    publisher.publish(&task).await;
    events.of(&task).await;
    eventually("it is said", async || daemon.log().contains("the dead-letter exchange")).await;
    assert_eq!(daemon.readiness().await.0, 200);
    daemon.stop().await;
}
