//! Half an hour of a healthy daemon, with restarts of both servers: nothing of P0 fires.

use std::time::{Duration, Instant};

use settled_testkit::harness::prometheus::Prometheus;
use settled_testkit::harness::{SOON, World, own_servers, transfer, within};
use settled_testkit::servers::StopMode;

use crate::alerts::{RULES, restart_both};
use crate::{kills, seconds, turn};

/// How long the daemon works before, between and after the two restarts.
const HEALTHY: Duration = Duration::from_secs(10 * 60);

#[tokio::test]
#[ignore = "half an hour long: cargo test --workspace --test faults -- --ignored --nocapture healthy::"]
async fn in_half_an_hour_with_restarts_of_both_servers_nothing_of_p0_fires() {
    let _turn = turn().await;
    let mut prometheus = Prometheus::start(RULES.as_ref()).await;
    let servers = own_servers().await;
    let world = World::on(&servers, &[]).await;
    let mut daemon = world.daemon().await;
    world.open_world_and_alice().await;
    prometheus.scrape("healthy", daemon.admin().expect("it is ready"));
    let mut published = 2 + work(&world).await;
    for stop in [StopMode::Fast, StopMode::Kill] {
        let asked = Instant::now();
        restart_both(&servers, stop, &mut daemon).await;
        println!("both servers were restarted within {}", seconds(asked.elapsed()));
        published += work(&world).await;
    }
    within(SOON, "everything is committed", async || kills::committed(&world).await >= published).await;
    prometheus.evaluated().await;
    for severity in ["P1", "P2"] {
        println!("{severity} that were pending or firing: {:?}", prometheus.ever(severity).await);
    }
    let seen = prometheus.ever("P0").await;
    assert!(seen.is_empty(), "{seen:?}");
    println!("{published} payments, nothing of P0");
    daemon.stop().await;
    servers.shutdown().await.expect("nothing is left");
}

/// Publishes some tasks, again and again. Returns how many.
async fn work(world: &World) -> usize {
    let (publisher, began) = (world.publisher().await, Instant::now());
    let mut published = 0;
    while began.elapsed() < HEALTHY {
        for _ in 0..10 {
            publisher.publish(&transfer("world", "alice", 1)).await;
        }
        published += 10;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    published
}
