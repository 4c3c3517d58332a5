//! Carries notes about deliveries past lapin: from the filter to the consumer.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use settled_core::contract::Findings;
use settled_pipeline::budget::{Budget, Held};

/// What the filter noted about a delivery before lapin read it.
#[derive(Debug, Default)]
pub(crate) struct Note {
    pub(super) tag: u64,
    /// The memory that the delivery takes.
    pub(crate) held: Held,
    /// What the filter changed; `None` for nearly all deliveries.
    pub(crate) findings: Option<Box<Findings>>,
}

/// The notes of a connection's deliveries, in their order.
///
/// They belong to the connection: notes of deliveries that lapin has not handed over give their bytes back when it is
/// dropped.
#[derive(Debug)]
pub(crate) struct Inbox {
    budget: Arc<Budget>,
    notes: Mutex<VecDeque<Note>>,
    is_closed: AtomicBool,
}

impl Inbox {
    /// Creates the inbox of a new connection.
    pub(crate) fn new(budget: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self { budget, notes: Mutex::default(), is_closed: AtomicBool::new(false) })
    }

    /// Takes the note of the delivery with this tag. Notes of earlier deliveries are dropped.
    pub(crate) fn take(&self, tag: u64) -> Note {
        std::iter::from_fn(|| self.pop()).find(|note| note.tag == tag).unwrap_or_default()
    }

    /// Lets no more deliveries pass: they go back to the queue when the connection is closed. Frames behind them, such
    /// as `cancel-ok`, pass at once. Notes that nobody has taken give their memory back.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.notes.lock().clear();
        self.budget.wake();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    pub(super) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    pub(super) fn push(&self, note: Note) {
        self.notes.lock().push_back(note);
    }

    pub(super) fn pop(&self) -> Option<Note> {
        self.notes.lock().pop_front()
    }
}

/// The consumer's handle to an [`Inbox`], which it closes when it is dropped. Otherwise the broker's last frames could
/// wait behind a delivery that the budget has no room for, and the connection could not be closed.
#[derive(Debug)]
pub(crate) struct InboxReader(Arc<Inbox>);

impl InboxReader {
    pub(crate) const fn new(inbox: Arc<Inbox>) -> Self {
        Self(inbox)
    }
}

impl Deref for InboxReader {
    type Target = Inbox;

    fn deref(&self) -> &Inbox {
        &self.0
    }
}

impl Drop for InboxReader {
    fn drop(&mut self) {
        self.0.close();
    }
}
