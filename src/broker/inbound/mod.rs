//! Between the socket and lapin, on connections that consume.
//!
//! lapin ends a connection over a property that is not UTF-8, reads whole bodies whatever their size, and keeps as
//! many deliveries as the prefetch allows. Here deliveries pass in a form that lapin reads, with no more of a body
//! than a task may have, and only while the [`Budget`] has bytes left; what was changed is in the [`Findings`] of
//! the delivery's [`Note`].
//!
//! Invariant: whatever bytes come, in whatever pieces, lapin gets frames that it can parse, or the connection ends
//! with a reason.

mod budget;
mod fields;
mod filter;
mod rehearsal;
mod transport;

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

pub use self::budget::{Budget, Held};
pub(crate) use self::filter::MAX_FRAME;
pub use self::rehearsal::{Rehearsed, rehearse};
pub(super) use self::transport::connect;
use crate::contract::Findings;

/// What is known of a delivery before lapin has read it.
#[derive(Debug, Default)]
pub struct Note {
    tag: u64,
    /// The memory it takes.
    pub held: Held,
    /// What was found out about it; nearly always nothing.
    pub findings: Option<Box<Findings>>,
}

/// The end of an [`Inbox`] from which deliveries are taken. When it is dropped nothing more passes, and the connection can
/// be closed: what is said last would wait behind a delivery that there is no room for.
#[derive(Debug)]
pub struct Reader(Arc<Inbox>);

impl Reader {
    pub(super) const fn new(inbox: Arc<Inbox>) -> Self {
        Self(inbox)
    }
}

impl Deref for Reader {
    type Target = Inbox;

    fn deref(&self) -> &Inbox {
        &self.0
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The notes of a connection's deliveries, in their order.
///
/// They belong to the connection: what lapin has not handed over when it is gone gives its bytes back.
#[derive(Debug)]
pub struct Inbox {
    budget: Arc<Budget>,
    notes: Mutex<VecDeque<Note>>,
    is_closed: AtomicBool,
}

impl Inbox {
    pub(super) fn new(budget: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self { budget, notes: Mutex::default(), is_closed: AtomicBool::new(false) })
    }

    /// Takes the note of the delivery with this tag. Those of earlier ones are dropped.
    pub fn take(&self, tag: u64) -> Note {
        let mut notes = self.notes.lock();
        while let Some(note) = notes.pop_front() {
            if note.tag == tag {
                return note;
            }
        }
        Note::default()
    }

    /// Lets no more deliveries pass: they go back to the queue when the connection is closed. What they stand in the
    /// way of comes at once, such as the answer to a cancel. What lapin has and nobody has taken gives its memory back.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.notes.lock().clear();
        self.budget.wake();
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    fn note(&self, note: Note) {
        self.notes.lock().push_back(note);
    }
}
