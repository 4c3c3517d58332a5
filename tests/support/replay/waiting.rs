//! What waited, and whether it had to: at some moment before that was recorded, and not long before
//! it came, it would have been told to wait.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use uuid::Uuid;

use super::contract::PaymentState;
use super::model::{Model, Settings, Waits};
use super::recorded::Recorded;
use super::script::{Script, Wait};

/// All that waited.
pub(super) struct Waiting<'r> {
    recorded: &'r Recorded,
    script: &'r Script,
    settings: &'r Settings,
    /// The waits of the script in the order in which they begin; those from `next` on are to come.
    order: Vec<usize>,
    next: usize,
    is_proved: Vec<bool>,
    /// Those that have begun and are not proved: by what they wait for, and by when they have to be.
    open: HashMap<Uuid, Vec<usize>>,
    ends: BTreeSet<(Timestamp, usize)>,
    /// By the place of the task, in their order; and the end of those that gave up.
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

    /// Has those looked at that have come by now; nothing has happened since the last step.
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

    /// Has those looked at that wait for a task to which something has happened.
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

    /// Those that had been told to wait by now were, once.
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

    /// How a task waits in the end, if it waited.
    pub(super) fn how(&self, task: usize) -> Option<Waits> {
        let waits = self.of_task.get(&task)?;
        let last = &self.script.waits[*waits.last()?];
        // Not later than the real one: when a task came that was looked at again isn't known to the
        // moment, and whoever waits for one that waits itself may have longer.
        let until = match (last.state, self.recorded.payments[last.task].task.when.execute_at) {
            (PaymentState::Scheduled, Some(due)) => due,
            _ if waits.len() > 1 => last.to + self.settings.parking,
            _ => self.recorded.payments[last.task].received_at + self.settings.parking,
        };
        let version = i32::try_from(waits.len()).unwrap_or(i32::MAX);
        Some(Waits { state: last.state, version, until })
    }

    /// Whether all of a task's waiting is proved.
    pub(super) fn is_proved(&self, task: usize) -> bool {
        self.of_task.get(&task).is_none_or(|waits| waits.iter().all(|ix| self.is_proved[*ix]))
    }

    /// Whether it had waited for long enough at a moment when there still was nothing else to do.
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
            // Before its time it is not parked.
            (true, Some(due)) if state == PaymentState::Parked => (due.max(now), None),
            (true, _) => (now, None),
        };
        done.push(model.step(&payment.task, now));
        let row = model.row(payment.task.id);
        self.is_proved[ix] = row.is_some_and(|row| row.state == Some(state) && row.reason == reason);
        done.into_iter().rev().for_each(|before| model.take_back(before));
    }
}
