//! From the outbox to the world: events are published with confirms on a connection of their
//! own, and a row is deleted once all its events are confirmed.
//!
//! Parcels come over in memory right after their commit. What finds no room there, what a
//! crash left behind and what no queue took is swept from the table. A row is published by
//! whoever holds its lease, so each event is published at least once and seldom twice.

mod keeper;
mod publication;
mod relay;
mod routing;
mod settings;
mod wire;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::mpsc;

pub use self::keeper::Keeper;
pub use self::publication::{Publication, publications};
pub use self::relay::{Relay, Report};
pub use self::settings::{EventFormat, EventSettings, Unroutable};
use crate::store::Parcel;

/// Where workers leave the events of a batch.
#[derive(Clone, Debug)]
pub struct Handover {
    parcels: mpsc::Sender<Parcel>,
    leases: Leases,
}

impl Handover {
    /// Room for `capacity` parcels.
    pub fn new(capacity: usize) -> (Self, mpsc::Receiver<Parcel>) {
        let (parcels, receiver) = mpsc::channel(capacity);
        (Self { parcels, leases: Leases::default() }, receiver)
    }

    /// Makes sure of room for a parcel before its batch is committed: with room the row's lease
    /// is this relay's, without it the row is anybody's at once, and is swept.
    pub fn reserve(&self) -> Option<Room<'_>> {
        self.parcels.try_reserve().ok().map(|permit| Room { permit, leases: &self.leases })
    }

    /// How many parcels may still be left without waiting.
    pub fn room(&self) -> usize {
        self.parcels.capacity()
    }

    /// The rows that this process is publishing.
    pub const fn leases(&self) -> &Leases {
        &self.leases
    }
}

/// Room for one parcel.
#[derive(Debug)]
pub struct Room<'a> {
    permit: mpsc::Permit<'a, Parcel>,
    leases: &'a Leases,
}

impl Room<'_> {
    /// Leaves a parcel whose lease is this relay's.
    pub fn give(self, parcel: Parcel) {
        self.leases.hold(parcel.id);
        self.permit.send(parcel);
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
