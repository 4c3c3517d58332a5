//! The plan, and the ids that its messages get when their time is known.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

use crate::plan::{Ask, Ids, Mark, Message, Plan, Stamp};

#[derive(Debug)]
pub(crate) struct Script {
    stop: AtomicBool,
    lines: Mutex<Lines>,
}

#[derive(Debug)]
pub(crate) struct Lines {
    pub(crate) plan: Plan,
    /// The id of each of the plan's numbers, as far as one was given.
    pub(crate) ids: Vec<Option<Uuid>>,
    mark: Mark,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    pub(crate) index: usize,
    pub(crate) message: Message,
    pub(crate) ids: Ids,
    /// When it was to be published, in microseconds since 1970.
    pub(crate) at: i64,
}

impl Script {
    pub(crate) fn new(plan: Plan, mark: Mark) -> Self {
        Self { stop: AtomicBool::new(false), lines: Mutex::new(Lines { plan, ids: Vec::new(), mark }) }
    }

    /// What all of its ids are marked with.
    pub(crate) fn mark(&self) -> Mark {
        self.with(|lines| lines.mark)
    }

    pub(crate) fn with<T>(&self, read: impl FnOnce(&mut Lines) -> T) -> T {
        read(&mut self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All of it, when nobody publishes any more.
    pub(crate) fn into_lines(self) -> Lines {
        self.lines.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Lines {
    /// The message at that place of the load, due at that time.
    pub(crate) fn due(&mut self, index: usize, at: i64) -> Due {
        self.due_message(self.plan.load[index], index, at)
    }

    /// The same of any message. Its id tells the time of the first message that has it, or that names it: what acts on a
    /// payment can be due before it.
    pub(super) fn due_message(&mut self, message: Message, index: usize, at: i64) -> Due {
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
