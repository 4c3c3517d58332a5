//! Several brokers, several database hosts, of which the first is dead.

use std::net::TcpListener;

use settled_testkit::harness::World;

use crate::load::Load;
use crate::reckoning::{Archive, reckon};
use crate::{QUICK, turn};

/// Has a daemon work through a list whose first host is this one.
async fn work_beside(first: &str) {
    let world = World::new(&QUICK).await;
    let uris = format!("broker.uris = [\"amqp://{first}/%2f\", {:?}]", world.amqp_uri);
    let postgres = format!("postgres.url = {:?}", world.postgres_url.replace('@', &format!("@{first},")));
    let limits = ["broker.connect_timeout = \"1s\"", "postgres.connect_timeout = \"500ms\""];
    world.configure(&[&QUICK[..], &[&uris, &postgres], &limits].concat());
    let archive = Archive::open(&world).await;
    let daemon = world.daemon().await;
    Load::prepare(&world).await;
    let load = Load::of(500).publish_now(&world).await;
    reckon(&world, &load, &archive).await;
    daemon.stop().await;
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
