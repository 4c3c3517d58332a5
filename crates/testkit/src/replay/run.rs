//! Replays all steps, each when the model gives what is recorded.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::contract::PaymentState;
use super::model::{Before, Model, Settings};
use super::moment::Patience;
use super::recorded::{Entry, Recorded};
use super::script::{Deed, Script, Step, reason};
use super::waiting::Waiting;

/// How much later than its time a step may be done: it read the clock first, and after that what others had committed
/// of the tasks it refers to.
const BEHIND: SignedDuration = SignedDuration::from_secs(2);

/// Maximum number of steps done later than their time.
const MOST_BEHIND: usize = 5_000;

pub(super) struct Run<'r> {
    pub(super) recorded: &'r Recorded,
    pub(super) script: &'r Script,
    pub(super) model: Model,
    pub(super) patience: Patience,
    waiting: Waiting<'r>,
    ids: HashMap<&'r str, i64>,
}

impl<'r> Run<'r> {
    pub(super) fn of(recorded: &'r Recorded, script: &'r Script, settings: &'r Settings, patience: Patience) -> Self {
        Self {
            recorded,
            script,
            patience,
            model: Model::new(*settings, Timestamp::MIN),
            waiting: Waiting::of(recorded, script, settings),
            ids: recorded.accounts.iter().map(|(id, account)| (account.name.as_str(), *id)).collect(),
        }
    }

    /// Replays everything. Returns the model in its final state.
    ///
    /// # Errors
    ///
    /// Describes a record that can't have happened.
    pub(super) fn all(mut self) -> Result<Model, String> {
        let mut behind: Vec<usize> = Vec::new();
        let (script, mut next) = (self.script, 0);
        while let Some(at) = script.steps.get(next).map(|step| step.at) {
            let first = next;
            next += script.steps[first..].iter().take_while(|step| step.at == at).count();
            self.waiting.begin(&mut self.model, at);
            let steps: Vec<usize> = behind.into_iter().chain(first..next).collect();
            behind = self.moment(&steps);
            if behind.is_empty() {
                self.waiting.end(at)?;
            } else if !self.may_be_behind(&behind, at) {
                break;
            }
        }
        if !behind.is_empty() {
            return Err(self.complaint(&behind));
        }
        self.waiting.begin(&mut self.model, Timestamp::MAX);
        self.waiting.end(Timestamp::MAX)?;
        // Add the tasks that are still waiting.
        for place in 0..self.recorded.payments.len() {
            self.admit(place, &mut Vec::new());
        }
        Ok(self.model)
    }

    /// Returns true if the steps in `behind` may be done later than their time. A task's own accounts are read under
    /// their locks, so this is only possible for tasks that refer to another task.
    fn may_be_behind(&self, behind: &[usize], now: Timestamp) -> bool {
        let refers = |ix: &usize| match self.script.steps[*ix].deed {
            Deed::Decide(place) => self.recorded.payments[place].task.refers_to().next().is_some(),
            Deed::RunOut(_) => false,
        };
        let oldest = self.script.steps[behind[0]].at;
        behind.len() <= MOST_BEHIND && oldest + BEHIND >= now && behind.iter().any(refers)
    }

    /// Does a step if it gives what is recorded, and returns whether it does.
    pub(super) fn attempt(&mut self, ix: usize, done: &mut Vec<Before>) -> bool {
        let step = &self.script.steps[ix];
        let place = match step.deed {
            Deed::Decide(place) => place,
            Deed::RunOut(payment) => return self.run_out(step, payment, done),
        };
        if !self.has_turn(ix) {
            return false;
        }
        let mark = done.len();
        if self.admit(place, done)
            && (self.decide(step, place, done)
                || self.give_up(step, place, done)
                || self.admit_others(place, done) && self.decide(step, place, done))
        {
            return true;
        }
        self.take_back(done, mark);
        false
    }

    fn run_out(&mut self, step: &Step, payment: Uuid, done: &mut Vec<Before>) -> bool {
        let Some(before) = self.model.run_out(payment, step.at) else { return false };
        let row = self.model.row(payment).expect("it has run out");
        if (row.state, row.version) != (Some(step.state), step.version) {
            self.model.take_back(before);
            return false;
        }
        done.push(before);
        self.waiting.changed(&mut self.model, payment, step.at);
        true
    }

    /// Rejects a task whose wait is over, although it could be applied by now: it was checked before that.
    fn give_up(&mut self, step: &Step, place: usize, done: &mut Vec<Before>) -> bool {
        let payment = &self.recorded.payments[place];
        let could = step.state == PaymentState::Rejected && self.waiting.could_give_up(place);
        if let Some(reason) = payment.reason.filter(|_| could) {
            done.push(self.model.give_up(&payment.task, reason));
            self.waiting.changed(&mut self.model, payment.task.id, step.at);
        }
        could
    }

    fn decide(&mut self, step: &Step, place: usize, done: &mut Vec<Before>) -> bool {
        let (task, from) = (&self.recorded.payments[place].task, self.model.entries.len());
        let parent = task.body.payment_id();
        let version = parent.and_then(|parent| self.model.row(parent)).map(|parent| parent.version);
        let before = self.model.step(task, step.at);
        if self.difference(step, place, from, version).is_some() {
            self.model.take_back(before);
            return false;
        }
        done.push(before);
        for id in [Some(task.id), parent].into_iter().flatten() {
            self.waiting.changed(&mut self.model, id, step.at);
        }
        true
    }

    /// Compares a step's result with the records, and returns what differs. `from` is the first entry of the step,
    /// and `acted_on` the version of its payment before the step.
    pub(super) fn difference(
        &self,
        step: &Step,
        place: usize,
        from: usize,
        acted_on: Option<i32>,
    ) -> Option<&'static str> {
        let payment = &self.recorded.payments[place];
        let row = self.model.row(payment.task.id).expect("it was done");
        if (row.state, row.version) != (Some(step.state), step.version) {
            return Some("its state");
        }
        if row.reason != reason(payment, step) {
            return Some("its reason");
        }
        // A payment that held nothing any more when it was first written has no recorded expiry.
        let runs_out = payment.expires_at.or(row.hold_until.filter(|_| !payment.state.is_held()));
        if step.state == PaymentState::Authorized && row.hold_until != runs_out {
            return Some("when its hold runs out");
        }
        let parent = payment.task.body.payment_id().and_then(|parent| self.model.row(parent));
        let acted = parent.filter(|parent| Some(parent.version) != acted_on);
        let acted = acted.map(|parent| (parent.task.id, parent.version, parent.state));
        let act = self.script.acts.get(&payment.task.id);
        if acted != act.map(|act| (act.payment, act.version, Some(act.to))) {
            return Some("what it did to its payment");
        }
        if self.entries(from) != self.recorded_entries(payment.task.id) {
            return Some("its entries");
        }
        None
    }

    pub(super) fn entries(&self, from: usize) -> Vec<Entry> {
        let mut entries: Vec<Entry> = self.model.entries[from..]
            .iter()
            .map(|entry| Entry {
                account: self.ids.get(entry.account.as_str()).copied().unwrap_or(-1),
                seq: entry.seq,
                amount: entry.amount,
                balance: entry.balance,
            })
            .collect();
        entries.sort_unstable();
        entries
    }

    pub(super) fn recorded_entries(&self, task: Uuid) -> &'r [Entry] {
        self.recorded.entries.get(&task).map_or(&[], Vec::as_slice)
    }

    /// Returns the names of the accounts that a step involves.
    pub(super) fn accounts(&self, ix: usize) -> Vec<String> {
        let task = match self.script.steps[ix].deed {
            Deed::Decide(place) => Some(&self.recorded.payments[place].task),
            Deed::RunOut(payment) => self.model.row(payment).map(|row| &row.task),
        };
        task.map(|task| self.model.names_for(task)).unwrap_or_default()
    }

    /// Returns true if the recorded entries of a step come next in their accounts, and its recorded change comes next
    /// for its payment.
    pub(super) fn has_turn(&self, ix: usize) -> bool {
        let Deed::Decide(place) = self.script.steps[ix].deed else { return true };
        let id = self.recorded.payments[place].task.id;
        let is_next = |entries: &[Entry]| {
            let account = self.recorded.accounts.get(&entries[0].account);
            let account = account.and_then(|account| self.model.accounts.get(&account.name));
            account.is_some_and(|account| account.version + 1 == entries[0].seq)
        };
        self.recorded_entries(id).chunk_by(|one, other| one.account == other.account).all(is_next)
            && self.script.acts.get(&id).is_none_or(|act| {
                // A payment that waits is added to the model only when it is needed.
                self.model.row(act.payment).is_none_or(|payment| payment.version + 1 == act.version)
            })
    }

    /// Adds a task that was waiting to the model. Returns false if its wait isn't proved.
    pub(super) fn admit(&mut self, place: usize, done: &mut Vec<Before>) -> bool {
        let task = &self.recorded.payments[place].task;
        let Some(waits) = self.waiting.how(place) else { return true };
        if self.model.row(task.id).is_none() {
            if !self.waiting.is_proved(place) {
                return false;
            }
            done.push(self.model.admit(task, waits));
        }
        true
    }

    /// Adds the waiting tasks that a task refers to. Returns false if there are none.
    pub(super) fn admit_others(&mut self, place: usize, done: &mut Vec<Before>) -> bool {
        let before = done.len();
        for id in self.recorded.payments[place].task.refers_to() {
            if let Some(place) = self.script.places.get(&id) {
                self.admit(*place, done);
            }
        }
        done.len() > before
    }
}
