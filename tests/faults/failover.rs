//! The PostgreSQL that takes writes is lost, and its standby promoted.

use std::time::Instant;

use settled_testkit::harness::{self, World, postgres_with};
use settled_testkit::servers::ServersOptions;

use crate::load::{self, Load};
use crate::reckoning::{Archive, reckon};
use crate::{QUICK, turn};

/// Each is followed by a new copy of the database, which takes longest.
const PROMOTIONS: usize = 2;

#[tokio::test]
async fn promotions_of_a_standby_lose_and_double_nothing() {
    let _turn = turn().await;
    let servers = postgres_with(ServersOptions { standby: true, ..ServersOptions::default() }).await;
    let world = World::between(harness::servers().await, &servers, &QUICK).await;
    let archive = Archive::open(&world).await;
    let mut daemon = world.daemon().await;
    Load::prepare(&world).await;
    let mut back = Vec::new();
    let load = load::during(&world, 50, async {
        for _ in 0..PROMOTIONS {
            let began = Instant::now();
            servers.promote().await.expect("the standby takes over");
            let promoted = jiff::Timestamp::now();
            let first = "SELECT 1 FROM payment WHERE settled_at > $1 LIMIT 1";
            world.row("a commit on the promoted one", first, &[&promoted]).await;
            back.push(began.elapsed().as_secs_f64());
            servers.rebuild_standby().await.expect("there is a standby again");
        }
    })
    .await;
    let reckoning = reckon(&world, &load, &archive).await;
    let worst = back.iter().copied().fold(0.0, f64::max);
    println!("promotions: {reckoning:?}; first commit after the loss: worst {worst:.2} s of {back:.2?}");
    // Ten seconds are promised; twice that for a machine that compiles.
    assert!(worst < 20.0, "{worst}");
    daemon.ready().await;
    let unknown = daemon.metric("settled_unknown_commits_total", &[]).await;
    println!("unknown commits: {unknown}");
    daemon.stop().await;
    servers.shutdown().await.expect("nothing is left");
}
