//! SIGTERM: busy, idle, twice, and with PostgreSQL away.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use settled::dev::StopMode;

use crate::load::Load;
use crate::reckoning::{Archive, reckon};
use crate::support::{SOON, World, within};
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
