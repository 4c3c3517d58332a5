//! The relay queue: a bounded queue in memory, in which workers and the sweeper leave event batches for the relay.
//!
//! It is bounded by events rather than by event batches (an idle system has one event in each, a busy one a thousand),
//! and by bytes. The bytes stay reserved until the sweeper has deleted or held the row, so that they also bound what
//! the relay and its reports hold.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, mpsc};
use tokio::time::Instant;

use crate::store::{EventBatch, Unrouted};

/// Bytes reserved for an event besides those that its task contributes. Most events are shorter.
const EVENT_BYTES: usize = 1024;

/// The sending side of the relay queue.
#[derive(Clone, Debug)]
pub struct RelayQueue {
    event_batches: mpsc::Sender<Queued>,
    events: Arc<Semaphore>,
    capacity: usize,
    bytes: Arc<Semaphore>,
    byte_capacity: u32,
    leases: Leases,
}

/// An event batch, and the number of events for which it has room reserved.
type Queued = (QueuedBatch, usize);

impl RelayQueue {
    /// Creates a queue with room for `capacity` events, and for `bytes` bytes of events.
    pub fn new(capacity: usize, bytes: u32) -> (Self, RelayReceiver) {
        // Every event batch has at least one event.
        let (event_batches, queued) = mpsc::channel(capacity);
        let events = Arc::new(Semaphore::new(capacity));
        let receiver = RelayReceiver { queued, events: Arc::clone(&events) };
        let byte_room = Arc::new(Semaphore::new(bytes as usize));
        (
            Self { event_batches, events, capacity, bytes: byte_room, byte_capacity: bytes, leases: Leases::default() },
            receiver,
        )
    }

    /// Reserves room for an event batch before its transaction is committed. With a reservation the row is committed
    /// with a lease of this process; without one it has no lease, and any process may sweep it.
    ///
    /// The length of the events is estimated from that of their tasks. An event batch with more events than the
    /// capacity takes all of it; one with more bytes than half of the capacity takes that half, so that it can be
    /// reserved while others are being published.
    pub fn reserve(&self, events: usize, task_bytes: usize) -> Option<Reservation<'_>> {
        self.reserve_exactly(events, events * EVENT_BYTES + task_bytes * 2)
    }

    /// Reserves room for a row whose length is known, as [`Self::reserve`] does.
    pub fn reserve_exactly(&self, events: usize, bytes: usize) -> Option<Reservation<'_>> {
        let events = events.clamp(1, self.capacity);
        let taken = self.events.try_acquire_many(u32::try_from(events).ok()?).ok()?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(self.permits(bytes)).ok()?;
        let place = self.event_batches.try_reserve().ok()?;
        Some(Reservation { queue: self, place, taken, events, bytes })
    }

    fn permits(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, self.byte_capacity.div_ceil(2))
    }

    /// Whether at least half of the room is left, in events and in bytes.
    pub fn is_half_empty(&self) -> bool {
        self.events.available_permits() >= self.capacity.div_ceil(2)
            && self.bytes.available_permits() >= self.byte_capacity.div_ceil(2) as usize
    }

    /// Returns the leases of the rows that this process is publishing.
    pub const fn leases(&self) -> &Leases {
        &self.leases
    }
}

/// Room reserved in the relay queue for one event batch.
#[derive(Debug)]
pub struct Reservation<'a> {
    queue: &'a RelayQueue,
    place: mpsc::Permit<'a, Queued>,
    taken: SemaphorePermit<'a>,
    events: usize,
    bytes: OwnedSemaphorePermit,
}

impl Reservation<'_> {
    /// Sends an event batch that this process has leased. One that is longer than estimated, and does not fit, is
    /// dropped: its lease runs out, and the row is swept.
    pub fn send(self, event_batch: EventBatch) {
        let Self { queue, place, taken, events, mut bytes } = self;
        let (needed, reserved) = (queue.permits(event_batch.body.len()) as usize, bytes.num_permits());
        if needed > reserved {
            let more = u32::try_from(needed - reserved).unwrap_or(u32::MAX);
            let Ok(more) = Arc::clone(&queue.bytes).try_acquire_many_owned(more) else { return };
            bytes.merge(more);
        } else {
            drop(bytes.split(reserved - needed));
        }
        queue.leases.hold(event_batch.id);
        taken.forget();
        place.send((QueuedBatch { event_batch, bytes }, events));
    }
}

/// An event batch, and the bytes that are reserved for it until it is dropped.
#[derive(Debug)]
pub struct QueuedBatch {
    event_batch: EventBatch,
    bytes: OwnedSemaphorePermit,
}

impl QueuedBatch {
    /// Reports that the event batch is published, but for `unrouted`. The bytes stay reserved with the report, because
    /// `unrouted` can be as long as the event batch was.
    pub fn into_report(self, unrouted: Vec<Unrouted>) -> Report {
        let Self { event_batch: EventBatch { id, held_key, held_reason, .. }, bytes } = self;
        Report { id, held_key, was_refused: held_reason.is_some(), unrouted, bytes }
    }
}

impl Deref for QueuedBatch {
    type Target = EventBatch;

    fn deref(&self) -> &EventBatch {
        &self.event_batch
    }
}

impl DerefMut for QueuedBatch {
    fn deref_mut(&mut self) -> &mut EventBatch {
        &mut self.event_batch
    }
}

/// What became of an event batch, for the sweeper.
#[derive(Debug)]
pub struct Report {
    /// Id of the outbox row.
    pub id: i64,
    /// The routing key under which the row was held before.
    pub held_key: Option<String>,
    /// Whether the row was held because the broker had refused it.
    pub was_refused: bool,
    /// The events to hold. If there are none, the row is done and can be deleted.
    pub unrouted: Vec<Unrouted>,
    /// The bytes that stay reserved in the relay queue until the report is dropped.
    pub bytes: OwnedSemaphorePermit,
}

/// The receiving side of the relay queue.
#[derive(Debug)]
pub struct RelayReceiver {
    queued: mpsc::Receiver<Queued>,
    events: Arc<Semaphore>,
}

impl RelayReceiver {
    /// Waits for the next event batch. Returns `None` when all senders are gone.
    pub async fn next(&mut self) -> Option<QueuedBatch> {
        let queued = self.queued.recv().await?;
        Some(self.release_events(queued))
    }

    /// Returns the next event batch if one is queued.
    pub fn next_waiting(&mut self) -> Option<QueuedBatch> {
        let queued = self.queued.try_recv().ok()?;
        Some(self.release_events(queued))
    }

    fn release_events(&self, (event_batch, events): Queued) -> QueuedBatch {
        self.events.add_permits(events);
        event_batch
    }
}

/// The rows that this process has leased and is publishing, and since when. Their number is bounded by the relay queue
/// and the number of publishers.
#[derive(Clone, Debug, Default)]
pub struct Leases(Arc<Mutex<HashMap<i64, Instant>>>);

impl Leases {
    fn hold(&self, id: i64) {
        self.0.lock().insert(id, Instant::now());
    }

    /// Records that the leases of these rows begin anew now.
    pub fn renewed(&self, ids: &[i64]) {
        let mut held = self.0.lock();
        for id in ids {
            if let Some(since) = held.get_mut(id) {
                *since = Instant::now();
            }
        }
    }

    /// Forgets the lease of a row that is deleted or held.
    pub fn release(&self, id: i64) {
        self.0.lock().remove(&id);
    }

    /// Whether this process is publishing no row.
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Returns the rows whose lease began no later than `since`.
    pub fn held_since(&self, since: Instant) -> Vec<i64> {
        self.0.lock().iter().filter(|(_, held)| **held <= since).map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event_batch(id: i64, bytes: usize) -> EventBatch {
        EventBatch { id, body: vec![b'x'; bytes], events: 1, held_key: None, held_reason: None }
    }

    #[tokio::test]
    async fn room_in_bytes_is_taken_until_the_row_is_dealt_with() {
        let (queue, mut event_batches) = RelayQueue::new(100, 10_000);
        queue.reserve(1, 0).expect("room").send(event_batch(1, 4_000));
        queue.reserve(1, 0).expect("room").send(event_batch(2, 2_000));
        assert!(queue.reserve_exactly(1, 5_000).is_none() && !queue.is_half_empty());
        let queued = event_batches.next().await.expect("an event batch");
        assert!(queue.reserve_exactly(1, 5_000).is_none(), "the relay has it still");
        let report = queued.into_report(Vec::new());
        assert!(queue.reserve_exactly(1, 5_000).is_none(), "its report has its lines");
        drop(report);
        assert!(queue.is_half_empty() && queue.reserve_exactly(1, 5_000).is_some());
    }

    #[tokio::test]
    async fn what_is_longer_than_was_guessed_and_than_there_is_room_for_is_left_to_the_sweep() {
        let (queue, mut event_batches) = RelayQueue::new(100, 10_000);
        let (first, second) = (queue.reserve(1, 0).expect("room"), queue.reserve(1, 0).expect("room"));
        queue.reserve(1, 0).expect("room").send(event_batch(3, 3_000));
        first.send(event_batch(1, 5_000));
        second.send(event_batch(2, 5_000));
        let given =
            [event_batches.next().await, event_batches.next_waiting()].map(|queued| queued.expect("an event batch").id);
        assert_eq!(given, [3, 1]);
        let mut leases = queue.leases().held_since(Instant::now());
        leases.sort_unstable();
        assert!(event_batches.next_waiting().is_none() && leases == [1, 3]);
    }

    #[tokio::test]
    async fn an_event_batch_longer_than_all_the_room_takes_half_of_it() {
        let (queue, mut event_batches) = RelayQueue::new(100, 10_000);
        for id in 1..=2 {
            queue.reserve_exactly(1, 1_000_000).expect("half of it").send(event_batch(id, 1_000_000));
        }
        assert!(queue.reserve(1, 0).is_none());
        drop(event_batches.next().await);
        assert!(queue.reserve(1, 0).is_some());
    }
}
