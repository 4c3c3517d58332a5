//! Single steps, in an order determined by the caller. A step doesn't wake waiting tasks, and it can be undone.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::super::contract::{PaymentState, Rejection, Task};
use super::rows::Row;
use super::{Account, Model};

/// The state before a step, for undoing it. Steps must be undone in reverse order.
pub struct Before {
    accounts: Vec<(Option<Account>, String)>,
    rows: Vec<(usize, Row)>,
    /// Number of rows and of entries.
    lengths: (usize, usize),
}

/// The state of a waiting task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    pub state: PaymentState,
    pub version: i32,
    pub until: Timestamp,
}

impl Model {
    /// Makes a task arrive at `now`, or tries it again if it is waiting.
    pub fn step(&mut self, task: &Arc<Task>, now: Timestamp) -> Before {
        let before = self.before(task);
        self.now = now;
        let place = self.places.get(&task.id).copied().unwrap_or_else(|| self.add(Arc::clone(task)));
        self.look_at(place);
        self.changed.clear();
        before
    }

    /// Adds a task that is waiting, or changes how it waits.
    pub fn admit(&mut self, task: &Arc<Task>, waits: Waits) -> Before {
        let before = self.before(task);
        let place = self.places.get(&task.id).copied().unwrap_or_else(|| self.add(Arc::clone(task)));
        let row = &mut self.rows[place];
        (row.state, row.version, row.waits_until) = (Some(waits.state), waits.version, Some(waits.until));
        before
    }

    /// Rejects a waiting task for `reason`, without trying it again.
    pub fn give_up(&mut self, task: &Arc<Task>, reason: Rejection) -> Before {
        let before = self.before(task);
        let place = self.places[&task.id];
        let row = &mut self.rows[place];
        (row.state, row.reason) = (Some(PaymentState::Rejected), Some(reason));
        (row.waits_until, row.waits_for) = (None, None);
        self.has_changed(place);
        self.changed.clear();
        before
    }

    /// Ends the hold of a payment, if it has one that has expired.
    pub fn run_out(&mut self, payment: Uuid, now: Timestamp) -> Option<Before> {
        let place = self.places.get(&payment).copied()?;
        self.now = now;
        self.rows[place].hold_until.filter(|until| *until <= now)?;
        let before = self.before(&self.rows[place].task);
        self.end_hold(place, PaymentState::Expired);
        self.has_changed(place);
        self.changed.clear();
        Some(before)
    }

    /// Undoes the last step.
    pub fn take_back(&mut self, before: Before) {
        let Before { accounts, rows, lengths } = before;
        for (account, name) in accounts {
            match account {
                Some(account) => self.accounts.insert(name, account),
                None => self.accounts.remove(&name),
            };
        }
        self.entries.truncate(lengths.1);
        for row in self.rows.drain(lengths.0..) {
            self.places.remove(&row.task.id);
        }
        for (place, row) in rows {
            self.rows[place] = row;
        }
    }

    /// Returns the state of everything that the task may change.
    pub(super) fn before(&self, task: &Task) -> Before {
        let ids = [Some(task.id), task.body.payment_id()];
        let places = ids.into_iter().flatten().filter_map(|id| self.places.get(&id).copied());
        let rows: Vec<(usize, Row)> = places.map(|place| (place, self.rows[place].clone())).collect();
        let account = |name: String| (self.accounts.get(&name).cloned(), name);
        let accounts = self.names_for(task).into_iter().map(account).collect();
        Before { accounts, rows, lengths: (self.rows.len(), self.entries.len()) }
    }

    /// Returns the names of the accounts that a task involves, including those of its payment if that is known.
    pub fn names_for(&self, task: &Task) -> Vec<String> {
        let own = task.body.account_pairs().flat_map(|(debit, credit)| [debit.to_string(), credit.to_string()]);
        // For a hold that expires, the legs of its own task already contain them.
        let parent = task.body.payment_id().and_then(|id| self.row(id));
        let of_parent = parent.into_iter().flat_map(|row| &row.legs);
        let mut names: Vec<String> =
            own.chain(of_parent.flat_map(|leg| [leg.debit.clone(), leg.credit.clone()])).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}
