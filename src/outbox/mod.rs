//! From the outbox to the world: events are published with confirms on a connection of their
//! own, and a row is deleted once all its events are confirmed.
//!
//! Parcels come over in memory right after their commit. What finds no room there, what a
//! crash left behind and what no queue took is swept from the table. A row is published by
//! whoever holds its lease, so each event is published at least once and seldom twice.

mod direct;
mod keeper;
mod publication;
mod rabbitmq;
mod relay;
mod routing;
mod session;
mod settings;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::time::Instant;

pub use self::keeper::Keeper;
pub use self::publication::{Publication, publications};
pub use self::rabbitmq::RabbitSink;
pub use self::relay::{Relay, Report};
pub use self::session::{Channel, Confirmation, RelayError, Session, Sink};
pub use self::settings::{EventFormat, EventSettings, Unroutable};
use crate::store::Parcel;

/// Where workers leave the events of a batch. Bounded by events, not by parcels: an idle system
/// has one event in each, a busy one a thousand.
#[derive(Clone, Debug)]
pub struct Handover {
    parcels: mpsc::Sender<Handed>,
    events: Arc<Semaphore>,
    capacity: usize,
    leases: Leases,
}

/// A parcel, and how many events' room it takes.
type Handed = (Parcel, usize);

impl Handover {
    /// Room for `capacity` events.
    pub fn new(capacity: usize) -> (Self, Parcels) {
        // A parcel has at least one event.
        let (parcels, handed) = mpsc::channel(capacity);
        let events = Arc::new(Semaphore::new(capacity));
        let receiver = Parcels { handed, events: Arc::clone(&events) };
        (Self { parcels, events, capacity, leases: Leases::default() }, receiver)
    }

    /// Makes sure of room for a parcel before its batch is committed: with room the row's lease
    /// is this relay's, without it the row is anybody's at once, and is swept. A parcel of more
    /// events than there could ever be room for takes all of it.
    pub fn reserve(&self, events: usize) -> Option<Room<'_>> {
        let events = events.clamp(1, self.capacity);
        let taken = self.events.try_acquire_many(u32::try_from(events).ok()?).ok()?;
        let place = self.parcels.try_reserve().ok()?;
        Some(Room { place, taken, events, leases: &self.leases })
    }

    /// Whether at least half of the room is left.
    pub fn is_half_empty(&self) -> bool {
        self.events.available_permits() >= self.capacity.div_ceil(2)
    }

    /// The rows that this process is publishing.
    pub const fn leases(&self) -> &Leases {
        &self.leases
    }
}

/// Room for one parcel.
#[derive(Debug)]
pub struct Room<'a> {
    place: mpsc::Permit<'a, Handed>,
    taken: SemaphorePermit<'a>,
    events: usize,
    leases: &'a Leases,
}

impl Room<'_> {
    /// Leaves a parcel whose lease is this relay's.
    pub fn give(self, parcel: Parcel) {
        self.leases.hold(parcel.id);
        self.taken.forget();
        self.place.send((parcel, self.events));
    }
}

/// Where the relay takes them.
#[derive(Debug)]
pub struct Parcels {
    handed: mpsc::Receiver<Handed>,
    events: Arc<Semaphore>,
}

impl Parcels {
    /// The next parcel; `None` when no more can come.
    async fn next(&mut self) -> Option<Parcel> {
        let handed = self.handed.recv().await?;
        Some(self.make_room(handed))
    }

    /// The next parcel, if one is waiting.
    fn next_waiting(&mut self) -> Option<Parcel> {
        let handed = self.handed.try_recv().ok()?;
        Some(self.make_room(handed))
    }

    fn make_room(&self, (parcel, events): Handed) -> Parcel {
        self.events.add_permits(events);
        parcel
    }
}

/// The rows that this process is publishing, and since when. Bounded by the handover and the
/// number of publishers.
#[derive(Clone, Debug, Default)]
pub struct Leases(Arc<Mutex<HashMap<i64, Instant>>>);

impl Leases {
    fn hold(&self, id: i64) {
        self.0.lock().insert(id, Instant::now());
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
