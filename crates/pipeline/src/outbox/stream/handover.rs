//! Hands the events of committed batches to the producer in memory, so that it need not read them from the table.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::store::EventBatch;

/// Rows that this process has committed. Bounded by bytes: the events of what finds no room are read from the table.
#[derive(Clone, Debug)]
pub struct Handover(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    byte_capacity: usize,
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Whether this process is the producer. Nothing is kept for another one.
    is_producer: bool,
    rows: BTreeMap<i64, EventBatch>,
    bytes: usize,
    /// Whether a row was committed since all rows in the table had ids.
    has_more: bool,
    /// Rows that have ids and are not confirmed.
    in_flight: usize,
}

impl Handover {
    /// Creates one with room for `bytes` bytes of events.
    pub fn new(bytes: u32) -> Self {
        Self(Arc::new(Shared { byte_capacity: bytes as usize, state: Mutex::default(), arrived: Notify::new() }))
    }

    /// Offers a row that is committed.
    pub fn offer(&self, row: EventBatch) {
        let mut state = self.0.state.lock();
        if !state.is_producer {
            return;
        }
        state.has_more = true;
        if state.bytes + row.body.len() <= self.0.byte_capacity {
            state.bytes += row.body.len();
            state.rows.insert(row.id, row);
        }
        drop(state);
        self.0.arrived.notify_one();
    }

    /// Waits until a row was offered since the last time.
    pub(super) async fn arrived(&self) {
        self.0.arrived.notified().await;
    }

    /// Says whether this process is the producer from now on.
    pub(super) fn set_producer(&self, is_producer: bool) {
        *self.0.state.lock() = State { is_producer, has_more: is_producer, ..State::default() };
    }

    /// Takes a row out, if it is here.
    pub(super) fn take(&self, row: i64) -> Option<EventBatch> {
        let mut state = self.0.state.lock();
        let taken = state.rows.remove(&row)?;
        state.bytes -= taken.body.len();
        Some(taken)
    }

    /// Says that the rows that are in the table now are looked at.
    pub(super) fn look(&self) {
        self.0.state.lock().has_more = false;
    }

    /// Says what was found: whether rows without ids are left, and how many have ids.
    pub(super) fn found(&self, has_more: bool, in_flight: usize) {
        let mut state = self.0.state.lock();
        state.has_more |= has_more;
        state.in_flight = in_flight;
    }

    /// Whether this process has nothing to append: it is not the producer, or all rows are appended and confirmed.
    pub fn is_idle(&self) -> bool {
        let state = self.0.state.lock();
        !state.is_producer || (!state.has_more && state.in_flight == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: i64, bytes: usize) -> EventBatch {
        EventBatch { id, body: vec![b'x'; bytes], events: 1, held_key: None, held_reason: None }
    }

    #[test]
    fn rows_are_kept_for_the_producer_alone_and_only_while_there_is_room() {
        let handover = Handover::new(100);
        handover.offer(row(1, 10));
        assert!(handover.take(1).is_none() && handover.is_idle());
        handover.set_producer(true);
        handover.offer(row(2, 60));
        handover.offer(row(3, 60));
        assert!(handover.take(3).is_none() && handover.take(2).is_some());
        handover.offer(row(4, 60));
        handover.set_producer(false);
        assert!(handover.take(4).is_none());
    }

    #[test]
    fn it_is_idle_once_everything_was_seen_and_confirmed() {
        let handover = Handover::new(100);
        handover.set_producer(true);
        assert!(!handover.is_idle(), "the table was not looked at");
        handover.look();
        handover.offer(row(1, 10));
        handover.found(false, 0);
        assert!(!handover.is_idle(), "a row came after the look");
        handover.look();
        handover.found(false, 1);
        assert!(!handover.is_idle(), "it is not confirmed");
        handover.found(false, 0);
        assert!(handover.is_idle());
    }
}
