//! What the world is told: CloudEvents on an exchange, replies to who asks.

use std::collections::BTreeSet;

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use serde_json::{Value, json};
use settled_testkit::harness::amqp::table;
use settled_testkit::harness::{
    Events, Publisher, Received, SOON, Task, World, assert_has, bind, declare_queue, eventually, open, transfer, within,
};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn accounts() -> [Task; 2] {
    [open("world", "USD", None), open("alice", "USD", Some(0))]
}

#[tokio::test]
async fn a_transfer_settles_in_rows_and_metrics_and_its_persistent_cloud_event_carries_the_trace_on() {
    let (world, mut daemon, publisher) = World::at_work(&["events.source = \"https://example.com/eu\""]).await;
    let events = world.events().await;
    let opened = accounts();
    world.settle(&opened).await;
    let pay =
        transfer("world", "alice", 5).with("reference", "order-1").with("metadata", json!({"z": "1", "a": "web"}));
    let headers = table(&[("traceparent", TRACE.into()), ("tracestate", "vendor=1".into())]);
    publisher.publish_with(&pay, Publisher::properties(&pay).with_headers(headers)).await;

    let event = events.of(&pay).await;
    let id = format!("{}/1", pay.id);
    assert_eq!((event.message_id(), event.correlation_id()), (id.as_str(), pay.id.to_string().as_str()));
    assert_eq!(event.properties.delivery_mode(), &Some(2), "persistent");
    assert_eq!(content_type(&event), "application/json");
    assert_eq!((&event.exchange, event.routing_key.as_str()), (&world.events_exchange, "payment.settled"));
    let after = |account, posted| json!({"account": account, "posted": posted, "held": 0, "version": 1});
    let balances = [after("world", -5), after("alice", 5)];
    assert_has(&event.body, json!({"state": "settled", "balances": balances}));
    let payment = world.outcome(&pay).await;
    for field in ["id", "type", "debit_account", "credit_account", "amount", "currency", "reference", "metadata"] {
        assert_eq!(payment[field], pay.json[field], "{field}");
    }
    assert_has(&payment, json!({"state": "settled", "publisher": "behaviour"}));
    assert_eq!(
        (&world.account("world").await["posted"], &world.account("alice").await["posted"]),
        (&json!(-5), &json!(5))
    );
    daemon.counts("settled_outcomes_total", &[("type", "transfer"), ("outcome", "settled")], 1).await;
    let told = events.of(&opened[0]).await;
    assert_eq!((told.routing_key.as_str(), &told.body["min_balance"]), ("account.opened", &json!(null)));
    let ledger = world.row("the ledger", "SELECT incarnation FROM ledger", &[]).await;
    let source = format!("https://example.com/eu/{}", ledger["incarnation"].as_str().expect("an incarnation"));
    let attributes = [
        ("specversion", "1.0"),
        ("id", &id),
        ("source", &source),
        ("type", "payment.settled"),
        ("subject", &pay.id.to_string()),
    ];
    for (name, value) in attributes {
        assert_eq!(event.header(&format!("cloudEvents:{name}")).as_deref(), Some(value), "{name}");
    }
    let time: jiff::Timestamp = event.header("cloudEvents:time").expect("a time").parse().expect("RFC 3339");
    let stored: jiff::Timestamp = payment["settled_at"].as_str().expect("a time").parse().expect("a time");
    assert_eq!(time, stored);
    assert_eq!(event.header("traceparent").as_deref(), Some(TRACE));
    assert_eq!(event.header("tracestate").as_deref(), Some("vendor=1"));
    assert_has(&event.body, json!({"version": 1, "publisher": "behaviour"}));
    let untraced = events.of(&transferred(&world, &publisher).await).await;
    assert_eq!(untraced.header("traceparent"), None);
    world.audit().await;
}

fn content_type(message: &Received) -> &str {
    message.properties.content_type().as_ref().map_or("", |kind| kind.as_str())
}

async fn transferred(world: &World, publisher: &Publisher) -> Task {
    let pay = transfer("world", "alice", 1);
    publisher.publish(&pay).await;
    world.outcome(&pay).await;
    pay
}

#[tokio::test]
async fn the_batch_format_puts_the_events_of_a_type_into_one_message() {
    let (world, mut daemon) = World::with_daemon(&[
        "events.format = \"batch\"",
        "events.batch_events = 50",
        "pipeline.lanes = 1",
        "pipeline.workers = 1",
    ])
    .await;
    let (events, replies) = (world.events().await, Events::replies(&world).await);
    let mut tasks = accounts().to_vec();
    tasks.extend((0..120).map(|_| transfer("world", "alice", 1)));
    tasks.push(transfer("alice", "world", 500));
    let asked = transfer("world", "alice", 1);
    world
        .in_one_batch(&mut daemon, 124, async |publisher| {
            publisher.publish_all(&tasks).await;
            let properties = Publisher::properties(&asked).with_reply_to(replies.queue.as_str().into());
            publisher.publish_with(&asked, properties).await;
        })
        .await;
    let told = |events: &Events| -> Vec<Value> {
        events.all().iter().flat_map(|message| message.body.as_array().expect("an array").clone()).collect()
    };
    // One more for the task that stood at the gate.
    eventually("all events", async || told(&events).len() >= tasks.len() + 2).await;
    for message in events.all() {
        let batch = message.body.as_array().expect("an array");
        assert!((1..=50).contains(&batch.len()));
        assert_eq!(content_type(&message), "application/cloudevents-batch+json");
        let fields = json!({"type": message.routing_key, "specversion": "1.0"});
        batch.iter().for_each(|event| assert_has(event, fields.clone()));
    }
    assert!(events.all().len() <= 7, "{} messages", events.all().len());
    let subjects: BTreeSet<String> = told(&events).iter().map(|event| event["subject"].to_string()).collect();
    assert!(tasks.iter().chain([&asked]).all(|task| subjects.contains(&json!(task.id).to_string())));
    // A reply is for one asker: it stays single.
    assert_eq!(replies.count(1).await[0].body["id"], json!(asked.id));
    world.audit().await;
}

#[tokio::test]
async fn an_event_that_a_full_queue_refuses_is_held_and_the_relay_goes_on() {
    let (world, mut daemon, publisher) = World::at_work(&["events.retry_held = \"1s\""]).await;
    let full = format!("{}.full", world.queue);
    let arguments = table(&[("x-max-length", 0.into()), ("x-overflow", "reject-publish".into())]);
    let channel = &publisher.channel;
    declare_queue(channel, &full, QueueDeclareOptions::default(), arguments).await;
    bind(channel, &full, &world.events_exchange, "#").await;

    let tasks = accounts();
    world.settle(&tasks).await;
    daemon.counts("settled_outbox_held", &[], tasks.len()).await;
    assert!(daemon.metric("settled_reconnects_total", &[("connection", "relay")]).await < 1.0, "{}", daemon.log());

    channel.queue_delete(full.as_str().into(), QueueDeleteOptions::default()).await.expect("deleted");
    let events = world.events().await;
    for task in &tasks {
        events.of(task).await;
    }
    daemon.empties_the_outbox().await;
    world.audit().await;
}

#[tokio::test]
async fn an_event_that_no_queue_takes_is_held_until_one_is_bound() {
    let (world, mut daemon, publisher) = World::at_work(&["events.retry_held = \"1s\""]).await;
    let mut tasks = accounts().to_vec();
    tasks.extend((0..20).map(|_| transfer("world", "alice", 1)));
    tasks.push(transfer("alice", "world", 1_000));
    publisher.publish_all(&tasks).await;
    daemon.counts("settled_outbox_held", &[], tasks.len()).await;
    assert_eq!(daemon.readiness().await.0, 200, "payments go on");

    let rejected = Events::bound(&world, "payment.rejected").await;
    rejected.of(&tasks[tasks.len() - 1]).await;
    daemon.stop().await;
    let mut daemon = world.daemon().await;
    let settled = Events::bound(&world, "payment.settled").await;
    let opened = Events::bound(&world, "account.*").await;
    for task in &tasks[2..tasks.len() - 1] {
        settled.of(task).await;
    }
    for task in &tasks[..2] {
        opened.of(task).await;
    }
    daemon.empties_the_outbox().await;
    assert_eq!(world.audit().await["totals"]["outbox"]["rows"], 0);
}

#[tokio::test]
async fn an_event_that_no_queue_takes_is_discarded_where_that_is_asked_for() {
    let (world, mut daemon, publisher) = World::at_work(&["events.unroutable = \"discard\""]).await;
    world.open_world_and_alice().await;
    daemon.counts("settled_events_unroutable_total", &[("action", "discarded")], 2).await;
    let events = world.events().await;
    events.of(&transferred(&world, &publisher).await).await;
    assert_eq!(events.all().len(), 1, "what was discarded is gone");
    daemon.stop().await;
    assert_eq!(world.audit().await["totals"]["outbox"]["rows"], 0);
}

#[tokio::test]
async fn a_reply_goes_to_who_asked_and_a_reply_queue_that_is_gone_harms_nobody() {
    let (world, mut daemon, publisher) = World::at_work(&[]).await;
    let (events, replies) = (world.events().await, Events::replies(&world).await);
    world.open_world_and_alice().await;
    let (nobody, asked, declined) =
        (transfer("world", "alice", 1), transfer("world", "alice", 2), transfer("alice", "world", 99));
    let ask = |task: &Task, queue: &str| {
        Publisher::properties(task).with_reply_to(queue.into()).with_correlation_id(format!("mine {queue}").into())
    };
    publisher.publish_with(&nobody, ask(&nobody, "no.such.queue")).await;
    for task in [&asked, &declined] {
        publisher.publish_with(task, ask(task, &replies.queue)).await;
    }
    let got = replies.count(2).await;
    for (reply, task) in got.iter().zip([&asked, &declined]) {
        assert_eq!(reply.correlation_id(), format!("mine {}", replies.queue));
        let event = events.of(task).await;
        assert_eq!(reply.body, event.body);
        assert_eq!(reply.header("cloudEvents:id"), event.header("cloudEvents:id"));
        assert_eq!(reply.properties.kind(), event.properties.kind());
    }
    assert_has(&got[1].body, json!({"reason": "insufficient_funds", "state": "rejected"}));
    events.of(&nobody).await;
    daemon.counts("settled_events_unroutable_total", &[("action", "discarded")], 1).await;
    daemon.empties_the_outbox().await;
    world.audit().await;
}

#[tokio::test]
async fn who_asks_by_direct_reply_to_is_answered_without_a_queue() {
    let (world, _daemon, publisher) = World::at_work(&["events.unroutable = \"discard\""]).await;
    world.open_world_and_alice().await;
    // RabbitMQ wants consumer and publisher on one channel.
    let replies = Events::direct(&publisher.channel).await;
    let pay = transfer("world", "alice", 3);
    publisher.publish_with(&pay, Publisher::properties(&pay).with_reply_to("amq.rabbitmq.reply-to".into())).await;
    assert_eq!(replies.count(1).await[0].body["id"], json!(pay.id));
    world.audit().await;
}

#[tokio::test]
async fn long_rows_that_pile_up_are_read_back_a_few_at_a_time() {
    const ROWS: usize = 200;
    let (world, daemon) = World::with_daemon(&[]).await;
    daemon.stop().await;
    let channel = &Publisher::only(&world).await.channel;
    // Nobody reads them, and the broker keeps one.
    let (queue, arguments) = (format!("{}.one", world.queue), table(&[("x-max-length", 1.into())]));
    declare_queue(channel, &queue, QueueDeclareOptions::default(), arguments).await;
    bind(channel, &queue, &world.events_exchange, "#").await;
    let insert = format!(
        "INSERT INTO outbox (leased_until, events, body)
         SELECT now() - interval '1 minute', 1, convert_to(format('{{\"id\":\"%s/1\",\"source\":\"s\",\
         \"type\":\"payment.settled\",\"subject\":\"s\",\"time\":\"t\",\"data\":{{\"a\":\"%s\"}}}}', n, \
         repeat('x', 1024 * 1024)) || chr(10), 'UTF8') FROM generate_series(1, {ROWS}) AS n"
    );
    world.sql().await.batch_execute(&insert).await.expect("rows");
    let mut daemon = world.daemon().await;
    within(SOON * 3, "all of it is published", async || {
        daemon.metric("settled_events_published_total", &[("type", "payment.settled")]).await >= ROWS as f64
    })
    .await;
    daemon.empties_the_outbox().await;
    let peak = daemon.memory("VmHWM:") >> 20;
    println!("the daemon had {peak} MiB at its largest");
    assert!(peak < 256, "{peak} MiB at its largest, for rows of 200 MiB");
    daemon.stop().await;
}
