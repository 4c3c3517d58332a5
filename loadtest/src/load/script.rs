//! The plan, and the ids that its messages get when their time is known.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

use crate::plan::{Ask, Ids, Mark, Message, Plan, Stamp};

/// What all publishers of a load share.
#[derive(Debug)]
pub(crate) struct Script {
    mark: Mark,
    stop: AtomicBool,
    lines: Mutex<Lines>,
}

/// What is published, and under which ids.
#[derive(Debug)]
pub(crate) struct Lines {
    /// The messages.
    pub(crate) plan: Plan,
    /// The id of each of the plan's numbers, as far as one was given.
    pub(crate) ids: Vec<Option<Uuid>>,
    mark: Mark,
}

/// A message whose time has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    /// Its place in what is published.
    pub(crate) index: usize,
    /// What it is.
    pub(crate) message: Message,
    /// Its ids.
    pub(crate) ids: Ids,
    /// When it was to be published, in microseconds since 1970.
    pub(crate) at: i64,
}

/// The two parts of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Opens the accounts.
    Opening,
    /// What is measured.
    Load,
}

impl Script {
    /// Of a plan, with no ids yet.
    pub(crate) fn new(plan: Plan, mark: Mark) -> Self {
        Self { mark, stop: AtomicBool::new(false), lines: Mutex::new(Lines { plan, ids: Vec::new(), mark }) }
    }

    /// What all of its ids are marked with.
    pub(crate) fn mark(&self) -> Mark {
        self.mark
    }

    /// Reads it, or writes on.
    pub(crate) fn with<T>(&self, read: impl FnOnce(&mut Lines) -> T) -> T {
        read(&mut self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All of it, when nobody publishes any more.
    pub(crate) fn into_lines(self) -> Lines {
        self.lines.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the publishing.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether the publishing is to end.
    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Lines {
    /// The messages of a part.
    pub(crate) fn messages(&self, part: Part) -> &[Message] {
        match part {
            Part::Opening => &self.plan.opening,
            Part::Load => &self.plan.load,
        }
    }

    /// The message at that place of a part, due at that time. Its id tells the time of the first
    /// message that has it, or that names it: what acts on a payment can be due before it.
    pub(crate) fn due(&mut self, part: Part, index: usize, at: i64) -> Due {
        let message = self.messages(part)[index];
        let parent = if let Ask::FollowUp { parent, .. } = message.ask { Some(self.id_of(parent, at)) } else { None };
        let own = self.id_of(message.id, at);
        let due = message.execute_in.and_then(|_| self.mark.read(own)).map_or(at, |stamp| stamp.scheduled);
        Due { index, message, ids: Ids { own, parent, due }, at }
    }

    /// The id with that number, which tells that time if it is new.
    fn id_of(&mut self, number: usize, at: i64) -> Uuid {
        if self.ids.len() <= number {
            self.ids.resize(self.plan.ids.max(number + 1), None);
        }
        *self.ids[number].get_or_insert_with(|| self.mark.id(Stamp { number, scheduled: at }))
    }

    /// The id of a message; `None` until one with it was due.
    pub(crate) fn id(&self, message: &Message) -> Option<Uuid> {
        self.ids.get(message.id).copied().flatten()
    }
}
