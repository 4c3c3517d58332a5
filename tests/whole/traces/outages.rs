//! A collector that is away, slow or silent costs spans and nothing else.

use std::time::Duration;

use settled_testkit::harness::{Daemon, Publisher, Task, World, open, transfer, within};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::task::AbortOnDropHandle;

use super::collector::Collector;
use super::traced;

/// Tasks that are published together.
const MANY: usize = 3_000;

/// Publishes sampled tasks to a daemon that exports to `url`, and waits until all are settled.
async fn settle_many(url: &str) -> (World, Daemon) {
    // A request to a collector that does not answer is open for longer than a daemon may take to stop.
    let settings = [format!("traces.endpoint = {url:?}"), "traces.timeout = \"60s\"".to_owned()];
    let (world, daemon, publisher) = World::at_work(&settings.each_ref().map(String::as_str)).await;
    world.settle(&[open("world", "USD", None), open("alice", "USD", None)]).await;
    settle(&world, &publisher, MANY).await;
    (world, daemon)
}

async fn settle(world: &World, publisher: &Publisher, count: usize) {
    let tasks: Vec<Task> = (0..count).map(|_| transfer("world", "alice", 1)).collect();
    publisher.publish_all_with(&tasks, |task| traced(task, "01")).await;
    world.all_are("settled", &tasks).await;
}

/// Returns a socket that is bound and does not listen, and its URL: connections are refused, and nobody else gets the port.
fn port_without_a_listener() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let url = format!("http://{}", socket.local_addr().expect("an address"));
    (socket, url)
}

/// Publishes until spans of tasks find no more room.
async fn overflow(world: &World, daemon: &mut Daemon) {
    let publisher = world.publisher().await;
    while counted(daemon, "dropped").await == 0.0 {
        settle(world, &publisher, MANY).await;
    }
}

async fn counted(daemon: &mut Daemon, result: &str) -> f64 {
    daemon.metric("settled_spans_total", &[("result", result)]).await
}

/// Waits until spans have this result.
async fn some_are(daemon: &mut Daemon, result: &str) {
    within(Duration::from_secs(60), &format!("spans are {result}"), async || counted(daemon, result).await > 0.0).await;
}

#[tokio::test]
async fn payments_are_settled_while_no_collector_listens() {
    let (_socket, url) = port_without_a_listener();
    let (world, mut daemon) = settle_many(&url).await;
    some_are(&mut daemon, "failed").await;
    assert_eq!(counted(&mut daemon, "exported").await, 0.0);
    overflow(&world, &mut daemon).await;
    assert_eq!(daemon.log().matches("spans can't be exported").count(), 1, "it is said once: {}", daemon.tail());
    assert_eq!(daemon.readiness().await.0, 200);
    world.end(daemon).await;
}

#[tokio::test]
async fn payments_are_settled_and_the_daemon_stops_while_the_collector_is_silent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let _silent = AbortOnDropHandle::new(tokio::spawn(async move {
        let mut taken = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            taken.push(stream);
        }
    }));
    let (world, mut daemon) = settle_many(&url).await;
    overflow(&world, &mut daemon).await;
    assert_eq!(counted(&mut daemon, "exported").await, 0.0);
    assert_eq!(daemon.readiness().await.0, 200);
    world.end(daemon).await;
}

#[tokio::test]
async fn payments_are_settled_and_the_daemon_stops_while_the_collector_is_slow() {
    let collector = Collector::with_delay(Duration::from_secs(3)).await;
    let (world, mut daemon) = settle_many(&collector.url).await;
    some_are(&mut daemon, "exported").await;
    overflow(&world, &mut daemon).await;
    assert_eq!(daemon.readiness().await.0, 200);
    world.end(daemon).await;
}

#[tokio::test]
async fn spans_are_exported_again_once_the_collector_is_back() {
    let (socket, url) = port_without_a_listener();
    let (world, mut daemon, publisher) =
        World::at_work(&[&format!("traces.endpoint = {url:?}"), "traces.timeout = \"1s\""]).await;
    world.settle(&[open("world", "USD", None), open("alice", "USD", None)]).await;
    settle(&world, &publisher, 1).await;
    some_are(&mut daemon, "failed").await;
    let _collector = Collector::on(socket.listen(16).expect("it listens"), Duration::ZERO);
    settle(&world, &publisher, 1).await;
    some_are(&mut daemon, "exported").await;
    assert!(daemon.log().contains("the collector takes spans again"), "{}", daemon.tail());
    world.end(daemon).await;
}

#[tokio::test]
async fn the_last_spans_are_exported_before_the_daemon_ends() {
    let collector = Collector::start().await;
    let (world, daemon, publisher) = World::at_work(&[&collector.setting()]).await;
    let events = world.events().await;
    world.settle(&[open("world", "USD", None), open("alice", "USD", None)]).await;
    let tasks: Vec<Task> = (0..200).map(|_| transfer("world", "alice", 1)).collect();
    publisher.publish_all_with(&tasks, |task| traced(task, "01")).await;
    events.count(2 + tasks.len()).await;
    world.end(daemon).await;
    let spans = collector.spans();
    let of = |name: &str| spans.iter().filter(|span| span.name == name).count();
    assert_eq!((of("process transfer"), of("publish payment.settled")), (200, 200));
}
