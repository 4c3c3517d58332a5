//! The broker blocks publishing, and closes connections.

use std::time::{Duration, Instant};

use settled_testkit::harness::{SOON, World, own_servers, within};

use crate::load::{self, Load};
use crate::reckoning::finish;
use crate::{QUICK, breakable, ordeal, seconds, turn};

#[tokio::test]
async fn while_the_broker_blocks_publishing_payments_go_on_and_their_events_wait() {
    // Its own: nobody else could publish.
    let _turn = turn().await;
    let servers = own_servers().await;
    let world = World::on(&servers, &[&QUICK[..], &["pipeline.drain_timeout = \"4s\""]].concat()).await;
    load::declare(&world).await;
    let (world, archive, daemon) = ordeal(world).await;
    daemon.stop().await;
    let load = Load::of(3_000).publish_now(&world).await;
    servers.rabbitmqctl(&["set_vm_memory_high_watermark", "0.0000001"]).await.expect("it obeys");
    let mut daemon = world.daemon().await;
    let ids = load.ids();
    within(SOON, "all payments are committed", async || {
        world.rows("SELECT count(*) AS n FROM payment WHERE id = ANY($1)", &[&ids]).await[0]["n"] == ids.len()
    })
    .await;
    daemon.reaches("settled_broker_blocked", 1.0).await;
    let outbox = world.rows("SELECT coalesce(sum(events), 0)::bigint AS n FROM outbox", &[]).await;
    assert!(outbox[0]["n"].as_i64() > Some(1_000), "{outbox:?}");
    assert_eq!(daemon.readiness().await.0, 200, "payments are taken");
    daemon.reaches("settled_ack_lag", 0.0).await;

    // A stop waits for the confirms for half of its time, and leaves the rest to the table.
    let asked = Instant::now();
    daemon.stop().await;
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    let mut daemon = world.daemon().await;
    daemon.reaches("settled_broker_blocked", 1.0).await;

    servers.rabbitmqctl(&["set_vm_memory_high_watermark", "0.6"]).await.expect("it obeys");
    let cleared = Instant::now();
    daemon.reaches("settled_broker_blocked", 0.0).await;
    println!("alarm: unblocked {} after it was cleared", seconds(cleared.elapsed()));
    finish("alarm", &world, &load, &archive, daemon).await;
    servers.shutdown().await.expect("nothing is left");
}

#[tokio::test]
async fn connections_that_the_broker_closes_are_opened_again() {
    let servers = breakable().await;
    let _turn = turn().await;
    let (world, archive, mut daemon) = ordeal(World::on(&servers, &QUICK).await).await;
    let publishing = Load::of(10_000).publish(&world, Duration::from_millis(100));
    for _ in 0..2 {
        servers.rabbitmqctl(&["close_all_connections", "an operator asks"]).await.expect("it obeys");
        daemon.ready().await;
    }
    within(SOON, "both are opened again", async || daemon.metric("settled_reconnects_total", &[]).await >= 4.0).await;
    let load = publishing.done().await;
    assert!(daemon.log().contains("an operator asks"), "the reason is told\n{}", daemon.tail());
    finish("closed connections", &world, &load, &archive, daemon).await;
}

#[tokio::test]
async fn an_idle_daemon_opens_again_what_the_broker_closes() {
    let servers = breakable().await;
    let _turn = turn().await;
    let world = World::on(&servers, &QUICK).await;
    let mut daemon = world.daemon().await;
    servers.rabbitmqctl(&["close_all_connections", "an operator asks"]).await.expect("it obeys");
    for connection in ["intake", "relay"] {
        let again = async || daemon.metric("settled_reconnects_total", &[("connection", connection)]).await >= 1.0;
        within(SOON, &format!("the {connection}'s is opened again"), again).await;
    }
    daemon.ready().await;
    daemon.stop().await;
}
