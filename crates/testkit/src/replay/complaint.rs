//! The error message for steps that could not be replayed.

use super::contract::PaymentState;
use super::run::Run;
use super::script::{Deed, reason};

/// Maximum number of steps in the message.
const SHOWN: usize = 3;

impl Run<'_> {
    /// Describes the most informative of the steps in `left`: what is recorded, and what the model does instead.
    /// Steps whose entries come next in their accounts are most informative; rejections are least, because they could
    /// happen at any time.
    pub(super) fn complaint(&mut self, left: &[usize]) -> String {
        let mut order = left.to_vec();
        order.sort_by_cached_key(|ix| self.rank(*ix));
        order.truncate(SHOWN);
        let told: Vec<String> = order.into_iter().map(|ix| self.tell(ix)).collect();
        format!("{} steps never had their turn, among them: {}", left.len(), told.join("; "))
    }

    fn rank(&self, ix: usize) -> u8 {
        let step = &self.script.steps[ix];
        let Deed::Decide(place) = step.deed else { return 0 };
        let id = self.recorded.payments[place].task.id;
        let moves = !self.recorded_entries(id).is_empty() || self.script.acts.contains_key(&id);
        match (self.has_turn(ix), moves, step.state) {
            (true, true, _) => 0,
            (true, false, PaymentState::Rejected) => 2,
            (true, false, _) => 1,
            (false, ..) => 3,
        }
    }

    fn tell(&mut self, ix: usize) -> String {
        let step = &self.script.steps[ix];
        let recorded = format!("{} at version {} at {}", step.state.name(), step.version, step.at);
        let place = match step.deed {
            Deed::Decide(place) => place,
            Deed::RunOut(id) => {
                return format!("{id} is recorded to run out: {recorded}; the model has {:?}", self.model.row(id));
            }
        };
        let task = &self.recorded.payments[place].task;
        let mut done = Vec::new();
        let waited = self.admit(place, &mut done);
        self.admit_others(place, &mut done);
        let from = self.model.entries.len();
        let version = task.body.payment_id().and_then(|parent| self.model.row(parent)).map(|parent| parent.version);
        done.push(self.model.step(task, step.at));
        let difference = self.difference(step, place, from, version);
        let row = self.model.row(task.id).expect("it was done");
        let told = format!(
            "of {} {}: it is recorded as {recorded}, {:?}, act {:?}, entries {:?}; the model says {:?} at version {}, \
             {:?}, {:?}, entries {:?}; it had waited as recorded: {waited}",
            task.to_json(),
            difference.map_or("the order fits no more".to_owned(), |what| format!("{what} differs")),
            reason(&self.recorded.payments[place], step),
            self.script.acts.get(&task.id),
            self.recorded_entries(task.id),
            row.state,
            row.version,
            row.reason,
            task.body.payment_id().and_then(|parent| self.model.row(parent)),
            self.entries(from),
        );
        self.take_back(&mut done, 0);
        told
    }
}
