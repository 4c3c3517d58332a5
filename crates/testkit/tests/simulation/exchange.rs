//! The simulated exchange for events, with one queue bound to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::Notify;

/// Received events and open sessions.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    pub(super) sessions: u64,
    pub(super) open: BTreeSet<u64>,
    pub(super) closed: Arc<Notify>,
    /// How often each event was received, by event id.
    pub(super) received: BTreeMap<String, u32>,
}

impl Exchange {
    pub(super) fn close_all(&mut self) {
        self.open.clear();
        self.closed.notify_waiters();
    }
}
