//! The only entry into the pipeline. A source calls [`Admission::admit`], which gives a task its arrival number and
//! puts it into a lane.
//!
//! Invariant: a task gets its number and its place in the lane in one step, under the register's lock. So the tasks
//! of a lane are in the order of their numbers, however many sources admit at once. The ledger relies on this: a task
//! that arrived earlier is decided earlier. The slot is reserved before that: a source that waits for a full lane has
//! no number yet, holds no lock, and is served in turn. While it waits, the ids of its task are pinned to the lane,
//! so that the lane is still the right one when a slot is free.
//!
//! An admitted task stays in flight until its delivery is settled, which takes a proof of the commit and the outcome.
//!
//! Two kinds of tasks bypass admission and go directly to [`crate::committer`]: resumed tasks (see
//! [`crate::scheduler`]) and dead-lettered messages (see `intake::collector`).

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::health::Health;
use crate::lanes::{InFlight, LaneGuard, Lanes, Slot, Undecided};
use crate::store::{Answer, Proof};
use settled_core::contract::{AccountName, Message, Task};
use settled_core::ledger::Arrival;

/// Handle by which the source of a task is told the outcome. Settling consumes the handle and needs a proof of
/// commit, which only the store can make.
pub trait Delivery: Send + 'static {
    /// Reports the committed outcome to the source.
    fn settle(self, proof: &Proof, outcome: &Answer);
}

/// A task in flight.
#[derive(Debug)]
pub struct Job<D> {
    /// Its number in the order of arrival, given on admission.
    pub arrival: Arrival,
    /// The task, or the dead letter made from an invalid message.
    pub message: Message,
    /// Time at which the source submitted it.
    pub taken: Instant,
    /// Handle for settling the delivery.
    pub delivery: D,
}

/// The register of tasks in flight and the lanes they wait in.
pub struct Admission<D> {
    in_flight: InFlight,
    lanes: Lanes<Job<D>>,
    health: Arc<Health>,
}

impl<D> Admission<D> {
    /// Creates `lanes` lanes of `capacity` tasks each. `key` seeds the hash that assigns accounts to lanes.
    pub fn new(lanes: usize, capacity: usize, key: u64, health: Arc<Health>) -> Self {
        Self { in_flight: InFlight::new(lanes, key), lanes: Lanes::new(lanes, capacity), health }
    }

    /// Numbers a message and puts it into its lane. Waits while the lane is full. If the future is dropped while
    /// waiting, nothing was admitted.
    ///
    /// To keep the order of its messages, a source must await each call before the next.
    pub async fn admit(&self, message: Message, delivery: D) -> Arrival {
        let taken = Instant::now();
        let keys = message.content.as_ref().ok().map(|task| self.in_flight.keys(task));
        let place = |slot: Slot<'_, Job<D>>, arrival| {
            self.health.progress().entered(1);
            slot.fill(Job { arrival, message, taken, delivery });
        };
        let (lane, waiting) = {
            let mut register = self.in_flight.lock();
            let lane = register.lane(keys.as_ref());
            if let Some(slot) = self.lanes.try_reserve(lane) {
                let arrival = register.enter(keys.as_ref(), lane, |arrival| place(slot, arrival));
                self.lanes.wake(lane);
                return arrival;
            }
            (lane, register.pin(keys.as_ref(), lane))
        };
        let slot = self.lanes.reserve(lane).await;
        let arrival = waiting.enter(keys.as_ref(), |arrival| place(slot, arrival));
        self.lanes.wake(lane);
        arrival
    }

    /// Returns the number of tasks admitted and not yet settled. A task that waits for a slot isn't counted.
    pub fn in_flight(&self) -> usize {
        self.in_flight.count()
    }

    /// Returns the number of deferred tasks: those that wait for a task of another lane.
    pub fn deferred(&self) -> usize {
        self.lanes.deferred()
    }

    /// Returns the number of tasks waiting in each lane, including deferred tasks.
    pub fn depths(&self) -> impl Iterator<Item = usize> {
        (0..self.lanes.count()).map(|lane| self.lanes.depth(lane))
    }

    /// Returns how long each lane's worker has had its oldest task; zero if it has none.
    pub fn oldest(&self) -> impl Iterator<Item = Duration> {
        let now = Instant::now();
        let waited = move |since: Instant| now.saturating_duration_since(since);
        (0..self.lanes.count()).map(move |lane| self.lanes.since(lane).map(waited).unwrap_or_default())
    }

    /// Ends the workers once the lanes are empty. Called when all sources have ended.
    pub fn close(&self) {
        self.lanes.close();
    }
}

/// Interface for the workers.
impl<D> Admission<D> {
    /// Waits for the next lane that has tasks. Returns `None` after [`Admission::close`].
    pub(crate) async fn next_lane(&self) -> Option<LaneGuard<'_, Job<D>>> {
        self.lanes.next().await
    }

    /// Returns true if a lane has tasks and no worker.
    pub(crate) fn is_any_lane_ready(&self) -> bool {
        self.lanes.is_any_ready()
    }

    /// Returns the undecided tasks: all in flight except `committed`, which must be in ascending order.
    pub(crate) fn undecided(&self, committed: Vec<Arrival>) -> Undecided<'_> {
        self.in_flight.without(committed)
    }

    /// Removes committed tasks from the register and wakes the lanes that wait for them. The tasks stay in flight
    /// until they are [`settled`](Self::settled).
    pub(crate) fn committed<'t>(&self, tasks: impl Iterator<Item = (Arrival, Option<&'t Task>)>) {
        for lane in self.in_flight.done(tasks) {
            self.lanes.wake(lane);
        }
    }

    /// Frees the slots of `tasks` settled tasks of a lane.
    pub(crate) fn settled(&self, lane: &LaneGuard<'_, Job<D>>, tasks: usize) {
        self.in_flight.settled(tasks);
        lane.release(tasks);
        self.health.progress().settled(tasks);
    }

    /// Wakes a lane, already released by its worker, once tasks are committed that arrived before `arrival` and may
    /// credit or open `account`. Wakes it immediately if there are none.
    pub(crate) fn wake_after(&self, lane: usize, account: &AccountName, arrival: Arrival) {
        if !self.in_flight.wait(account, arrival, lane) {
            self.lanes.wake(lane);
        }
    }
}
