//! SIGTERM and SIGINT: busy, idle, twice, and with PostgreSQL away.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use settled_testkit::harness::{SOON, World, within};
use settled_testkit::servers::StopMode;

use crate::kills;
use crate::load::Load;
use crate::reckoning::{finish, reckon};
use crate::{QUICK, breakable, busy, down, draining, ordeal, seconds, turn};

#[tokio::test]
async fn a_stop_under_load_finishes_what_is_in_hand_and_flushes_the_outbox() {
    let _turn = turn().await;
    let (world, archive, mut daemon) = ordeal(World::new(&QUICK).await).await;
    let publishing = Load::of(15_000).publish(&world, Duration::ZERO);
    let mut stops = Vec::new();
    for _ in 0..4 {
        busy(&mut daemon, 100.0).await;
        let asked = Instant::now();
        daemon.stop().await;
        stops.push(seconds(asked.elapsed()));
        assert_eq!(world.count("outbox").await, 0, "the outbox is flushed");
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
    let count = "SELECT (SELECT count(*) FROM payment WHERE id = ANY($1)) + (SELECT count(*) FROM dead_letter) AS n";
    let count = world.rows(count, &[&load.ids()]).await[0]["n"].as_u64();
    usize::try_from(count.expect("a count")).expect("few")
}

#[tokio::test]
async fn what_was_committed_before_a_stop_is_not_delivered_again() {
    let _turn = turn().await;
    let (world, archive, daemon) = ordeal(World::new(&QUICK).await).await;
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
        daemon.signal(Signal::INT);
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
        assert_eq!(again, Some(0), "of {in_flight} in flight at the signal: {}", daemon.tail());
        stops.push((seconds(took), in_flight));
    }
    let daemon = world.daemon().await;
    println!("stops that took (with so many in flight) {stops:?} had nothing delivered again");
    finish("stops", &world, &load, &archive, daemon).await;
}

#[tokio::test]
async fn a_second_signal_ends_a_drain_that_cannot_finish() {
    let _turn = turn().await;
    let (world, archive, mut daemon) = ordeal(World::new(&QUICK).await).await;
    let other = world.lock("LOCK TABLE account IN ACCESS EXCLUSIVE MODE").await;
    let load = Load::of(500).publish_now(&world).await;
    busy(&mut daemon, 1.0).await;
    daemon.signal(Signal::TERM);
    draining(&mut daemon).await;
    assert_eq!(daemon.get("/livez").await.0, 200, "a drain is no reason for a restart");
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
    daemon.exits(1).await;
    other.batch_execute("ROLLBACK").await.expect("unlocked");
    let daemon = world.daemon().await;
    finish("a second signal", &world, &load, &archive, daemon).await;
}

#[tokio::test]
async fn a_stop_while_postgres_is_away_gives_up_in_time_and_loses_nothing() {
    let servers = breakable().await;
    let _turn = turn().await;
    let (world, archive, mut daemon) =
        ordeal(World::on(&servers, &[&QUICK[..], &["pipeline.drain_timeout = \"2s\""]].concat()).await).await;
    servers.stop_postgres(StopMode::Immediate).await.expect("it stops");
    let load = Load::of(500).publish_now(&world).await;
    down(&mut daemon, "postgres").await;
    busy(&mut daemon, 1.0).await;
    let asked = Instant::now();
    daemon.signal(Signal::TERM);
    let status = daemon.wait_exit().await;
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    assert_eq!(status.code(), Some(1), "{}", daemon.tail());
    servers.start_postgres().await.expect("it starts");
    let daemon = world.daemon().await;
    finish("PostgreSQL away", &world, &load, &archive, daemon).await;
}

#[tokio::test]
async fn a_stop_while_the_broker_writes_slowly_has_nothing_delivered_again() {
    let servers = breakable().await;
    let _turn = turn().await;
    // Small batches, one after the other: many acknowledgements, if each is acknowledged by itself.
    let small = "pipeline = { lanes = 1, workers = 1, max_batch = 10, lane_capacity = 2000, drain_timeout = \"60s\" }";
    let (world, archive, mut daemon) = ordeal(World::on(&servers, &[&QUICK[..], &[small]].concat()).await).await;
    let other = world.lock("LOCK TABLE account IN ACCESS EXCLUSIVE MODE").await;
    let load = Load::of(1_000).without_repetitions().publish_now(&world).await;
    within(SOON, "all is in hand", async || world.waiting().await == 0).await;
    daemon.signal(Signal::TERM);
    draining(&mut daemon).await;
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
    daemon.exits(0).await;
    assert_eq!(committed(&world, &load).await, load.len(), "all of it is committed");
    servers.rabbitmqctl(&["eval", "sys:resume(ra_log_wal)."]).await.expect("it goes on");
    // What comes last is confirmed when all before it is written.
    let left = left.and(Load::of(1).publish_now(&world).await);
    assert_eq!(world.waiting().await as usize, left.ids.len(), "what it had taken is not there");
    let daemon = world.daemon().await;
    finish("a slow broker", &world, &load.and(left), &archive, daemon).await;
}
