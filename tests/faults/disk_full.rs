//! PostgreSQL's disk is full: to the last byte, so that it can't write its log of changes either.

use std::time::{Duration, Instant};

use rustix::process::geteuid;
use settled_testkit::harness::{self, SOON, World, postgres_with, within};
use settled_testkit::servers::ServersOptions;

use crate::load::Load;
use crate::reckoning::{Archive, reckon};
use crate::{QUICK, seconds, turn};

#[tokio::test]
async fn a_full_disk_is_waited_for_and_dead_letters_nothing() {
    if !geteuid().is_root() {
        println!("skipped: only root can give PostgreSQL a disk that is full soon");
        return;
    }
    let _turn = turn().await;
    let servers = postgres_with(ServersOptions { postgres_space: Some(320 << 20), ..ServersOptions::default() }).await;
    let world = World::between(harness::servers().await, &servers, &QUICK).await;
    let archive = Archive::open(&world).await;
    let mut daemon = world.daemon().await;
    Load::prepare(&world).await;
    let publishing = Load::of(10_000).publish(&world, Duration::from_millis(50));
    for time in 1..=2 {
        within(SOON, "some are published", async || publishing.confirmed() > time * 2_000).await;
        let (began, mut report) = (Instant::now(), serde_json::Value::Null);
        within(SOON * 2, "it takes no more tasks", async || {
            // Again: PostgreSQL gives back what it needs no more of its log of changes.
            servers.fill_postgres_disk().await.expect("filled");
            let (status, now) = daemon.readiness().await;
            report = now;
            status == 503
        })
        .await;
        println!("disk full: not ready after {}: {report}", seconds(began.elapsed()));
        assert_eq!(daemon.get("/livez").await.0, 200, "waiting is living");
        servers.free_postgres_disk().await.expect("freed");
        servers.start_postgres().await.expect("it starts");
        let back = Instant::now();
        daemon.ready().await;
        println!("disk free: ready again {} after PostgreSQL was", seconds(back.elapsed()));
    }
    let load = publishing.done().await;
    let reckoning = reckon(&world, &load, &archive).await;
    println!("disk full: {reckoning:?}");
    daemon.stop().await;
    servers.shutdown().await.expect("nothing is left");
}
