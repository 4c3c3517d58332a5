//! Bodies and properties at the edges of the contract.

use lapin::BasicProperties;
use serde_json::json;
use settled_testkit::harness::amqp::table;
use settled_testkit::harness::{Events, Publisher, Task, World, assert_has, transfer};

fn pay() -> Task {
    transfer("world", "alice", 1250)
}

#[tokio::test]
async fn a_body_may_have_64_kib_and_not_a_byte_more() {
    const MOST: usize = 64 * 1024;
    let (world, _daemon, publisher) = World::at_work(&[]).await;
    world.open_world_and_alice().await;
    let (fits, too_long) = (pay(), pay());
    for (task, length) in [(&fits, MOST), (&too_long, MOST + 1)] {
        let mut body = task.body().into_bytes();
        body.resize(length, b' ');
        publisher.raw("task.transfer", &body, Publisher::properties(task)).await;
    }
    let huge = vec![b'x'; 3_000_000];
    publisher.raw("task.transfer", &huge, BasicProperties::default()).await;
    assert_eq!(world.outcome(&fits).await["state"], "settled");
    let oversize =
        "SELECT length(body) AS kept, field, detail FROM dead_letter WHERE reason = 'oversize' AND detail ~ $1";
    for length in [MOST + 1, huge.len()] {
        let letter = world.row("an oversize dead letter", oversize, &[&format!(" {length} bytes")]).await;
        assert_has(&letter, json!({"kept": MOST, "field": null}));
    }
    assert_eq!(world.account("alice").await["posted"], 1250);
    world.audit().await;
}

#[tokio::test]
async fn odd_properties_harm_neither_the_task_nor_the_events_of_others() {
    let (world, mut daemon) = World::with_daemon(&[]).await;
    let events = world.events().await;
    let replies = Events::replies(&world).await;
    let publisher = world.publisher().await;
    world.open_world_and_alice().await;
    let odd = |task: &Task| Publisher::properties(task).with_content_type("Application/JSON; charset=utf-8".into());
    let nul = "\0".repeat(200);
    let headers = |value: &str| table(&[("traceparent", value.into()), ("tracestate", 7.into())]);
    let tasks: Vec<Task> = (0..6).map(|_| pay()).collect();
    let properties = [
        odd(&tasks[0]).with_app_id("a\0b".into()),
        odd(&tasks[1]).with_reply_to(nul.as_str().into()),
        odd(&tasks[2]).with_reply_to(replies.queue.as_str().into()).with_correlation_id(nul.as_str().into()),
        odd(&tasks[3]).with_headers(headers("\0 is no trace")),
        odd(&tasks[4]).with_timestamp(u64::MAX),
        odd(&tasks[5]).with_message_id(tasks[5].id.to_string().to_uppercase().into()).with_reply_to("".into()),
    ];
    for (task, properties) in tasks.iter().zip(properties) {
        publisher.publish_with(task, properties).await;
    }
    world.all_are("settled", &tasks).await;
    for task in &tasks {
        events.of(task).await;
    }
    assert_eq!(replies.count(1).await[0].body["id"], json!(tasks[2].id));
    assert_eq!(world.outcome(&tasks[0]).await["publisher"], "a\u{fffd}b");
    assert_eq!(daemon.readiness().await.0, 200);
    world.end(daemon).await;
}
