//! The keeper on tables in memory, with a paused clock.

use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;

use super::*;
use crate::contract::{Message, Properties};
use crate::ledger::{Arrival, NonePending, Rules};
use crate::outbox::Parcels;
use crate::store::outbox::Unrouted;
use crate::store::{Memory, Submission};

const KEY: &str = "payment.settled";

struct Tables {
    memory: Mutex<Memory>,
    start: Instant,
}

impl Tables {
    /// That many rows of one event each, which no queue took.
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
            let Parcel { id, body: lines, .. } = committed.parcel.expect("an event");
            let unrouted = Unrouted { key: KEY.to_owned(), reason: None, lines, events: 1 };
            memory.hold(id, &[unrouted], Duration::ZERO, tables.now());
        }
        Arc::new(tables)
    }

    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH + self.start.elapsed()
    }
}

impl OutboxStore for Arc<Tables> {
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

    async fn take(&self, ids: &[i64], lease: Duration) -> Result<Vec<Parcel>, StoreError> {
        Ok(self.memory.lock().take(ids, lease, self.now()))
    }

    async fn drop_held_replies(&self, limit: Duration) -> Result<i64, StoreError> {
        Ok(self.memory.lock().drop_held_replies(limit, self.now()))
    }

    async fn measure(&self) -> Result<(Depth, i64), StoreError> {
        Ok((self.memory.lock().depth(), 0))
    }
}

/// A relay whose every event a queue takes: publishes until the table is empty.
async fn publish_all(tables: &Tables, mut parcels: Parcels, reports: mpsc::Sender<Report>) {
    while !tables.memory.lock().outbox.is_empty() {
        let Ok(Some(parcel)) = tokio::time::timeout(ROUND, parcels.next()).await else { continue };
        reports.send(parcel.into_report(Vec::new())).await.expect("the keeper runs");
    }
}

#[tokio::test(start_paused = true)]
async fn held_rows_for_which_there_is_no_room_do_not_wait_for_a_lease() {
    let tables = Tables::with_held(30);
    let settings = EventSettings { handover: 2, ..EventSettings::default() };
    let ((handover, parcels), (reports, reported)) =
        (Handover::new(settings.handover, settings.handover_bytes), mpsc::channel(1));
    let (metrics, stop) = (Arc::new(Metrics::register(1)), CancellationToken::new());
    let health = Health::new(Arc::clone(&metrics));
    let keeper = Keeper::new(Arc::clone(&tables), settings.clone(), handover, reported, health, metrics, stop);
    let keeping = tokio::spawn(keeper.run());
    publish_all(&tables, parcels, reports).await;
    keeping.await.expect("it lives");
    let took = tables.start.elapsed();
    // The first goes out as a probe, and the others once it has found a queue.
    assert!(took < settings.retry_held + settings.lease, "{took:?} of the simulated clock");
}
