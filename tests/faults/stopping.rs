//! SIGTERM: busy, idle, twice, and with PostgreSQL away.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use settled_testkit::harness::{SOON, World, within};
use settled_testkit::servers::StopMode;

use crate::kills;
use crate::load::Load;
use crate::reckoning::{Archive, reckon};
use crate::{QUICK, breakable, down, seconds, turn};

#[tokio::test]
async fn a_stop_under_load_finishes_what_is_in_hand_and_flushes_the_outbox() {
    let _turn = turn().await;
    let world = World::new(&QUICK).await;
    let archive = Archive::open(&world).await;
    let mut daemon = world.daemon().await;
    Load::prepare(&world).await;
    let publishing = Load::of(15_000).publish(&world, Duration::ZERO);
    let mut stops = Vec::new();
    for _ in 0..4 {
        within(SOON, "it is busy", async || daemon.metric("settled_tasks_in_flight", &[]).await > 100.0).await;
        let asked = Instant::now();
        daemon.stop().await;
        stops.push(seconds(asked.elapsed()));
        let left = world.rows("SELECT count(*) AS n FROM outbox", &[]).await;
        assert_eq!(left[0]["n"], 0, "the outbox is flushed");
        daemon = world.daemon().await;
    }
    let load = publishing.done().await;
    let reckoning = reckon(&world, &load, &archive).await;
    assert_eq!(reckoning.repeated_events, 0, "whoever drains publishes nothing twice");
    println!("stops under load took {stops:?}: {reckoning:?}");
    let asked = Instant::now();
    daemon.stop().await;
    assert!(asked.elapsed() < Duration::from_secs(1), "idle, it took {:?}", asked.elapsed());
}

/// What of these messages is committed; each is another one's.
async fn committed(world: &World, load: &Load) -> usize {
    let ids: Vec<_> = load.ids.iter().copied().collect();
    let count = "SELECT (SELECT count(*) FROM payment WHERE id = ANY($1)) + (SELECT count(*) FROM dead_letter) AS n";
    let count = world.rows(count, &[&ids]).await[0]["n"].as_u64();
    usize::try_from(count.expect("a count")).expect("few")
}

#[tokio::test]
async fn what_was_committed_before_a_stop_is_not_delivered_again() {
    let _turn = turn().await;
    let world = World::new(&QUICK).await;
    let archive = Archive::open(&world).await;
    let daemon = world.daemon().await;
    Load::prepare(&world).await;
    daemon.stop().await;
    let load = Load::of(12_000).without_repetitions().publish_now(&world).await;
    let mut stops = Vec::new();
    for stop in 1..=3 {
        let mut daemon = world.daemon().await;
        let mut in_flight = 0.0;
        within(SOON, "it is busy", async || {
            let payments = kills::committed(&world).await;
            in_flight = daemon.metric("settled_tasks_in_flight", &[]).await;
            payments > stop * 2_500 && in_flight >= 50.0
        })
        .await;
        let asked = Instant::now();
        daemon.signal(Signal::TERM);
        let status = daemon.wait_exit().await;
        let took = asked.elapsed();
        assert_eq!(status.code(), Some(0), "{}", daemon.tail());
        assert!(took < Duration::from_secs(10), "{took:?}");
        // What it had not taken goes back to the queue, at its own time.
        let mut again = None;
        within(SOON, "everything is committed or in the queue", async || {
            let both = committed(&world, &load).await + world.waiting().await as usize;
            again = both.checked_sub(load.len());
            again.is_some()
        })
        .await;
        assert_eq!(again, Some(0), "of {in_flight} in flight at the signal");
        stops.push((seconds(took), in_flight));
    }
    let daemon = world.daemon().await;
    let reckoning = reckon(&world, &load, &archive).await;
    println!("stops that took (with so many in flight) {stops:?} had nothing delivered again: {reckoning:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_second_signal_ends_a_drain_that_cannot_finish() {
    let _turn = turn().await;
    let world = World::new(&QUICK).await;
    let archive = Archive::open(&world).await;
    let mut daemon = world.daemon().await;
    Load::prepare(&world).await;
    let other = world.sql().await;
    other.batch_execute("BEGIN; LOCK TABLE account IN ACCESS EXCLUSIVE MODE").await.expect("locked");
    let load = Load::of(500).publish_now(&world).await;
    within(SOON, "it has something in hand", async || daemon.metric("settled_tasks_in_flight", &[]).await > 0.0).await;
    daemon.signal(Signal::TERM);
    within(SOON, "it drains", async || daemon.readiness().await.1["status"] == "draining").await;
    let asked = Instant::now();
    // Those that come close together are one request: again, until it is another one.
    within(Duration::from_secs(1), "it ends at once", async || {
        if daemon.is_running() {
            daemon.signal(Signal::TERM);
        }
        !daemon.is_running()
    })
    .await;
    println!("a second signal ended it within {}", seconds(asked.elapsed()));
    let status = daemon.wait_exit().await;
    assert_eq!(status.code(), Some(1), "{}", daemon.tail());
    other.batch_execute("ROLLBACK").await.expect("unlocked");
    let daemon = world.daemon().await;
    reckon(&world, &load, &archive).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_stop_while_postgres_is_away_gives_up_in_time_and_loses_nothing() {
    let servers = breakable().await;
    let _turn = turn().await;
    let world = World::on(&servers, &[&QUICK[..], &["pipeline.drain_timeout = \"2s\""]].concat()).await;
    let archive = Archive::open(&world).await;
    let mut daemon = world.daemon().await;
    Load::prepare(&world).await;
    servers.stop_postgres(StopMode::Immediate).await.expect("it stops");
    let load = Load::of(500).publish_now(&world).await;
    down(&mut daemon, "postgres").await;
    within(SOON, "it has something in hand", async || daemon.metric("settled_tasks_in_flight", &[]).await > 0.0).await;
    let asked = Instant::now();
    daemon.signal(Signal::TERM);
    let status = daemon.wait_exit().await;
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    assert_eq!(status.code(), Some(1), "{}", daemon.tail());
    servers.start_postgres().await.expect("it starts");
    let daemon = world.daemon().await;
    reckon(&world, &load, &archive).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_stop_while_the_broker_writes_slowly_has_nothing_delivered_again() {
    let servers = breakable().await;
    let _turn = turn().await;
    // Small batches, one after the other: many acknowledgements, if each is acknowledged by itself.
    let small = "pipeline = { lanes = 1, workers = 1, max_batch = 10, lane_capacity = 2000 }";
    let world = World::on(&servers, &[&QUICK[..], &[small]].concat()).await;
    let archive = Archive::open(&world).await;
    let mut daemon = world.daemon().await;
    Load::prepare(&world).await;
    let other = world.sql().await;
    other.batch_execute("BEGIN; LOCK TABLE account IN ACCESS EXCLUSIVE MODE").await.expect("locked");
    let load = Load::of(1_000).without_repetitions().publish_now(&world).await;
    within(SOON, "all is in hand", async || world.waiting().await == 0).await;
    daemon.signal(Signal::TERM);
    within(SOON, "it drains", async || daemon.readiness().await.1["status"] == "draining").await;
    let mut left = Load::default();
    within(SOON, "it takes no more", async || {
        left = std::mem::take(&mut left).and(Load::of(1).publish_now(&world).await);
        world.waiting().await > 0
    })
    .await;
    // RabbitMQ doesn't write its log of quorum queues, as if the disk were busy: until it is told to,
    // or for a while if this test fails.
    let stall = "spawn(fun() -> timer:sleep(30000), sys:resume(ra_log_wal) end), sys:suspend(ra_log_wal).";
    servers.rabbitmqctl(&["eval", stall]).await.expect("it stalls");
    other.batch_execute("ROLLBACK").await.expect("unlocked");
    let status = daemon.wait_exit().await;
    assert_eq!(status.code(), Some(0), "{}", daemon.tail());
    assert_eq!(committed(&world, &load).await, load.len(), "all of it is committed");
    servers.rabbitmqctl(&["eval", "sys:resume(ra_log_wal)."]).await.expect("it goes on");
    // What comes last is confirmed when all before it is written.
    let left = left.and(Load::of(1).publish_now(&world).await);
    assert_eq!(world.waiting().await as usize, left.ids.len(), "what it had taken is not there");
    let daemon = world.daemon().await;
    reckon(&world, &load.and(left), &archive).await;
    daemon.stop().await;
}
