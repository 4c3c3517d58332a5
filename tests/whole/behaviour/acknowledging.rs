//! A task is acknowledged after its commit and not before; a stop loses nothing.

use rustix::process::Signal;
use settled_testkit::harness::{Task, World, eventually, open, transfer};

#[tokio::test]
async fn a_task_that_waits_for_a_lock_isnt_acknowledged_and_holds_up_its_own_lane_only() {
    let (world, mut daemon, publisher) = World::at_work(&[]).await;
    world.open(["locked", "shop"]).await;
    world.open((0..32).map(|number| format!("account:{number}"))).await;
    let session = world.lock("SELECT FROM account WHERE name = 'locked' FOR UPDATE").await;
    let held_up = transfer("locked", "account:0", 5);
    publisher.publish(&held_up).await;
    daemon.has_in_hand(1.0).await;
    // 31 more debit accounts: not all of them share its lane.
    let others: Vec<Task> = (1..32).map(|number| transfer(&format!("account:{number}"), "shop", 1)).collect();
    publisher.publish_all(&others).await;
    let settled = "SELECT 1 FROM payment WHERE type = 'transfer' HAVING count(*) > 0";
    world.row("others settle meanwhile", settled, &[]).await;

    daemon.kill();
    eventually("what wasn't committed is back in the queue", async || world.waiting().await > 0).await;
    assert_eq!(world.count(&format!("payment WHERE id = '{}'", held_up.id)).await, 0);
    session.batch_execute("COMMIT").await.expect("unlocked");
    let daemon = world.daemon().await;
    world.all_are("settled", &others).await;
    world.all_are("settled", &[held_up]).await;
    world.end(daemon).await;
}

#[tokio::test]
async fn a_stop_in_the_middle_of_a_backlog_ends_with_0_and_leaves_the_rest_in_the_queue() {
    let world = World::new(&["pipeline.max_batch = 20", "broker.prefetch = 80"]).await;
    let events = world.events().await;
    let publisher = world.publisher().await;
    let mut tasks = vec![open("world", "USD", None), open("alice", "USD", None)];
    tasks.extend((0..4000).map(|_| transfer("world", "alice", 1)));
    publisher.publish_all(&tasks).await;

    let mut stopped_early = 0;
    for _ in 0..3 {
        let mut daemon = world.daemon().await;
        eventually("it has begun", async || daemon.metric("settled_tasks_received_total", &[]).await > 0.0).await;
        daemon.signal(Signal::INT);
        let status = daemon.wait_exit().await;
        assert!(status.success(), "{status}");
        let (committed, waiting) = (world.count("payment").await, u64::from(world.waiting().await));
        assert_eq!(waiting + committed, tasks.len() as u64, "what was committed was acknowledged, and nothing else");
        stopped_early += usize::from(waiting > 0);
    }
    assert!(stopped_early > 0, "no stop came in the middle of the backlog");
    let daemon = world.daemon().await;
    world.all_are("settled", &tasks).await;
    daemon.stop().await;
    events.count(tasks.len()).await;
    let report = world.audit().await;
    assert_eq!(report["totals"]["outbox"]["rows"], 0, "all events went out before the end");
}

#[tokio::test]
async fn a_second_signal_stops_at_once_and_what_was_in_hand_comes_again() {
    let (world, mut daemon, publisher) = World::at_work(&[]).await;
    world.open(["world", "alice"]).await;
    let session = world.lock("SELECT FROM account FOR UPDATE").await;
    let pay = transfer("world", "alice", 1);
    publisher.publish(&pay).await;
    daemon.reaches("settled_tasks_in_flight", 1.0).await;
    daemon.signal(Signal::TERM);
    eventually("it drains", async || daemon.readiness().await.1["status"] == "draining").await;
    assert_eq!(daemon.get("/livez").await.0, 200, "a drain is no reason for a restart");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_exit().await.code(), Some(1));
    eventually("the task is back in the queue", async || world.waiting().await == 1).await;
    session.batch_execute("COMMIT").await.expect("unlocked");
    let _daemon = world.daemon().await;
    world.all_are("settled", &[pay]).await;
    world.audit().await;
}
