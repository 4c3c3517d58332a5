//! A test of the outbox sweeper on simulated tables, with a paused clock.

use std::sync::Arc;
use std::time::Duration;

use settled_core::contract::{Message, Properties};
use settled_core::ledger::{Arrival, NonePending};
use settled_pipeline::health::Health;
use settled_pipeline::metrics::Metrics;
use settled_pipeline::outbox::{EventSettings, OutboxSweeper, RelayQueue, RelayReceiver, Report};
use settled_pipeline::store::{EventBatch, Submission, Unrouted};
use settled_testkit::harness::task::open;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::store::SimStore;
use super::world::World;

/// Interval of the sweeper.
const ROUND: Duration = Duration::from_millis(500);

/// Adds `rows` held rows of one event each, which no queue took.
fn hold(world: &World, rows: usize) {
    let mut tables = world.tables.lock();
    for number in 0..rows {
        let task = open(&format!("a{number}"), "USD", Some(0));
        let message = Message::read(task.body().into_bytes(), Properties::default(), world.now());
        let submission = Submission::of(Arrival(0), &message);
        let committed = tables.commit(&[submission], &[], &NonePending, Duration::ZERO, world.now());
        let EventBatch { id, body: lines, .. } = committed.event_batch.expect("an event");
        let unrouted = Unrouted { key: "payment.settled".to_owned(), reason: None, lines, events: 1 };
        tables.hold(id, &[unrouted], Duration::ZERO, world.now());
    }
}

/// A relay whose events are all taken by a queue. Publishes until the outbox is empty.
async fn publish_all(world: &World, mut receiver: RelayReceiver, reports: mpsc::Sender<Report>) {
    while !world.tables.lock().outbox.is_empty() {
        let Ok(Some(event_batch)) = tokio::time::timeout(ROUND, receiver.next()).await else { continue };
        reports.send(event_batch.into_report(Vec::new())).await.expect("the sweeper runs");
    }
}

#[tokio::test(start_paused = true)]
async fn held_rows_for_which_there_is_no_room_do_not_wait_for_a_lease() {
    let world = World::calm();
    hold(&world, 30);
    let settings = EventSettings { handover: 2, ..EventSettings::default() };
    let ((relay_queue, receiver), (reports, reported)) =
        (RelayQueue::new(settings.handover, settings.handover_bytes), mpsc::channel(1));
    let (metrics, stop) = (Arc::new(Metrics::register(1)), CancellationToken::new());
    let health = Health::new(Arc::clone(&metrics));
    let store = SimStore::calm(&world, 1);
    let sweeper = OutboxSweeper::new(store, settings.clone(), relay_queue, reported, health, metrics, stop);
    let sweeping = tokio::spawn(sweeper.run());
    publish_all(&world, receiver, reports).await;
    sweeping.await.expect("it lives");
    let took = world.start.elapsed();
    // The first row is published as a probe. The others follow once it has found a queue.
    assert!(took < settings.retry_held + settings.lease, "{took:?} of the simulated clock");
}
