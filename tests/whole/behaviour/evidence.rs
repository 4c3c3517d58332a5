//! A dead letter keeps all that came, and is replayed as it came.

use lapin::BasicProperties;
use lapin::options::{BasicGetOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};
use settled_testkit::harness::amqp::table;
use settled_testkit::harness::{Publisher, World, assert_has, bind, declare_queue, eventually, open};
use uuid::Uuid;

/// Another queue that gets what the queue of the tasks gets.
async fn witness(world: &World, publisher: &Publisher) -> String {
    let (channel, queue) = (&publisher.channel, format!("{}.witness", world.name));
    let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
    declare_queue(channel, &queue, exclusive, FieldTable::default()).await;
    bind(channel, &queue, &world.exchange, "#").await;
    queue
}

async fn take(publisher: &Publisher, queue: &str) -> lapin::message::Delivery {
    let mut taken = None;
    eventually("a message in the witness", async || {
        let got = publisher.channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.expect("an answer");
        taken = got.map(|got| got.delivery);
        taken.is_some()
    })
    .await;
    taken.expect("a message")
}

fn headers() -> FieldTable {
    let mut inner = FieldTable::default();
    inner.insert("tries".into(), AMQPValue::FieldArray(vec![AMQPValue::LongInt(1), AMQPValue::Boolean(false)].into()));
    let mut headers = table(&[("x-shop", "berlin".into()), ("x-count", 7.into()), ("traceparent", "00-1-2-01".into())]);
    headers.insert("x-raw".into(), AMQPValue::LongString(vec![0, 0xff].into()));
    headers.insert("x-nested".into(), AMQPValue::FieldTable(inner));
    headers
}

/// Every property there is.
fn whole() -> BasicProperties {
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_headers(headers())
        .with_delivery_mode(2)
        .with_priority(3)
        .with_correlation_id("mine".into())
        .with_expiration("3600000".into())
        .with_message_id(Uuid::now_v7().to_string().into())
        .with_timestamp(1_700_000_000)
        .with_type("shop.Payment".into())
        .with_user_id("guest".into())
        .with_app_id("shop\0".into())
        .with_cluster_id("eu".into())
}

fn id_of(letter: &Value) -> String {
    letter["id"].to_string()
}

#[tokio::test]
async fn a_dead_letter_keeps_every_property_and_header_and_is_replayed_with_them() {
    let (world, _daemon, publisher) = World::at_work(&[]).await;
    let witness = witness(&world, &publisher).await;
    publisher.raw("task.odd", b"{}", whole()).await;
    let letter = world.dead_letter(b"{}").await;
    let (kept, evidence) = (&letter["properties"], &letter["properties"]["evidence"]);
    let properties = json!({"user_id": "guest", "publisher": "guest", "exchange": world.exchange,
                            "routing_key": "task.odd", "delivery_mode": 2, "redelivered": null});
    assert_has(kept, properties);
    let few_have = json!({"content_encoding": "utf-8", "type": "shop.Payment", "priority": 3, "expiration": "3600000",
                          "cluster_id": "eu"});
    assert_has(evidence, few_have);
    assert_has(&evidence["headers"], json!({"x-count": {"i64": 7}, "x-raw": {"text_bytes": "00ff"}}));

    let came = take(&publisher, &witness).await;
    let replayed = world.succeeds(&["dead-letters", "replay", &id_of(&letter)]).await;
    assert!(replayed.contains("published without `expiration`"), "{replayed}");
    let again = take(&publisher, &witness).await;
    assert_eq!((&again.exchange, &again.routing_key, &again.data), (&came.exchange, &came.routing_key, &came.data));
    // With it the message could be gone before it is taken.
    assert_eq!(again.properties.clone().with_expiration("3600000".into()), came.properties);
    let twice = "SELECT 1 FROM dead_letter HAVING count(*) = 1 AND min(attempts) = 2";
    world.row("it is another attempt on the same row", twice, &[]).await;
}

#[tokio::test]
async fn what_came_straight_to_the_queue_is_replayed_there_and_without_another_users_name() {
    let (world, _daemon, publisher) = World::at_work(&[]).await;
    let witness = witness(&world, &publisher).await;
    world.straight_to_its_queue(b"{}", BasicProperties::default()).await;
    let letter = world.dead_letter(b"{}").await;
    assert_eq!(letter["properties"]["exchange"], "");
    // As if another user had published it.
    let other = r#"UPDATE dead_letter SET properties = properties || '{"user_id": "shop", "app_id": "till"}'"#;
    world.sql().await.batch_execute(other).await.expect("changed");
    let replayed = world.run(&["dead-letters", "replay", "--all", "--json"]).await;
    assert_eq!((replayed.code, &replayed.json()["left_out"]), (0, &json!({"user_id": [letter["id"]]})), "{replayed:?}");
    world.row("it came again", "SELECT 1 FROM dead_letter WHERE attempts = 2", &[]).await;
    let got = publisher.channel.basic_get(witness.as_str().into(), BasicGetOptions { no_ack: true }).await;
    assert!(got.expect("an answer").is_none(), "it went through the exchange");
}

#[tokio::test]
async fn the_id_of_an_unreadable_message_is_known_as_that_of_a_dead_letter() {
    let (world, _daemon, publisher) = World::at_work(&[]).await;
    let (zipped, other) = (Uuid::now_v7(), Uuid::now_v7());
    let named = |id: Uuid| BasicProperties::default().with_message_id(id.to_string().to_uppercase().into());
    publisher.raw("task.transfer", b"\x1f\x8b\x08\x00", named(zipped)).await;
    // The body has another id, by which alone the letter is indexed.
    let body = open("alice", "USD", None).body();
    publisher.raw("task.open_account", body.as_bytes(), named(other)).await;
    let unreadable = [(&b"\x1f\x8b\x08\x00"[..], zipped, "gzip-compressed"), (body.as_bytes(), other, "message_id")];
    for (body, id, detail) in unreadable {
        let letter = world.dead_letter(body).await;
        let shown = world.run(&["payment", "show", &id.to_string()]).await;
        let named = format!("its message is dead letter {}", letter["id"]);
        assert!(shown.code == 1 && shown.stderr.contains(&named) && shown.stderr.contains(detail), "{shown:?}");
    }
    let shown = world.run(&["payment", "show", &Uuid::now_v7().to_string()]).await;
    assert!(shown.stderr.contains("may be on its way"), "{shown:?}");
}

#[tokio::test]
async fn a_body_that_is_no_text_is_shown_as_bytes() {
    let (world, _daemon, publisher) = World::at_work(&[]).await;
    let wide: Vec<u8> = r#"{"id": 7}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
    publisher.raw("task.transfer", &wide, BasicProperties::default()).await;
    let letter = world.dead_letter(&wide).await;
    assert!(letter["detail"].as_str().expect("text").contains("UTF-16"), "{letter}");
    let shown = world.run(&["dead-letters", "show", &id_of(&letter)]).await;
    assert!(shown.stdout.contains("18 bytes that are no text") && shown.stdout.contains("7b00220069"), "{shown:?}");
    assert!(!shown.stdout.contains('\0'), "{shown:?}");
    let shown = world.run(&["dead-letters", "show", &id_of(&letter), "--json"]).await.json();
    assert!(shown["body"].is_null(), "{shown}");
    assert!(shown["body_hex"].as_str().is_some_and(|hex| hex.starts_with("7b00")), "{shown}");
}

#[tokio::test]
async fn a_dead_letter_of_the_version_before_is_replayed_too() {
    let (world, _daemon) = World::with_daemon(&[]).await;
    let _declared = world.publisher().await;
    let task = open("alice", "USD", None);
    let properties = json!({"content_type": "application/json", "message_id": task.id, "publisher": "shop",
                            "timestamp": 1_700_000_000, "routing_key": "task.open_account"});
    let row = "INSERT INTO dead_letter (digest, reason, detail, body, properties, first_seen, last_seen)
               VALUES ('1', 'unprocessable', 'a constraint', $1, $2, now(), now())";
    world.sql().await.execute(row, &[&task.body().as_bytes(), &properties]).await.expect("a row");
    assert_eq!(world.succeeds(&["dead-letters", "replay", "--all"]).await, "1 dead letter replayed\n");
    assert_eq!(world.outcome(&task).await["publisher"], "shop");
}

#[tokio::test]
async fn a_header_that_is_too_long_is_cut_and_that_is_said() {
    let (world, _daemon, publisher) = World::at_work(&[]).await;
    let witness = witness(&world, &publisher).await;
    let long = "x".repeat(100 << 10);
    let headers = table(&[("long", long.into()), ("x-death", "once".into()), ("short", 7.into())]);
    publisher.raw("task.transfer", b"{}", BasicProperties::default().with_headers(headers)).await;
    let letter = world.dead_letter(b"{}").await;
    let evidence = &letter["properties"]["evidence"];
    assert_eq!((&evidence["cut"], &evidence["headers"]["short"]), (&json!(["long"]), &json!({"i64": 7})));
    assert!(evidence["headers"]["long"]["text"].as_str().is_some_and(|text| text.len() == 256), "{letter}");
    take(&publisher, &witness).await;
    let replayed = world.run(&["dead-letters", "replay", &id_of(&letter)]).await;
    assert!(replayed.stdout.contains("published without `headers`: they were too long"), "{replayed:?}");
    let again = take(&publisher, &witness).await;
    let names: Vec<String> =
        again.properties.headers().iter().flat_map(FieldTable::inner).map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["short"], "what the broker has written about a message is not published again");
}
