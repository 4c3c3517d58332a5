//! The events exchange is deleted under load.

use std::time::Duration;

use settled_testkit::harness::{World, amqp, within};

use crate::load::Load;
use crate::reckoning::{Archive, reckon};
use crate::{QUICK, turn};

#[tokio::test]
async fn the_events_of_a_deleted_exchange_are_held_until_a_queue_is_bound_again() {
    let _turn = turn().await;
    let world = World::new(&QUICK).await;
    let archive = Archive::open(&world).await;
    let mut daemon = world.daemon().await;
    Load::prepare(&world).await;
    let publishing = Load::of(6_000).publish(&world, Duration::from_millis(50));
    within(Duration::from_secs(30), "some are published", async || publishing.confirmed() > 1_500).await;
    let connection = amqp::connect(&world.amqp_uri).await;
    let channel = connection.create_channel().await.expect("a channel");
    let exchange = world.events_exchange.as_str().into();
    channel.exchange_delete(exchange, Default::default()).await.expect("deleted");
    within(Duration::from_secs(30), "events are held", async || daemon.metric("settled_outbox_held", &[]).await > 0.0)
        .await;
    assert!(
        daemon.metric("settled_reconnects_total", &[("connection", "relay")]).await <= 3.0,
        "no storm of connections"
    );
    archive.bind(&world).await;
    let load = publishing.done().await;
    let reckoning = reckon(&world, &load, &archive).await;
    println!("exchange deleted: {reckoning:?}");
    daemon.ready().await;
    daemon.stop().await;
}
