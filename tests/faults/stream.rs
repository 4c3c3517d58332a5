//! Events that go to a stream: whoever reads it from its beginning finds every event once, and those of an account in
//! the order of its entries, whatever was killed.

use std::net::SocketAddr;
use std::time::Duration;

use lapin::options::QueueDeleteOptions;
use rustix::process::Signal;
use settled_testkit::harness::{Daemon, SOON, World, eventually, within};
use settled_testkit::proxy::CutPoint::{AfterStreamConfirm, BeforeStreamConfirm};
use settled_testkit::proxy::{CuttingProxy, Protocol};

use crate::kills::committed;
use crate::load::{self, Load};
use crate::reckoning::{Archive, finish, settled};
use crate::{QUICK, breakable, down, turn};

const STREAM: &str = "events.transport = \"stream\"";

async fn streaming(overrides: &[&str]) -> World {
    World::new(&[&QUICK[..], &[STREAM], overrides].concat()).await
}

/// Starts a daemon, and has it open and fund the accounts of every load.
async fn begin(world: &World) -> (Archive, Daemon) {
    let daemon = world.daemon().await;
    Load::prepare(world).await;
    (Archive::stream(world), daemon)
}

/// Waits until one of these daemons appends, and returns which.
async fn producer(daemons: &mut [Daemon]) -> usize {
    let mut found = None;
    within(SOON, "a daemon appends", async || {
        for (place, daemon) in daemons.iter_mut().enumerate() {
            if daemon.metric("settled_stream_producer", &[]).await == 1.0 {
                found = Some(place);
            }
        }
        found.is_some()
    })
    .await;
    found.expect("one of them")
}

async fn more_than(world: &World, payments: usize) {
    within(SOON * 2, &format!("more than {payments} payments"), async || committed(world).await > payments).await;
}

#[tokio::test]
async fn kills_of_two_daemons_under_load_leave_every_event_in_the_stream_once() {
    let _turn = turn().await;
    let world = streaming(&[]).await;
    load::declare(&world).await;
    let (archive, daemon) = begin(&world).await;
    let mut daemons = [daemon, world.daemon().await];
    let publishing = Load::of(20_000).publish(&world, Duration::ZERO);
    for kill in 1..=20 {
        more_than(&world, kill * 900).await;
        // By turns the one that appends, and the other one.
        let killed = (producer(&mut daemons).await + kill) % 2;
        daemons[killed].kill();
        daemons[killed] = world.daemon().await;
    }
    let load = publishing.done().await;
    let [one, other] = daemons;
    finish("kills with a stream", &world, &load, &archive, one).await;
    other.stop().await;
}

#[tokio::test]
async fn a_daemon_that_was_frozen_for_longer_than_its_lease_repeats_and_loses_no_event() {
    let _turn = turn().await;
    let world = streaming(&[]).await;
    load::declare(&world).await;
    let (archive, daemon) = begin(&world).await;
    let mut daemons = [daemon, world.daemon().await];
    let publishing = Load::of(10_000).publish(&world, Duration::from_millis(20));
    for round in 1..=3 {
        let frozen = producer(&mut daemons).await;
        daemons[frozen].signal(Signal::STOP);
        let other = &mut daemons[1 - frozen];
        within(SOON, "the other one appends", async || other.metric("settled_stream_producer", &[]).await == 1.0).await;
        daemons[frozen].signal(Signal::CONT);
        more_than(&world, round * 2_000).await;
    }
    let load = publishing.done().await;
    let [one, other] = daemons;
    finish("freezes with a stream", &world, &load, &archive, one).await;
    other.stop().await;
}

#[tokio::test]
async fn a_broker_that_is_killed_again_and_again_has_every_event_once_in_its_stream() {
    let servers = breakable().await;
    let world = World::on(&servers, &[&QUICK[..], &[STREAM]].concat()).await;
    let (archive, mut daemon) = begin(&world).await;
    // A node that is killed within a moment of making its first stream is without a leader for it for a minute.
    within(SOON, "the stream is in use", async || {
        daemon.metric("settled_events_published_total", &[]).await >= load::PREPARED as f64
    })
    .await;
    let publishing = Load::of(8_000).publish(&world, Duration::from_millis(20));
    for kill in 1..=4 {
        more_than(&world, kill * 1_200).await;
        servers.kill_rabbitmq().await.expect("killed");
        assert!(!down(&mut daemon, "broker_stream").await.is_empty());
        servers.start_rabbitmq().await.expect("it starts");
        within(SOON * 3, "the daemon goes on", async || daemon.readiness().await.0 == 200).await;
    }
    let load = publishing.done().await;
    finish("broker killed with a stream", &world, &load, &archive, daemon).await;
}

#[tokio::test]
async fn connections_that_are_cut_around_confirms_repeat_and_lose_no_event() {
    let _turn = turn().await;
    let world = streaming(&[]).await;
    let target = SocketAddr::from(([127, 0, 0, 1], world.stream_port));
    let proxy = CuttingProxy::start(Protocol::Stream, target).await.expect("a proxy");
    let through = format!("stream.port = {}", proxy.local_addr().port());
    // A connection that lives for longer than the longest wait is no reason for the next one.
    let retry = "retry = { initial = \"10ms\", max = \"20ms\" }";
    world.configure(&[&QUICK[..], &[STREAM, &through, retry]].concat());
    let (archive, daemon) = begin(&world).await;
    let publishing = Load::of(12_000).publish(&world, Duration::from_millis(10));
    for cut in 1..=40 {
        for point in [BeforeStreamConfirm, AfterStreamConfirm] {
            proxy.arm(point);
            within(SOON, &format!("cut {cut} at {point:?}"), async || proxy.cuts(point) == cut).await;
        }
    }
    let load = publishing.done().await;
    finish("cuts with a stream", &world, &load, &archive, daemon).await;
}

#[tokio::test]
async fn a_stream_that_is_deleted_is_declared_again_and_begins_a_generation() {
    let _turn = turn().await;
    let world = streaming(&[]).await;
    let (archive, mut daemon) = begin(&world).await;
    let first = Load::of(200).publish_now(&world).await;
    settled(&world, &first).await;
    let (_connection, channel) = world.channel().await;
    channel.queue_delete(world.stream.as_str().into(), QueueDeleteOptions::default()).await.expect("deleted");
    within(SOON, "a generation begins", async || daemon.metric("settled_stream_generations_total", &[]).await == 1.0)
        .await;
    let second = Load::of(200).publish_now(&world).await;
    let expected: Vec<String> = second.ids.iter().map(|id| format!("{id}/1")).collect();
    settled(&world, &first.and(second)).await;
    let came = archive.ids(&world).await;
    assert_eq!(came.len(), expected.len());
    assert!(expected.iter().all(|id| came.contains(id)), "the new stream has what came after");
    assert_eq!(daemon.metric("settled_stream_generations_total", &[]).await, 1.0);
    world.audit().await;
    daemon.stop().await;
}

#[tokio::test]
async fn events_that_waited_for_a_stream_go_to_the_exchange_once_that_is_set_again() {
    let _turn = turn().await;
    let world = streaming(&["stream.port = 1"]).await;
    load::declare(&world).await;
    let exchange = Archive::open(&world).await;
    let mut daemon = world.starting_daemon();
    eventually("it answers", async || daemon.try_get("/livez").await.is_some()).await;
    eventually("it says what to do", async || {
        down(&mut daemon, "broker_stream").await.contains("rabbitmq-plugins enable rabbitmq_stream")
    })
    .await;
    Load::prepare(&world).await;
    let load = Load::of(300).publish_now(&world).await;
    eventually("all are committed", async || committed(&world).await >= load.ids.len() + load::PREPARED).await;
    daemon.stop().await;
    assert_eq!(exchange.count(&world).await, 0);
    world.configure(&QUICK);
    let daemon = world.daemon().await;
    finish("back to the exchange", &world, &load, &exchange, daemon).await;
}
