//! Messages that a client library can't read: each is a dead letter that names the property, whatever the queue
//! does with messages that come again.

use lapin::options::QueueDeclareOptions;
use serde_json::{Value, json};
use settled_testkit::harness::amqp::{declare_exchange, table};
use settled_testkit::harness::raw::{self, Raw, RawPublisher, short};
use settled_testkit::harness::{Publisher, Task, World, bind, declare_queue, eventually, transfer};

/// A world whose task queue was declared beforehand, with these arguments.
async fn world(arguments: &[(&str, Value)]) -> World {
    let world = World::new(&[]).await;
    let publisher = Publisher::only(&world).await;
    declare_exchange(&publisher.channel, &world.exchange).await;
    declare_queue(&publisher.channel, &world.queue, QueueDeclareOptions::durable(), table(arguments)).await;
    bind(&publisher.channel, &world.queue, &world.exchange, "#").await;
    world
}

/// A header with this name on the wire.
fn header(name: &[u8]) -> Vec<u8> {
    [&short(name)[..], b"S", &raw::table(b"a text")].concat()
}

/// A transfer with one thing that can't be read, and what the dead letter says about it.
struct Odd {
    task: Task,
    routing_key: Vec<u8>,
    properties: Vec<(&'static str, Vec<u8>)>,
    field: &'static str,
    detail: &'static str,
}

fn odd() -> Vec<Odd> {
    let with = |routing_key: &[u8], properties: Vec<(&'static str, Vec<u8>)>, field, detail| {
        let task = transfer("world", "alice", 1_000_000);
        Odd { task, routing_key: routing_key.to_vec(), properties, field, detail }
    };
    let strings = ["content_type", "content_encoding", "correlation_id", "reply_to", "message_id", "type", "app_id"];
    let mut all: Vec<Odd> = strings
        .into_iter()
        .chain(["cluster_id"])
        .map(|name| with(b"task.transfer", vec![(name, short(b"B\xfccher"))], name, r"`B\xfccher` is not UTF-8"))
        .collect();
    let nested = [&short(b"outer")[..], b"F", &raw::table(&header(b"na\xefve"))].concat();
    // An array in an array, and so on. The length of what is inside comes first.
    let deep: Vec<u8> =
        (0..20_000u32).rev().flat_map(|inside| [&b"A"[..], &(inside * 5).to_be_bytes()].concat()).collect();
    for (name, entries, detail) in [
        ("a name", header(b"na\xefve"), r"the name `na\xefve` is not UTF-8"),
        ("a name inside", nested, r"the name `na\xefve` is not UTF-8"),
        ("depth", [&short(b"deep")[..], &deep].concat(), "nested too deeply"),
    ] {
        let app_id = ("app_id", short(name.as_bytes()));
        all.push(with(b"task.transfer", vec![("headers", raw::table(&entries)), app_id], "headers", detail));
    }
    all.push(with(b"task.transf\xe9r", vec![], "routing_key", r"`task.transf\xe9r` is not UTF-8"));
    let both = vec![("correlation_id", short(b"\xff")), ("app_id", short(b"\xfe"))];
    all.push(with(b"task.transfer", both, "correlation_id", r"`\xff` is not UTF-8; `app_id`: `\xfe` is not UTF-8"));
    all
}

/// Publishes tasks with odd ones in between; all of them must come to what they should, over one connection.
async fn each_comes_to_what_it_should(world: &World) {
    let mut daemon = world.daemon().await;
    let publisher = Publisher::only(world).await;
    world.open(["world", "alice"]).await;
    let mut odd_one = RawPublisher::connect(&world.amqp_uri, &world.exchange).await;
    let (all, mut good) = (odd(), Vec::new());
    for odd in &all {
        let neighbours: Vec<Task> = (0..20).map(|_| transfer("world", "alice", 1)).collect();
        publisher.publish_all(&neighbours).await;
        good.extend(neighbours);
        let body = odd.task.body();
        let raw = Raw { routing_key: &odd.routing_key, properties: &odd.properties, body: body.as_bytes() };
        odd_one.publish(raw).await;
    }
    let after: Vec<Task> = (0..20).map(|_| transfer("world", "alice", 1)).collect();
    publisher.publish_all(&after).await;
    good.extend(after);

    world.all_are("settled", &good).await;
    for odd in &all {
        let letter = world.dead_letter(odd.task.body().as_bytes()).await;
        let said = (&letter["reason"], &letter["field"], &letter["task_id"]);
        assert_eq!(said, (&json!("malformed"), &json!(odd.field), &json!(odd.task.id)), "{letter}");
        assert!(letter["detail"].as_str().is_some_and(|detail| detail.contains(odd.detail)), "{letter}");
    }
    daemon.counts("settled_dead_letters_total", &[("reason", "malformed")], all.len()).await;
    assert_eq!(daemon.metric("settled_reconnects_total", &[("connection", "intake")]).await, 0.0);
    assert_eq!((daemon.readiness().await.0, daemon.get("/livez").await.0), (200, 200));
    assert_eq!(world.account("alice").await["posted"], good.len());
    eventually("nothing is left in the queue", async || world.waiting().await == 0).await;
    world.end(daemon).await;
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_a_dead_letter_on_a_classic_queue() {
    let world = world(&[("x-queue-type", "classic".into())]).await;
    each_comes_to_what_it_should(&world).await;
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_a_dead_letter_on_a_quorum_queue_without_a_delivery_limit() {
    let world = world(&[("x-queue-type", "quorum".into())]).await;
    each_comes_to_what_it_should(&world).await;
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_a_dead_letter_on_the_daemons_own_queue() {
    // A limit that counts no delivery, and batches as they come.
    let world = World::new(&["broker.delivery_limit = 1", "broker.prefetch = 40", "pipeline.max_batch = 10"]).await;
    each_comes_to_what_it_should(&world).await;
    assert_eq!(world.messages(&world.dead_letter_queue).await, 0, "the broker gave none up");
}
