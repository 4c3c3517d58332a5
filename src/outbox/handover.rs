//! The relay queue: where workers and the keeper leave parcels for the relay.
//!
//! It is bounded by events, not by parcels (an idle system has one event in each, a busy one a
//! thousand), and by bytes. The room in bytes is taken until the keeper has dealt with the row, so
//! that it bounds everything that the relay and its reports hold besides.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, mpsc};
use tokio::time::Instant;

use super::Report;
use crate::store::Parcel;
use crate::store::outbox::Unrouted;

/// What an event takes beside what its task has brought along: a usual one is shorter.
const EVENT_BYTES: usize = 1024;

/// The sending side of the relay queue.
#[derive(Clone, Debug)]
pub struct Handover {
    parcels: mpsc::Sender<Queued>,
    events: Arc<Semaphore>,
    capacity: usize,
    bytes: Arc<Semaphore>,
    byte_capacity: u32,
    leases: Leases,
}

/// A parcel, and how many events' room it takes.
type Queued = (Handed, usize);

impl Handover {
    /// Room for `capacity` events of `bytes` bytes in all.
    pub fn new(capacity: usize, bytes: u32) -> (Self, Parcels) {
        // A parcel has at least one event.
        let (parcels, handed) = mpsc::channel(capacity);
        let events = Arc::new(Semaphore::new(capacity));
        let receiver = Parcels { handed, events: Arc::clone(&events) };
        let byte_room = Arc::new(Semaphore::new(bytes as usize));
        (
            Self { parcels, events, capacity, bytes: byte_room, byte_capacity: bytes, leases: Leases::default() },
            receiver,
        )
    }

    /// Makes sure of room for a parcel before its batch is committed: with room the row's lease
    /// is this relay's, without it the row is anybody's at once, and is swept. How long the events
    /// will be is guessed from the length of their tasks. A parcel of more events than there could
    /// ever be room for takes all of it; one of more bytes than half of the room takes that half, so
    /// that it can be had while others are under way.
    pub fn reserve(&self, events: usize, task_bytes: usize) -> Option<Room<'_>> {
        self.reserve_exactly(events, events * EVENT_BYTES + task_bytes * 2)
    }

    /// The same for a row whose length is known.
    pub fn reserve_exactly(&self, events: usize, bytes: usize) -> Option<Room<'_>> {
        let events = events.clamp(1, self.capacity);
        let taken = self.events.try_acquire_many(u32::try_from(events).ok()?).ok()?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(self.permits(bytes)).ok()?;
        let place = self.parcels.try_reserve().ok()?;
        Some(Room { handover: self, place, taken, events, bytes })
    }

    fn permits(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, self.byte_capacity.div_ceil(2))
    }

    /// Whether at least half of the room is left.
    pub fn is_half_empty(&self) -> bool {
        self.events.available_permits() >= self.capacity.div_ceil(2)
            && self.bytes.available_permits() >= self.byte_capacity.div_ceil(2) as usize
    }

    /// The rows that this process is publishing.
    pub const fn leases(&self) -> &Leases {
        &self.leases
    }
}

/// Room for one parcel.
#[derive(Debug)]
pub struct Room<'a> {
    handover: &'a Handover,
    place: mpsc::Permit<'a, Queued>,
    taken: SemaphorePermit<'a>,
    events: usize,
    bytes: OwnedSemaphorePermit,
}

impl Room<'_> {
    /// Leaves a parcel whose lease is this relay's. One that has turned out longer than was
    /// guessed, by more than there is room for, is not kept in memory: its lease runs out, and the
    /// row is swept.
    pub fn give(self, parcel: Parcel) {
        let Self { handover, place, taken, events, mut bytes } = self;
        let (needed, reserved) = (handover.permits(parcel.body.len()) as usize, bytes.num_permits());
        if needed > reserved {
            let more = u32::try_from(needed - reserved).unwrap_or(u32::MAX);
            let Ok(more) = Arc::clone(&handover.bytes).try_acquire_many_owned(more) else { return };
            bytes.merge(more);
        } else {
            drop(bytes.split(reserved - needed));
        }
        handover.leases.hold(parcel.id);
        taken.forget();
        place.send((Handed { parcel, bytes }, events));
    }
}

/// A parcel, and its share of the room in bytes, which is given back with it.
#[derive(Debug)]
pub struct Handed {
    parcel: Parcel,
    bytes: OwnedSemaphorePermit,
}

impl Handed {
    /// What has become of it, with its share of the room: `unrouted` is as long as the parcel was.
    pub fn into_report(self, unrouted: Vec<Unrouted>) -> Report {
        let Self { parcel: Parcel { id, held_key, held_reason, .. }, bytes } = self;
        Report { id, held_key, was_refused: held_reason.is_some(), unrouted, share: Some(bytes) }
    }
}

impl Deref for Handed {
    type Target = Parcel;

    fn deref(&self) -> &Parcel {
        &self.parcel
    }
}

impl DerefMut for Handed {
    fn deref_mut(&mut self) -> &mut Parcel {
        &mut self.parcel
    }
}

/// Where the relay takes them.
#[derive(Debug)]
pub struct Parcels {
    handed: mpsc::Receiver<Queued>,
    events: Arc<Semaphore>,
}

impl Parcels {
    /// The next parcel; `None` when no more can come.
    pub async fn next(&mut self) -> Option<Handed> {
        let queued = self.handed.recv().await?;
        Some(self.make_room(queued))
    }

    /// The next parcel, if one is waiting.
    pub fn next_waiting(&mut self) -> Option<Handed> {
        let queued = self.handed.try_recv().ok()?;
        Some(self.make_room(queued))
    }

    fn make_room(&self, (parcel, events): Queued) -> Handed {
        self.events.add_permits(events);
        parcel
    }
}

/// The rows that this process is publishing, and since when. Bounded by the relay queue and the
/// number of publishers.
#[derive(Clone, Debug, Default)]
pub struct Leases(Arc<Mutex<HashMap<i64, Instant>>>);

impl Leases {
    fn hold(&self, id: i64) {
        self.0.lock().insert(id, Instant::now());
    }

    /// The leases of these rows were prolonged just now.
    pub fn renewed(&self, ids: &[i64]) {
        let mut held = self.0.lock();
        for id in ids {
            if let Some(since) = held.get_mut(id) {
                *since = Instant::now();
            }
        }
    }

    /// The row is deleted, or left to others.
    pub fn release(&self, id: i64) {
        self.0.lock().remove(&id);
    }

    /// Whether nothing is being published.
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// The rows held since before `since`.
    pub fn held_since(&self, since: Instant) -> Vec<i64> {
        self.0.lock().iter().filter(|(_, held)| **held <= since).map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(id: i64, bytes: usize) -> Parcel {
        Parcel { id, body: vec![b'x'; bytes], events: 1, held_key: None, held_reason: None }
    }

    #[tokio::test]
    async fn room_in_bytes_is_taken_until_the_row_is_dealt_with() {
        let (handover, mut parcels) = Handover::new(100, 10_000);
        handover.reserve(1, 0).expect("room").give(parcel(1, 4_000));
        handover.reserve(1, 0).expect("room").give(parcel(2, 2_000));
        assert!(handover.reserve_exactly(1, 5_000).is_none() && !handover.is_half_empty());
        let handed = parcels.next().await.expect("a parcel");
        assert!(handover.reserve_exactly(1, 5_000).is_none(), "the relay has it still");
        let report = handed.into_report(Vec::new());
        assert!(handover.reserve_exactly(1, 5_000).is_none(), "its report has its lines");
        drop(report);
        assert!(handover.is_half_empty() && handover.reserve_exactly(1, 5_000).is_some());
    }

    #[tokio::test]
    async fn what_is_longer_than_was_guessed_and_than_there_is_room_for_is_left_to_the_sweep() {
        let (handover, mut parcels) = Handover::new(100, 10_000);
        let (first, second) = (handover.reserve(1, 0).expect("room"), handover.reserve(1, 0).expect("room"));
        handover.reserve(1, 0).expect("room").give(parcel(3, 3_000));
        first.give(parcel(1, 5_000));
        second.give(parcel(2, 5_000));
        let given = [parcels.next().await, parcels.next_waiting()].map(|handed| handed.expect("a parcel").id);
        assert_eq!(given, [3, 1]);
        let mut leases = handover.leases().held_since(Instant::now());
        leases.sort_unstable();
        assert!(parcels.next_waiting().is_none() && leases == [1, 3]);
    }

    #[tokio::test]
    async fn a_parcel_longer_than_all_the_room_takes_half_of_it() {
        let (handover, mut parcels) = Handover::new(100, 10_000);
        for id in 1..=2 {
            handover.reserve_exactly(1, 1_000_000).expect("half of it").give(parcel(id, 1_000_000));
        }
        assert!(handover.reserve(1, 0).is_none());
        drop(parcels.next().await);
        assert!(handover.reserve(1, 0).is_some());
    }
}
