//! The daemon stands still for longer than the broker waits for a heartbeat.

use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use rustix::process::Signal;
use settled_testkit::harness::{World, amqp, within};

use crate::load::Load;
use crate::reckoning::{Archive, reckon};
use crate::{QUICK, turn};

async fn consumers(world: &World) -> u32 {
    let connection = amqp::connect(&world.amqp_uri).await;
    let channel = connection.create_channel().await.expect("a channel");
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare(world.queue.as_str().into(), passive, Default::default()).await;
    queue.expect("the queue").consumer_count()
}

#[tokio::test]
async fn a_daemon_that_was_frozen_until_the_broker_gave_it_up_goes_on_exactly_once() {
    let _turn = turn().await;
    let world = World::new(&[&QUICK[..], &["broker.heartbeat = \"1s\""]].concat()).await;
    let archive = Archive::open(&world).await;
    let mut daemon = world.daemon().await;
    Load::prepare(&world).await;
    let publishing = Load::of(8_000).publish(&world, Duration::ZERO);
    within(Duration::from_secs(30), "some are published", async || publishing.confirmed() > 1_000).await;
    daemon.signal(Signal::STOP);
    within(Duration::from_secs(30), "the broker gives it up", async || consumers(&world).await == 0).await;
    daemon.signal(Signal::CONT);
    let load = publishing.done().await;
    let reckoning = reckon(&world, &load, &archive).await;
    daemon.ready().await;
    println!("frozen: {reckoning:?}");
    daemon.stop().await;
}
