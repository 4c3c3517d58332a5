//! From the outbox to a real RabbitMQ: the events of committed batches as messages, published
//! and confirmed.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use lapin::options::QueueDeclareOptions;
use settled_amqp::BrokerSettings;
use settled_amqp::RabbitSink;
use settled_pipeline::health::Health;
use settled_pipeline::metrics::Metrics;
use settled_pipeline::outbox::{EventFormat, EventSettings, Relay, RelayQueue, Report};
use settled_pipeline::retry::RetrySettings;
use settled_pipeline::store::EventBatch;
use settled_testkit::harness::{amqp, bind, declare_queue};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use support::{payment, servers};

/// Committed batches that are published one after another, as while a backlog is worked off.
const EVENT_BATCHES: usize = 10;
/// In each of them, when it is measured.
const EVENTS: u32 = 1000;

/// The subscriber's queue keeps no more, in bytes: nobody reads it.
const KEPT: i64 = 64 * 1024 * 1024;

fn relay(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let events: u32 = if support::measuring() { EVENTS } else { 10 };
    let mut group = criterion.benchmark_group("relay");
    group.throughput(Throughput::Elements(u64::from(events) * EVENT_BATCHES as u64));
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    for (name, format) in [("single", EventFormat::Single), ("batch", EventFormat::Batch)] {
        let mut running: Option<Running> = None;
        group.bench_function(BenchmarkId::new(name, events), |bencher| {
            let running = running.get_or_insert_with(|| runtime.block_on(Running::start(format)));
            let body = body(events);
            bencher.iter_custom(|times| (0..times).map(|_| runtime.block_on(running.publish(&body, events))).sum());
        });
        if let Some(running) = running {
            runtime.block_on(running.stop());
        }
    }
    group.finish();
}

/// The body of an outbox row.
fn body(events: u32) -> Vec<u8> {
    let mut body = Vec::new();
    (0..events).for_each(|_| support::event(&payment(1, 2), None, &mut body));
    body
}

/// A relay, and both ends of it.
struct Running {
    relay_queue: RelayQueue,
    reports: mpsc::Receiver<Report>,
    stop: CancellationToken,
    relay: tokio::task::JoinHandle<()>,
    next: i64,
}

impl Running {
    async fn start(format: EventFormat) -> Self {
        let settings = EventSettings { format, ..EventSettings::default() };
        servers().await.start_rabbitmq().await.expect("RabbitMQ starts");
        let uri = servers().await.amqp_uri().parse().expect("an AMQP URI");
        let broker = BrokerSettings { uris: vec![uri], ..BrokerSettings::default() };
        subscribe(&settings.exchange).await;
        let (relay_queue, receiver) = RelayQueue::new(EVENT_BATCHES * EVENTS as usize, 1 << 30);
        let (report, reports) = mpsc::channel(EVENT_BATCHES);
        let (metrics, stop) = (Arc::new(Metrics::register(1)), CancellationToken::new());
        let health = Health::new(Arc::clone(&metrics));
        let retry = RetrySettings::default().into();
        let sink = RabbitSink::new(broker, &settings);
        let relay = Relay::new(sink, settings, retry, receiver, report, health, metrics, stop.clone());
        Self { relay_queue, reports, stop, relay: tokio::spawn(relay.run()), next: 0 }
    }

    /// How long it takes until all event batches are confirmed.
    async fn publish(&mut self, body: &[u8], events: u32) -> Duration {
        let event_batch = |id| EventBatch { id, body: body.to_vec(), events, held_key: None, held_reason: None };
        let event_batches: Vec<EventBatch> = (self.next..).take(EVENT_BATCHES).map(event_batch).collect();
        self.next += EVENT_BATCHES as i64;
        let began = Instant::now();
        for event_batch in event_batches {
            let room = self.relay_queue.reserve_exactly(events as usize, body.len()).expect("room for all of them");
            room.send(event_batch);
        }
        for _ in 0..EVENT_BATCHES {
            let report = self.reports.recv().await.expect("the relay runs");
            assert!(report.unrouted.is_empty(), "{report:?}");
        }
        began.elapsed()
    }

    async fn stop(self) {
        self.stop.cancel();
        self.relay.await.expect("the relay ends");
    }
}

/// Declares a queue that gets every event.
async fn subscribe(exchange: &str) {
    let connection = amqp::connect(servers().await.amqp_uri()).await;
    let channel = connection.create_channel().await.expect("a channel");
    amqp::declare_exchange(&channel, exchange).await;
    let bounded = amqp::table(&[("x-max-length-bytes", KEPT.into())]);
    declare_queue(&channel, "events", QueueDeclareOptions::durable(), bounded).await;
    bind(&channel, "events", exchange, "#").await;
    connection.close(200, "done".into()).await.expect("closed");
}

fn main() {
    support::run(relay);
}
