//! The task queue is deleted under the consumer.

use settled_testkit::harness::{Publisher, World, amqp, eventually};

use crate::load::{self, Load};
use crate::reckoning::{Archive, reckon};
use crate::{QUICK, told, turn};

async fn delete_queue(world: &World) {
    let connection = amqp::connect(&world.amqp_uri).await;
    let channel = connection.create_channel().await.expect("a channel");
    channel.queue_delete(world.queue.as_str().into(), Default::default()).await.expect("deleted");
}

#[tokio::test]
async fn a_deleted_queue_is_declared_again_and_consumed_from() {
    let _turn = turn().await;
    let world = World::new(&QUICK).await;
    let archive = Archive::open(&world).await;
    let mut daemon = world.daemon().await;
    Load::prepare(&world).await;
    for deleted in 1..=2 {
        delete_queue(&world).await;
        eventually("it is noticed", async || told(&daemon, "dependency is down", "broker_intake") == deleted).await;
        daemon.ready().await;
    }
    let load = Load::of(1_000).publish_now(&world).await;
    reckon(&world, &load, &archive).await;
    daemon.stop().await;
}

#[tokio::test]
async fn without_the_right_to_declare_a_deleted_queue_ends_the_daemon() {
    let _turn = turn().await;
    let world = World::new(&[&QUICK[..], &["broker.declare = false"]].concat()).await;
    load::declare(&world).await;
    let _archive = Archive::open(&world).await;
    let mut daemon = world.daemon().await;
    delete_queue(&world).await;
    let status = daemon.wait_exit().await;
    assert_eq!(status.code(), Some(69), "{}", daemon.tail());
    assert!(daemon.tail().contains("does not exist and broker.declare is false"), "{}", daemon.tail());
    // The publisher's declaration, and the daemon goes on.
    drop(Publisher::connect(&world).await);
    world.daemon().await.stop().await;
}
