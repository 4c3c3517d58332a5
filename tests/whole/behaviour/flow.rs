//! Every bound may be tiny: everything still gets through.

use serde_json::{Value, json};
use settled_testkit::harness::{Task, World, assert_has, open, transfer};

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
    let (world, daemon) = World::with_daemon(overrides).await;
    let events = world.events().await;
    let tasks = tasks(accounts);
    world.settle(&tasks).await;
    events.count(tasks.len()).await;
    world.end(daemon).await;
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
    let few = ["pipeline.lanes = 3", "pipeline.workers = 3", "pipeline.lane_capacity = 2", "pipeline.max_batch = 2"];
    all_pass(&few, 100).await;
}

#[tokio::test]
async fn events_that_find_no_room_in_memory_go_out_all_the_same() {
    let few = ["events.handover = 1", "events.publishers = 1", "events.lease = \"1s\"", "pipeline.max_batch = 20"];
    all_pass(&few, 100).await;
}

#[tokio::test]
async fn the_endpoints_say_what_the_daemon_does() {
    let (world, mut daemon) = World::with_daemon(&["pipeline.lanes = 3", "pipeline.workers = 3"]).await;
    let _events = world.events().await;
    let tasks = tasks(10);
    world.settle(&tasks).await;

    let (status, readiness) = daemon.readiness().await;
    assert_eq!(status, 200);
    assert_has(&readiness, json!({"ready": true, "status": "ready"}));
    let dependencies = readiness["dependencies"].as_array().expect("a list");
    let up: Vec<&Value> = dependencies.iter().filter(|each| each["up"] == true).map(|each| &each["name"]).collect();
    assert_eq!(up, ["postgres", "broker_intake", "broker_relay"]);
    let (status, live) = daemon.get("/livez").await;
    let live: Value = serde_json::from_str(&live).expect("JSON");
    assert_eq!((status, &live["live"]), (200, &true.into()), "{live}");

    daemon.counts("settled_outcomes_total", &[("outcome", "settled")], tasks.len()).await;
    daemon.counts("settled_tasks_received_total", &[], tasks.len()).await;
    daemon.reaches("settled_tasks_in_flight", 0.0).await;
    daemon.reaches("settled_events_published_total", tasks.len() as f64).await;
    let (_, text) = daemon.get("/metrics").await;
    // Nothing was held in any currency, and the daemon is told of no disk.
    let missing = ["settled_held_amount", "settled_disk_free_ratio"];
    let is_there = |metric: &&settled_pipeline::metrics::Description| !missing.contains(&metric.name);
    for metric in settled_pipeline::metrics::ALL.iter().filter(is_there) {
        assert!(text.lines().any(|line| line.starts_with(metric.name)), "{} is missing", metric.name);
    }
    for histogram in ["settled_transaction_seconds", "settled_publish_to_commit_seconds", "settled_batch_size"] {
        assert!(text.contains(&format!("{histogram}_bucket")), "{histogram}");
    }
    let lanes = text.lines().filter(|line| line.starts_with("settled_lane_depth{")).count();
    assert_eq!(lanes, 3);
    assert_eq!(daemon.metric("settled_receive_to_commit_seconds_count", &[]).await, tasks.len() as f64);
    assert!(daemon.metric("settled_publish_to_commit_seconds_sum", &[]).await > 0.0);
    assert_eq!(daemon.get("/nothing").await.0, 404);
    world.audit().await;
}
