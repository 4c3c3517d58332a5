//! One thing at a time, in an order that somebody else knows: it sets nothing else in motion, and can
//! be taken back.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::super::contract::{PaymentState, Rejection, Task, TaskBody};
use super::rows::{self, Row};
use super::{Account, Model};

/// All that a step may have changed, as it was. Steps are taken back last one first.
pub(crate) struct Before {
    accounts: Vec<(String, Option<Account>)>,
    rows: Vec<(usize, Row)>,
    /// How many rows and entries there were.
    lengths: (usize, usize),
}

/// How a task waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waits {
    pub(crate) state: PaymentState,
    pub(crate) version: i32,
    pub(crate) until: Timestamp,
}

impl Model {
    /// The task comes at this time; or, if it waits already, is looked at again.
    pub(crate) fn step(&mut self, task: &Arc<Task>, now: Timestamp) -> Before {
        let before = self.before(task);
        self.now = now;
        let place = self.places.get(&task.id).copied().unwrap_or_else(|| self.add(Arc::clone(task)));
        self.look_at(place);
        self.changed.clear();
        before
    }

    /// The task is there and waits.
    pub(crate) fn admit(&mut self, task: &Arc<Task>, waits: Waits) -> Before {
        let before = self.before(task);
        let place = self.places.get(&task.id).copied().unwrap_or_else(|| self.add(Arc::clone(task)));
        let row = &mut self.rows[place];
        (row.state, row.version, row.waits_until) = (Some(waits.state), waits.version, Some(waits.until));
        before
    }

    /// A task that waits is declined, whatever there is.
    pub(crate) fn give_up(&mut self, task: &Arc<Task>, reason: Rejection) -> Before {
        let before = self.before(task);
        let place = self.places[&task.id];
        let row = &mut self.rows[place];
        (row.state, row.reason) = (Some(PaymentState::Rejected), Some(reason));
        (row.waits_until, row.waits_for) = (None, None);
        self.has_changed(place);
        self.changed.clear();
        before
    }

    /// A hold runs out, if it is there and its time has come.
    pub(crate) fn run_out(&mut self, payment: Uuid, now: Timestamp) -> Option<Before> {
        let place = self.places.get(&payment).copied()?;
        self.now = now;
        self.rows[place].hold_until.filter(|until| *until <= now)?;
        let task = Arc::clone(&self.rows[place].task);
        let before = self.before(&task);
        self.release(place);
        self.rows[place].end_hold(PaymentState::Expired);
        self.has_changed(place);
        self.changed.clear();
        Some(before)
    }

    /// As if the last step had not been.
    pub(crate) fn take_back(&mut self, before: Before) {
        let Before { accounts, rows, lengths } = before;
        self.put_back(accounts);
        self.entries.truncate(lengths.1);
        for row in self.rows.drain(lengths.0..) {
            self.places.remove(&row.task.id);
        }
        for (place, row) in rows {
            self.rows[place] = row;
        }
    }

    fn before(&self, task: &Task) -> Before {
        let ids = [Some(task.id), task.body.payment_id()];
        let places = ids.into_iter().flatten().filter_map(|id| self.places.get(&id).copied());
        let rows: Vec<(usize, Row)> = places.map(|place| (place, self.rows[place].clone())).collect();
        Before { accounts: self.accounts_for(task), rows, lengths: (self.rows.len(), self.entries.len()) }
    }

    /// The accounts that the task of that row is about, as they are.
    pub(super) fn accounts_of(&self, place: usize) -> Vec<(String, Option<Account>)> {
        self.accounts_for(&self.rows[place].task)
    }

    pub(super) fn put_back(&mut self, accounts: Vec<(String, Option<Account>)>) {
        for (name, account) in accounts {
            match account {
                Some(account) => self.accounts.insert(name, account),
                None => self.accounts.remove(&name),
            };
        }
    }

    fn accounts_for(&self, task: &Task) -> Vec<(String, Option<Account>)> {
        let names = self.names_for(task).into_iter();
        names.map(|name| (name.clone(), self.accounts.get(&name).cloned())).collect()
    }

    /// The names of the accounts that a task is about, as far as its payment is there.
    pub(crate) fn names_for(&self, task: &Task) -> Vec<String> {
        let mut names: Vec<String> = match &task.body {
            TaskBody::OpenAccount(open) => vec![open.account.to_string()],
            TaskBody::ChangeAccount(change) => vec![change.account.to_string()],
            TaskBody::Transfer(_) | TaskBody::Split(_) | TaskBody::Authorize(_) => names_in(&rows::legs_of(task)),
            TaskBody::FollowUp(_) => Vec::new(),
        };
        // Of a hold that runs out: its own, which are the same.
        let parent = task.body.payment_id().and_then(|id| self.row(id));
        names.extend(parent.map(|row| names_in(&row.legs)).unwrap_or_default());
        names.sort_unstable();
        names.dedup();
        names
    }
}

fn names_in(legs: &[rows::Leg]) -> Vec<String> {
    legs.iter().flat_map(|leg| [leg.debit.clone(), leg.credit.clone()]).collect()
}
