//! Tests of the outbox sweeper on in-memory tables, with a paused clock.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use settled_core::contract::{Message, Properties};
use settled_core::ledger::{Arrival, NonePending, Rules};
use settled_pipeline::health::Health;
use settled_pipeline::metrics::Metrics;
use settled_pipeline::outbox::{EventSettings, OutboxSweeper, RelayQueue, RelayReceiver, Report};
use settled_pipeline::store::{Depth, EventBatch, OutboxStore, RowSize, StoreError, Submission, Unrouted};
use settled_testkit::memory::Memory;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Interval of the sweeper.
const ROUND: Duration = Duration::from_millis(500);

const KEY: &str = "payment.settled";

struct Tables {
    memory: Mutex<Memory>,
    start: Instant,
}

/// In-memory tables shared by the sweeper and the test.
struct Shared(Arc<Tables>);

impl std::ops::Deref for Shared {
    type Target = Tables;

    fn deref(&self) -> &Tables {
        &self.0
    }
}

impl Tables {
    /// Creates tables with `rows` held rows of one event each, which no queue took.
    fn with_held(rows: usize) -> Arc<Self> {
        let tables = Self { memory: Mutex::new(Memory::new(Rules::default())), start: Instant::now() };
        for number in 0..rows {
            let body = format!(
                r#"{{"id":"01920000-0000-7000-8000-{number:012}","type":"open_account","account":"a{number}","currency":"USD"}}"#
            );
            let message = Message::read(body.into_bytes(), Properties::default(), tables.now());
            let submission = Submission::of(Arrival(0), &message);
            let mut memory = tables.memory.lock();
            let committed = memory.commit(&[submission], &[], &NonePending, Duration::ZERO, tables.now());
            let EventBatch { id, body: lines, .. } = committed.event_batch.expect("an event");
            let unrouted = Unrouted { key: KEY.to_owned(), reason: None, lines, events: 1 };
            memory.hold(id, &[unrouted], Duration::ZERO, tables.now());
        }
        Arc::new(tables)
    }

    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH + self.start.elapsed()
    }
}

impl OutboxStore for Shared {
    async fn delete(&self, ids: &[i64]) -> Result<(), StoreError> {
        self.memory.lock().delete(ids);
        Ok(())
    }

    async fn hold(&self, id: i64, unrouted: &[Unrouted], retry: Duration) -> Result<(), StoreError> {
        self.memory.lock().hold(id, unrouted, retry, self.now());
        Ok(())
    }

    async fn renew(&self, ids: &[i64], lease: Duration) -> Result<(), StoreError> {
        self.memory.lock().renew(ids, lease, self.now());
        Ok(())
    }

    async fn abandoned(&self, most: usize) -> Result<Vec<RowSize>, StoreError> {
        Ok(self.memory.lock().abandoned(most, self.now()))
    }

    async fn held_of(&self, key: &str, refused: bool, most: usize) -> Result<Vec<RowSize>, StoreError> {
        Ok(self.memory.lock().held_of(key, refused, most, self.now()))
    }

    async fn probes(&self, most: usize) -> Result<Vec<RowSize>, StoreError> {
        Ok(self.memory.lock().probes(most, self.now()))
    }

    async fn take(&self, ids: &[i64], lease: Duration) -> Result<Vec<EventBatch>, StoreError> {
        Ok(self.memory.lock().take(ids, lease, self.now()))
    }

    async fn drop_held_replies(&self, limit: Duration) -> Result<i64, StoreError> {
        Ok(self.memory.lock().drop_held_replies(limit, self.now()))
    }

    async fn measure(&self) -> Result<(Depth, i64), StoreError> {
        Ok((self.memory.lock().depth(), 0))
    }
}

/// A relay whose events are all taken by a queue. Publishes until the outbox is empty.
async fn publish_all(tables: &Tables, mut receiver: RelayReceiver, reports: mpsc::Sender<Report>) {
    while !tables.memory.lock().outbox.is_empty() {
        let Ok(Some(event_batch)) = tokio::time::timeout(ROUND, receiver.next()).await else { continue };
        reports.send(event_batch.into_report(Vec::new())).await.expect("the sweeper runs");
    }
}

#[tokio::test(start_paused = true)]
async fn held_rows_for_which_there_is_no_room_do_not_wait_for_a_lease() {
    let tables = Tables::with_held(30);
    let settings = EventSettings { handover: 2, ..EventSettings::default() };
    let ((relay_queue, receiver), (reports, reported)) =
        (RelayQueue::new(settings.handover, settings.handover_bytes), mpsc::channel(1));
    let (metrics, stop) = (Arc::new(Metrics::register(1)), CancellationToken::new());
    let health = Health::new(Arc::clone(&metrics));
    let sweeper =
        OutboxSweeper::new(Shared(Arc::clone(&tables)), settings.clone(), relay_queue, reported, health, metrics, stop);
    let sweeping = tokio::spawn(sweeper.run());
    publish_all(&tables, receiver, reports).await;
    sweeping.await.expect("it lives");
    let took = tables.start.elapsed();
    // The first row is published as a probe. The others follow once it has found a queue.
    assert!(took < settings.retry_held + settings.lease, "{took:?} of the simulated clock");
}
