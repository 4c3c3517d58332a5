//! Checks the recorded waits: at some moment before a wait was recorded, and not long before the task arrived, the
//! model must find that the task has to wait.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use uuid::Uuid;

use super::contract::PaymentState;
use super::model::{Model, Settings, Waits};
use super::recorded::Recorded;
use super::script::{Script, Wait};

/// The waits of all tasks.
pub(super) struct Waiting<'r> {
    recorded: &'r Recorded,
    script: &'r Script,
    settings: &'r Settings,
    /// Indexes of the waits, in the order of their beginning. Those from `next` on haven't begun.
    order: Vec<usize>,
    next: usize,
    is_proved: Vec<bool>,
    /// Waits that have begun and aren't proved, by the task they wait for, and by their deadline for being proved.
    open: HashMap<Uuid, Vec<usize>>,
    ends: BTreeSet<(Timestamp, usize)>,
    /// The waits of each task in their order, by index of the task; and for tasks that were rejected after waiting,
    /// that wait.
    of_task: HashMap<usize, Vec<usize>>,
    gave_up: HashMap<usize, usize>,
}

impl<'r> Waiting<'r> {
    pub(super) fn of(recorded: &'r Recorded, script: &'r Script, settings: &'r Settings) -> Self {
        let mut order: Vec<usize> = (0..script.waits.len()).collect();
        order.sort_by_key(|wait| script.waits[*wait].from);
        let mut of_task: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut gave_up = HashMap::new();
        for (ix, wait) in script.waits.iter().enumerate() {
            if wait.state.is_pending() {
                of_task.entry(wait.task).or_default().push(ix);
            } else {
                gave_up.insert(wait.task, ix);
            }
        }
        Self {
            recorded,
            script,
            settings,
            order,
            next: 0,
            is_proved: vec![false; script.waits.len()],
            open: HashMap::new(),
            ends: BTreeSet::new(),
            of_task,
            gave_up,
        }
    }

    /// Tries to prove the waits that begin by `now`, in the state after the last step.
    pub(super) fn begin(&mut self, model: &mut Model, now: Timestamp) {
        while let Some(ix) = self.order.get(self.next).copied().filter(|ix| self.script.waits[*ix].from <= now) {
            self.next += 1;
            let wait = &self.script.waits[ix];
            self.look_at(model, ix, wait.from);
            if !self.is_proved[ix] {
                for id in self.recorded.payments[wait.task].task.refers_to() {
                    self.open.entry(id).or_default().push(ix);
                }
                if wait.state.is_pending() {
                    self.ends.insert((wait.to, ix));
                }
            }
        }
    }

    /// Tries to prove the waits for a task that has changed.
    pub(super) fn changed(&mut self, model: &mut Model, id: Uuid, now: Timestamp) {
        let Some(waits) = self.open.remove(&id) else { return };
        let unproved = waits.into_iter().filter(|ix| {
            if !self.is_proved[*ix] {
                self.look_at(model, *ix, now);
            }
            !self.is_proved[*ix]
        });
        let unproved: Vec<usize> = unproved.collect();
        if !unproved.is_empty() {
            self.open.insert(id, unproved);
        }
    }

    /// Fails if a wait that was recorded by `now` isn't proved.
    pub(super) fn end(&mut self, now: Timestamp) -> Result<(), String> {
        while let Some((to, ix)) = self.ends.first().copied().filter(|(to, _)| *to <= now) {
            self.ends.pop_first();
            if !self.is_proved[ix] {
                let wait = &self.script.waits[ix];
                let task = &self.recorded.payments[wait.task].task;
                let (json, state, from) = (task.to_json(), wait.state.name(), wait.from);
                return Err(format!("{json} is recorded as {state} by {to}, and at no time since {from} it had to be"));
            }
        }
        Ok(())
    }

    /// Returns the last waiting state of a task, if it waited.
    pub(super) fn how(&self, task: usize) -> Option<Waits> {
        let waits = self.of_task.get(&task)?;
        let last = &self.script.waits[*waits.last()?];
        // A lower bound: the arrival of a task that was tried again isn't known exactly, and a task that waits for a
        // waiting task may have a later deadline.
        let until = match (last.state, self.recorded.payments[last.task].task.when.execute_at) {
            (PaymentState::Scheduled, Some(due)) => due,
            _ if waits.len() > 1 => last.to + self.settings.parking,
            _ => self.recorded.payments[last.task].received_at + self.settings.parking,
        };
        let version = i32::try_from(waits.len()).unwrap_or(i32::MAX);
        Some(Waits { state: last.state, version, until })
    }

    /// Returns true if all waits of a task are proved.
    pub(super) fn is_proved(&self, task: usize) -> bool {
        self.of_task.get(&task).is_none_or(|waits| waits.iter().all(|ix| self.is_proved[*ix]))
    }

    /// Returns true if the task's wait had exceeded its limit at a moment when the task still could not be applied.
    pub(super) fn could_give_up(&self, task: usize) -> bool {
        self.gave_up.get(&task).is_some_and(|ix| self.is_proved[*ix])
    }

    fn look_at(&mut self, model: &mut Model, ix: usize, now: Timestamp) {
        let wait = &self.script.waits[ix];
        let Wait { task, state, to, .. } = *wait;
        let payment = &self.recorded.payments[task];
        let mut done = Vec::new();
        let (now, reason) = match (state.is_pending(), payment.task.when.execute_at) {
            (false, _) if model.row(payment.task.id).is_some() => return,
            (false, _) => {
                done.extend(self.how(task).map(|waits| model.admit(&payment.task, waits)));
                (to, payment.reason)
            }
            // A task is not parked before its execution time.
            (true, Some(due)) if state == PaymentState::Parked => (due.max(now), None),
            (true, _) => (now, None),
        };
        done.push(model.step(&payment.task, now));
        let row = model.row(payment.task.id);
        self.is_proved[ix] = row.is_some_and(|row| row.state == Some(state) && row.reason == reason);
        done.into_iter().rev().for_each(|before| model.take_back(before));
    }
}
