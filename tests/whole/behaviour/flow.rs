//! Every bound may be tiny: everything still gets through.

use serde_json::Value;
use settled_testkit::harness::{Task, World, eventually, open, transfer};

/// Fresh accounts, each funded and emptied by way of others.
fn tasks(accounts: usize) -> Vec<Task> {
    let name = |number: usize| format!("account:{}", number % accounts);
    let mut tasks = vec![open("bank", "USD", None)];
    for number in 0..accounts {
        tasks.push(open(&name(number), "USD", Some(0)));
        tasks.push(transfer("bank", &name(number), 10));
    }
    for number in 0..accounts {
        tasks.push(transfer(&name(number), &name(number + 1), 10));
        tasks.push(transfer(&name(number + 1), "bank", 10));
    }
    tasks
}

async fn all_pass(overrides: &[&str], accounts: usize) {
    let world = World::new(overrides).await;
    let events = world.events().await;
    let daemon = world.daemon().await;
    let tasks = tasks(accounts);
    world.publisher().await.publish_all(&tasks).await;
    world.all_are("settled", &tasks).await;
    events.count(tasks.len()).await;
    daemon.stop().await;
    assert_eq!(world.waiting().await, 0);
    world.audit().await;
}

#[tokio::test]
async fn with_one_of_everything_all_tasks_pass() {
    let one = [
        "pipeline.lanes = 1",
        "pipeline.lane_capacity = 1",
        "pipeline.workers = 1",
        "pipeline.max_batch = 1",
        "pipeline.max_transactions = 1",
        "pipeline.account_cache = 1",
        "broker.prefetch = 1",
        "postgres.pool_size = 3",
        "events.publishers = 1",
        "events.batch_events = 1",
    ];
    all_pass(&one, 40).await;
}

#[tokio::test]
async fn with_many_lanes_of_one_place_all_tasks_pass() {
    let tiny = [
        "pipeline.lanes = 16",
        "pipeline.lane_capacity = 1",
        "pipeline.workers = 2",
        "pipeline.max_batch = 1",
        "pipeline.max_transactions = 1",
        "broker.prefetch = 16",
    ];
    all_pass(&tiny, 60).await;
}

#[tokio::test]
async fn with_a_prefetch_far_above_the_lanes_all_tasks_pass() {
    all_pass(
        &["pipeline.lanes = 3", "pipeline.workers = 3", "pipeline.lane_capacity = 2", "pipeline.max_batch = 2"],
        100,
    )
    .await;
}

#[tokio::test]
async fn events_that_find_no_room_in_memory_go_out_all_the_same() {
    all_pass(
        &["events.handover = 1", "events.publishers = 1", "events.lease = \"1s\"", "pipeline.max_batch = 20"],
        100,
    )
    .await;
}

#[tokio::test]
async fn the_endpoints_say_what_the_daemon_does() {
    let world = World::new(&["pipeline.lanes = 3", "pipeline.workers = 3"]).await;
    let _events = world.events().await;
    let mut daemon = world.daemon().await;
    let tasks = tasks(10);
    world.publisher().await.publish_all(&tasks).await;
    world.all_are("settled", &tasks).await;

    let (status, readiness) = daemon.readiness().await;
    assert_eq!((status, &readiness["ready"], &readiness["status"]), (200, &true.into(), &"ready".into()));
    let dependencies = readiness["dependencies"].as_array().expect("a list");
    let up: Vec<&Value> = dependencies.iter().filter(|each| each["up"] == true).map(|each| &each["name"]).collect();
    assert_eq!(up, ["postgres", "broker_intake", "broker_relay"]);
    let (status, live) = daemon.get("/livez").await;
    let live: Value = serde_json::from_str(&live).expect("JSON");
    assert_eq!((status, &live["live"]), (200, &true.into()), "{live}");

    daemon.counts("settled_outcomes_total", &[("outcome", "settled")], tasks.len()).await;
    daemon.counts("settled_tasks_received_total", &[], tasks.len()).await;
    eventually("nothing is left to do", async || daemon.metric("settled_tasks_in_flight", &[]).await == 0.0).await;
    eventually("all events are out", async || {
        daemon.metric("settled_events_published_total", &[]).await == tasks.len() as f64
    })
    .await;
    let (_, text) = daemon.get("/metrics").await;
    // Of each currency, once any of it has been held.
    let is_there = |metric: &&settled_pipeline::metrics::Description| metric.name != "settled_held_amount";
    for metric in settled_pipeline::metrics::ALL.iter().filter(is_there) {
        assert!(text.lines().any(|line| line.starts_with(metric.name)), "{} is missing", metric.name);
    }
    for bucket in
        ["settled_transaction_seconds_bucket", "settled_publish_to_commit_seconds_bucket", "settled_batch_size_bucket"]
    {
        assert!(text.contains(bucket), "{bucket}");
    }
    let lanes = text.lines().filter(|line| line.starts_with("settled_lane_depth{")).count();
    assert_eq!(lanes, 3);
    assert_eq!(daemon.metric("settled_receive_to_commit_seconds_count", &[]).await, tasks.len() as f64);
    assert!(daemon.metric("settled_publish_to_commit_seconds_sum", &[]).await > 0.0);
    assert_eq!(daemon.get("/nothing").await.0, 404);
    world.audit().await;
}
