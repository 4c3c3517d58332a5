//! The daemon starts before its servers do, or the first of several hosts is dead.

use std::net::TcpListener;

use settled_testkit::harness::{World, eventually};
use settled_testkit::servers::StopMode;

use crate::load::{self, Load};
use crate::reckoning::{Archive, finish};
use crate::{QUICK, breakable, down, ordeal, turn};

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
        finish("started first", &world, &load, &archive, daemon).await;
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

/// Has a daemon work through a list whose first host is this one.
async fn work_beside(first: &str) {
    let world = World::new(&QUICK).await;
    let uris = format!("broker.uris = [\"amqp://{first}/%2f\", {:?}]", world.amqp_uri);
    let postgres = format!("postgres.url = {:?}", world.postgres_url.replace('@', &format!("@{first},")));
    let limits = ["broker.connect_timeout = \"1s\"", "postgres.connect_timeout = \"500ms\""];
    world.configure(&[&QUICK[..], &[&uris, &postgres], &limits].concat());
    let (world, archive, daemon) = ordeal(world).await;
    let load = Load::of(500).publish_now(&world).await;
    finish("a dead host", &world, &load, &archive, daemon).await;
}

#[tokio::test]
async fn a_host_that_refuses_connections_is_passed_over() {
    let _turn = turn().await;
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    work_beside(&free.to_string()).await;
}

#[tokio::test]
async fn a_host_that_accepts_connections_and_says_nothing_is_passed_over() {
    let _turn = turn().await;
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    work_beside(&silent.local_addr().expect("its address").to_string()).await;
}
