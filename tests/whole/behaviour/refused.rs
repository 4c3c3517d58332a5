//! Events that the broker refuses by closing the channel: they are found and held, and the others go on.

use std::collections::BTreeMap;

use settled_testkit::harness::{
    Events, Publisher, Task, World, eventually, open, own_servers, servers, split, transfer,
};
use settled_testkit::servers::PrivateServers;
use uuid::Uuid;

/// A user of the broker with all rights but to write to exchanges that match `forbidden`.
async fn user(servers: &PrivateServers, forbidden: &str) -> String {
    let name = format!("u_{}", Uuid::now_v7().simple());
    servers.rabbitmqctl(&["add_user", &name, "secret"]).await.expect("a user");
    permit(servers, &name, &format!("^(?!{forbidden}).*")).await;
    name
}

async fn permit(servers: &PrivateServers, user: &str, write: &str) {
    servers.rabbitmqctl(&["set_permissions", user, ".*", write, ".*"]).await.expect("permissions");
}

/// A world whose daemon connects as this user.
async fn world_of(servers: &PrivateServers, user: &str, overrides: &[&str]) -> World {
    let mut world = World::on(servers, &[]).await;
    world.amqp_uri = servers.amqp_uri().replace("guest:guest", &format!("{user}:secret"));
    world.configure(overrides);
    // Whoever publishes is somebody else.
    world.amqp_uri = servers.amqp_uri().to_owned();
    world
}

/// The most often that one of these events came.
fn most_often(events: &Events) -> usize {
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for event in events.all() {
        *times.entry(event.message_id().to_owned()).or_default() += 1;
    }
    times.into_values().max().unwrap_or(0)
}

/// The number of events that came, alone or in batches.
fn told(events: &Events) -> usize {
    events.all().iter().map(|event| event.body.as_array().map_or(1, Vec::len)).sum()
}

#[tokio::test]
async fn replies_that_the_daemon_may_not_send_hold_up_no_events_and_go_out_once_it_may() {
    let servers = servers().await;
    let user = user(servers, "amq\\.default$").await;
    for format in ["single", "batch"] {
        let format = format!("events.format = \"{format}\"");
        let world = world_of(servers, &user, &["events.retry_held = \"1s\"", "events.publishers = 3", &format]).await;
        permit(servers, &user, "^(?!amq\\.default$).*").await;
        let (events, replies) = (world.events().await, Events::replies(&world).await);
        let mut daemon = world.daemon().await;
        let mut tasks = vec![open("world", "USD", None), open("alice", "USD", Some(0))];
        tasks.extend((0..200).map(|_| transfer("world", "alice", 1)));
        let publisher = world.publisher().await;
        for (number, task) in tasks.iter().enumerate() {
            let properties = Publisher::properties(task);
            let asking = properties.clone().with_reply_to(replies.queue.as_str().into());
            publisher.publish_with(task, if number % 40 == 7 { asking } else { properties }).await;
        }
        world.all_are("settled", &tasks).await;
        daemon.counts("settled_outbox_refused", &[], 5).await;
        eventually("everybody's events have come", async || told(&events) >= tasks.len()).await;
        assert!(most_often(&events) <= 9, "{} times", most_often(&events));
        assert!(daemon.metric("settled_events_refused_total", &[("reason", "access_refused")]).await >= 5.0);
        let reconnects = daemon.metric("settled_reconnects_total", &[("connection", "relay")]).await;
        assert!(reconnects < 1.0, "{reconnects} reconnects\n{}", daemon.log());
        let held = world.run(&["outbox", "list", "--json"]).await.json();
        let rows = held.as_array().expect("rows");
        assert!(!rows.is_empty() && rows.iter().all(|row| row["key"] == "reply"), "{held}");
        assert!(rows[0]["reason"].as_str().is_some_and(|reason| reason.contains("amq.default")), "{held}");

        permit(servers, &user, ".*").await;
        replies.count(5).await;
        daemon.empties_the_outbox().await;
        world.end(daemon).await;
    }
}

#[tokio::test]
async fn events_that_the_daemon_may_not_publish_are_held_and_go_out_once_it_may() {
    let servers = servers().await;
    let user = user(servers, ".*events$").await;
    let world = world_of(servers, &user, &["events.retry_held = \"1s\""]).await;
    let events = world.events().await;
    let mut daemon = world.daemon().await;
    let mut tasks = vec![open("world", "USD", None), open("alice", "USD", Some(0))];
    tasks.extend((0..300).map(|_| transfer("world", "alice", 1)));
    world.settle(&tasks).await;
    daemon.counts("settled_outbox_refused", &[], tasks.len()).await;
    assert_eq!(daemon.readiness().await.0, 200, "payments go on");
    permit(servers, &user, ".*").await;
    for task in &tasks {
        events.of(task).await;
    }
    daemon.empties_the_outbox().await;
    assert_eq!(most_often(&events), 1);
    world.audit().await;
}

#[tokio::test]
async fn an_event_larger_than_the_broker_takes_is_held_alone_and_goes_out_when_the_limit_is_raised() {
    let servers = own_servers().await;
    let limit = async |bytes: u32| {
        // RabbitMQ 4 copies the setting at its start.
        let set = format!(
            "application:set_env(rabbit, max_message_size, {bytes}), persistent_term:put(max_message_size, {bytes})."
        );
        servers.rabbitmqctl(&["eval", &set]).await.expect("set");
    };
    limit(16_384).await;
    for format in ["single", "batch"] {
        let format = format!("events.format = \"{format}\"");
        let world = World::on(&servers, &["events.retry_held = \"1s\"", &format]).await;
        let events = world.events().await;
        let mut daemon = world.daemon().await;
        world.open_world_and_alice().await;
        // A task that the broker takes, whose event with all its balances is longer.
        let large = split(&[("world", "alice", 1); 64]);
        let mut tasks: Vec<Task> = (0..150).map(|_| transfer("world", "alice", 1)).collect();
        tasks.insert(75, large.clone());
        world.settle(&tasks).await;
        daemon.counts("settled_outbox_refused", &[], 1).await;
        eventually("the others have come", async || told(&events) > tasks.len()).await;
        assert!(most_often(&events) <= 9, "{} times", most_often(&events));
        let held = world.run(&["outbox", "list", "--json"]).await.json();
        assert!(held[0]["reason"].as_str().is_some_and(|reason| reason.contains("message size")), "{held}");
        let id = held[0]["id"].to_string();
        let shown = world.run(&["outbox", "show", &id]).await;
        assert!(shown.stdout.contains(&large.id.to_string()), "{shown:?}");

        limit(1 << 24).await;
        world.succeeds(&["outbox", "retry", "--all"]).await;
        // Channels keep the limit that they were opened with: the next refusal opens another one.
        eventually("the large one, too", async || told(&events) >= tasks.len() + 2).await;
        daemon.empties_the_outbox().await;
        world.end(daemon).await;
        limit(16_384).await;
    }
    a_replay_goes_on_behind_a_letter_that_is_refused(&servers, limit).await;
    servers.shutdown().await.expect("the servers end");
}

/// On the same servers, which take a while to start.
async fn a_replay_goes_on_behind_a_letter_that_is_refused(servers: &PrivateServers, limit: impl AsyncFn(u32)) {
    let world = World::on(servers, &[]).await;
    let daemon = world.daemon().await;
    let publisher = world.publisher().await;
    let bodies = [vec![b'x'; 10_000], b"x".to_vec()];
    for body in &bodies {
        publisher.raw("task.transfer", body, lapin::BasicProperties::default()).await;
        world.dead_letter(body).await;
    }
    daemon.stop().await;
    limit(4096).await;
    let replayed = world.run(&["dead-letters", "replay", "--all", "--json"]).await;
    let report = replayed.json();
    assert_eq!(replayed.code, 1, "{replayed:?}");
    assert_eq!(report["done"].as_array().map(Vec::len), Some(1), "{report}");
    let refused = report["refused"][0]["reason"].as_str().unwrap_or_default();
    assert!(refused.contains("message size"), "{report}");
    let open = world.run(&["dead-letters", "list", "--json"]).await.json();
    assert_eq!(open.as_array().map(Vec::len), Some(1), "{open}");
}

#[tokio::test]
async fn what_an_operator_gives_up_is_never_published_and_is_kept_with_the_reason() {
    let (world, mut daemon) = World::with_daemon(&["events.retry_held = \"60s\""]).await;
    let task = open("world", "USD", None);
    world.publisher().await.publish(&task).await;
    daemon.counts("settled_outbox_held", &[], 1).await;
    let held = world.run(&["outbox", "list", "--json"]).await.json();
    let id = held[0]["id"].to_string();
    world.succeeds(&["outbox", "discard", &id, "--reason", "nobody listens"]).await;
    assert_eq!(world.run(&["outbox", "discard", &id, "--reason", "again"]).await.code, 1);
    daemon.empties_the_outbox().await;
    let kept = world.rows("SELECT reason, events, held_key FROM outbox_discarded", &[]).await;
    assert_eq!(kept[0], serde_json::json!({ "reason": "nobody listens", "events": 1, "held_key": "account.opened" }));
    world.audit().await;
}
