//! The daemon starts before its servers do.

use settled_testkit::harness::{World, eventually};
use settled_testkit::servers::StopMode;

use crate::load::{self, Load};
use crate::reckoning::{Archive, reckon};
use crate::{QUICK, breakable, down, turn};

#[tokio::test]
async fn a_daemon_that_starts_first_waits_for_its_servers_and_says_for_which() {
    let servers = breakable().await;
    let _turn = turn().await;
    for (postgres, rabbitmq) in [(true, false), (false, true), (true, true)] {
        let world = World::on(&servers, &QUICK).await;
        load::declare(&world).await;
        let archive = Archive::open(&world).await;
        if postgres {
            servers.stop_postgres(StopMode::Fast).await.expect("it stops");
        }
        if rabbitmq {
            servers.stop_rabbitmq().await.expect("it stops");
        }
        let mut daemon = world.starting_daemon();
        eventually("the admin server answers", async || daemon.try_get("/livez").await.is_some()).await;
        if postgres {
            let reason = down(&mut daemon, "postgres").await;
            assert!(reason.contains("refused"), "{reason}");
        }
        if rabbitmq {
            // Nobody asks the broker before there is a database.
            let expected = if postgres { "not connected yet" } else { "refused" };
            let what = format!("it says of the broker: {expected}");
            eventually(&what, async || down(&mut daemon, "broker_intake").await.contains(expected)).await;
        }
        assert_eq!(daemon.get("/livez").await.0, 200);
        servers.start_postgres().await.expect("it starts");
        servers.start_rabbitmq().await.expect("it starts");
        daemon.ready().await;
        Load::prepare(&world).await;
        let load = Load::of(500).publish_now(&world).await;
        reckon(&world, &load, &archive).await;
        daemon.stop().await;
    }
}

#[tokio::test]
async fn a_daemon_that_still_waits_for_its_servers_stops_at_once() {
    let servers = breakable().await;
    let _turn = turn().await;
    let world = World::on(&servers, &QUICK).await;
    servers.stop_postgres(StopMode::Fast).await.expect("it stops");
    let mut daemon = world.starting_daemon();
    eventually("the admin server answers", async || daemon.try_get("/livez").await.is_some()).await;
    down(&mut daemon, "postgres").await;
    let asked = std::time::Instant::now();
    daemon.stop().await;
    assert!(asked.elapsed().as_secs_f64() < 1.0, "{:?}", asked.elapsed());
    servers.start_postgres().await.expect("it starts");
}
