//! The task queue or the events exchange is deleted under the daemon.

use std::time::Duration;

use settled_testkit::harness::{SOON, World, eventually, within};

use crate::load::{self, Load};
use crate::reckoning::{Archive, finish};
use crate::{QUICK, ordeal, told, turn};

async fn delete_queue(world: &World) {
    let (_connection, channel) = world.channel().await;
    channel.queue_delete(world.queue.as_str().into(), Default::default()).await.expect("deleted");
}

#[tokio::test]
async fn a_deleted_queue_is_declared_again_and_consumed_from() {
    let _turn = turn().await;
    let (world, archive, mut daemon) = ordeal(World::new(&QUICK).await).await;
    for deleted in 1..=2 {
        delete_queue(&world).await;
        eventually("it is noticed", async || told(&daemon, "dependency is down", "broker_intake") == deleted).await;
        daemon.ready().await;
    }
    let load = Load::of(1_000).publish_now(&world).await;
    finish("queue deleted", &world, &load, &archive, daemon).await;
}

#[tokio::test]
async fn without_the_right_to_declare_a_deleted_queue_ends_the_daemon() {
    let _turn = turn().await;
    let world = World::new(&[&QUICK[..], &["broker.declare = false"]].concat()).await;
    load::declare(&world).await;
    let _archive = Archive::open(&world).await;
    let mut daemon = world.daemon().await;
    delete_queue(&world).await;
    daemon.exits(69).await;
    assert!(daemon.tail().contains("does not exist and broker.declare is false"), "{}", daemon.tail());
    // The publisher's declaration, and the daemon goes on.
    load::declare(&world).await;
    world.daemon().await.stop().await;
}

#[tokio::test]
async fn the_events_of_a_deleted_exchange_are_held_until_a_queue_is_bound_again() {
    let _turn = turn().await;
    let (world, archive, mut daemon) = ordeal(World::new(&QUICK).await).await;
    let publishing = Load::of(6_000).publish(&world, Duration::from_millis(50));
    publishing.exceeds(1_500).await;
    let (_connection, channel) = world.channel().await;
    let exchange = world.events_exchange.as_str().into();
    channel.exchange_delete(exchange, Default::default()).await.expect("deleted");
    within(SOON, "events are held", async || daemon.metric("settled_outbox_held", &[]).await > 0.0).await;
    let reconnects = daemon.metric("settled_reconnects_total", &[("connection", "relay")]).await;
    assert!(reconnects <= 3.0, "a storm of {reconnects} connections");
    archive.bind(&world).await;
    let load = publishing.done().await;
    daemon.ready().await;
    finish("exchange deleted", &world, &load, &archive, daemon).await;
}
