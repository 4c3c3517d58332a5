//! What a daemon tells whose events go to a stream.

use settled_testkit::harness::{Events, Publisher, Task, World, eventually, own_servers, split, transfer};

use super::{Read, read};

const STREAM: &str = "events.transport = \"stream\"";

fn id(event: &Read) -> String {
    event.properties.message_id().as_ref().expect("an id").to_string()
}

#[tokio::test]
async fn events_go_to_the_stream_and_replies_to_who_asked() {
    let world = World::new(&[STREAM]).await;
    let mut daemon = world.daemon().await;
    let (exchange, replies) = (world.events().await, Events::replies(&world).await);
    world.open_world_and_alice().await;
    let (settled, rejected) = (transfer("world", "alice", 5), transfer("alice", "nobody", 1));
    let publisher = world.publisher().await;
    for payment in [&settled, &rejected] {
        let properties = Publisher::properties(payment).with_reply_to(replies.queue.as_str().into());
        publisher.publish_with(payment, properties).await;
    }
    let told = replies.count(2).await;
    daemon.empties_the_outbox().await;
    let events = read(&world, 4).await;
    assert_eq!(events.len(), 4, "two accounts and two payments, each once");
    for reply in told {
        let id_of_reply = reply.body["id"].as_str().expect("an id");
        let event = events.iter().find(|event| id(event) == format!("{id_of_reply}/1")).expect("its event");
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&event.body).expect("JSON"), reply.body);
    }
    assert!(exchange.all().is_empty(), "nothing goes to the exchange");
    let published = daemon.metric("settled_events_published_total", &[("type", "payment.settled")]).await;
    assert_eq!(published, 2.0, "an event and a reply");
    daemon.stop().await;
}

#[tokio::test]
async fn what_the_stream_cannot_have_is_held_in_the_outbox_and_holds_up_nothing() {
    let servers = own_servers().await;
    // Read when the plugin starts.
    let frames = "application:stop(rabbitmq_stream), application:set_env(rabbitmq_stream, frame_max, 16384), \
                  application:start(rabbitmq_stream).";
    servers.rabbitmqctl(&["eval", frames]).await.expect("frames are short");
    let world = World::on(&servers, &[STREAM]).await;
    let mut daemon = world.daemon().await;
    world.open_world_and_alice().await;
    // A task whose event with all its balances is longer than a frame.
    let large = split(&[("world", "alice", 1); 64]);
    let mut tasks: Vec<Task> = (0..50).map(|_| transfer("world", "alice", 1)).collect();
    tasks.insert(25, large.clone());
    world.settle(&tasks).await;
    let row = "INSERT INTO stream_outbox (events, body) VALUES (1, 'no event')";
    world.sql().await.batch_execute(row).await.expect("a row that can't be read");
    daemon.counts("settled_outbox_held", &[], 2).await;
    eventually("all rows are dealt with", async || world.count("stream_outbox").await == 0).await;
    let held = world.run(&["outbox", "list", "--json"]).await.json();
    let keys: Vec<&str> =
        held.as_array().expect("a list").iter().map(|row| row["key"].as_str().expect("a key")).collect();
    assert!(keys.contains(&"unreadable") && keys.contains(&"payment.settled"), "{held}");
    assert!(held.to_string().contains("frame"), "{held}");
    let ids: Vec<String> = read(&world, 52).await.iter().map(id).collect();
    assert_eq!(ids.len(), 52);
    assert!(!ids.contains(&format!("{}/1", large.id)));
    daemon.stop().await;
    servers.shutdown().await.expect("the servers end");
}
