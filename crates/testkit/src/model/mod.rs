//! A second ledger, to compare the daemon's with. It was written from the description of the tasks, not from the
//! ledger's code. It handles one task at a time with plain maps, and undoes a failed task from a copy: slow and
//! simple.
//!
//! ```text
//! let mut expected = model::Model::new(settings, now);
//! for task in model::tasks(seed, 5000, "account:") {
//!     publish_and_await(task.to_json());
//!     expected.arrive(&[task]);
//! }
//! assert_eq!(expected.row(id).state, …);
//! ```
//!
//! Tasks that wait are tried again after each call of `arrive`. For a daemon to come to the same result, tasks are
//! published one by one, each after the effects of the one before. Alternatively the caller determines the order of
//! all steps: [`Model::step`] and the other methods in `single.rs`.
//!
//! The model depends only on `contract`, which its parent module must have in scope: the ledger's own tests compile
//! the model too.

mod account;
mod follow_up;
mod random;
mod rows;
mod single;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

pub use self::account::{Account, Entry};
pub use self::random::ACCOUNTS;
pub use self::rows::{Leg, Row};
pub use self::single::{Before, Waits};
pub use self::steps::{Step, steps, tasks};
pub use super::contract::Task;
use super::contract::{AccountChange, PaymentState, Rejection, TaskBody};

/// The part of the configuration that affects outcomes.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub hold: SignedDuration,
    pub longest_hold: SignedDuration,
    pub parking: SignedDuration,
    pub frozen_takes_credits: bool,
}

impl Default for Settings {
    /// Returns the defaults of the configuration.
    fn default() -> Self {
        Self {
            hold: SignedDuration::from_hours(7 * 24),
            longest_hold: SignedDuration::from_hours(31 * 24),
            parking: SignedDuration::from_mins(15),
            frozen_takes_credits: true,
        }
    }
}

/// Outcome of a message's arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    New,
    Duplicate,
    Conflict,
}

/// Why a task was not applied.
enum Stop {
    Rejected(Rejection),
    /// The task is scheduled for this time.
    NotBefore(Timestamp),
    /// The task waits for that task. If it waits too long, it is rejected for this reason.
    WaitsFor(Uuid, Rejection),
}

impl From<Rejection> for Stop {
    fn from(reason: Rejection) -> Self {
        Self::Rejected(reason)
    }
}

/// The whole state of the second ledger.
#[derive(Default)]
pub struct Model {
    pub now: Timestamp,
    pub accounts: BTreeMap<String, Account>,
    /// All entries in the order of their creation.
    pub entries: Vec<Entry>,
    /// All tasks in order of arrival.
    pub rows: Vec<Row>,
    places: BTreeMap<Uuid, usize>,
    settings: Settings,
    /// Tasks that have changed since the tasks that wait for them were tried.
    changed: BTreeSet<Uuid>,
}

impl Model {
    pub fn new(settings: Settings, now: Timestamp) -> Self {
        Self { now, settings, ..Self::default() }
    }

    /// Returns the row of the task with this id, if it has arrived.
    pub fn row(&self, id: Uuid) -> Option<&Row> {
        self.places.get(&id).map(|place| &self.rows[*place])
    }

    /// Processes new messages one after another, then the waiting tasks that they wake.
    pub fn arrive(&mut self, tasks: &[Task]) -> Vec<Arrived> {
        let arrived = tasks.iter().map(|task| self.take(task)).collect();
        self.wake();
        arrived
    }

    /// Processes all tasks whose execution time or waiting deadline has come.
    pub fn due(&mut self) {
        let is_due = |row: &Row| row.waits_until.is_some_and(|until| until <= self.now);
        let due: Vec<usize> = (0..self.rows.len()).filter(|place| is_due(&self.rows[*place])).collect();
        due.into_iter().for_each(|place| self.look_at(place));
        self.wake();
    }

    /// Ends all holds that have expired.
    pub fn expire(&mut self) {
        for place in 0..self.rows.len() {
            if self.rows[place].hold_until.is_some_and(|until| until <= self.now) {
                self.end_hold(place, PaymentState::Expired);
                self.has_changed(place);
            }
        }
        self.wake();
    }

    fn take(&mut self, task: &Task) -> Arrived {
        if let Some(row) = self.row(task.id) {
            return if *row.task == *task { Arrived::Duplicate } else { Arrived::Conflict };
        }
        let place = self.add(Arc::new(task.clone()));
        self.look_at(place);
        Arrived::New
    }

    fn add(&mut self, task: Arc<Task>) -> usize {
        let place = self.rows.len();
        self.places.insert(task.id, place);
        self.rows.push(Row::new(task));
        place
    }

    /// Tries tasks again that wait for a changed task, in order of arrival, until nothing changes any more.
    fn wake(&mut self) {
        while !self.changed.is_empty() {
            let changed = std::mem::take(&mut self.changed);
            let woken = |row: &Row| row.waits_for.is_some_and(|awaited| changed.contains(&awaited));
            let woken: Vec<usize> = (0..self.rows.len()).filter(|place| woken(&self.rows[*place])).collect();
            woken.into_iter().for_each(|place| self.look_at(place));
        }
    }

    /// Tries the task of a row, unless it is already decided.
    fn look_at(&mut self, place: usize) {
        let state = self.rows[place].state;
        if state.is_some_and(|state| !matches!(state, PaymentState::Scheduled | PaymentState::Parked)) {
            return;
        }
        let before = self.before(&self.rows[place].task);
        let mut stop = self.attempt(place).err();
        if stop.is_some() {
            self.take_back(before);
        }
        if let Some(Stop::WaitsFor(awaited, reason)) = stop {
            let until = self.patience(place, awaited);
            self.rows[place].waits_until = Some(until);
            self.rows[place].waits_for = Some(awaited);
            if until <= self.now {
                stop = Some(Stop::Rejected(reason));
            }
        }
        let row = &mut self.rows[place];
        let state_now = match stop {
            None => row.applied(),
            Some(Stop::WaitsFor(..)) => PaymentState::Parked,
            Some(Stop::NotBefore(time)) => {
                row.waits_until = Some(time);
                PaymentState::Scheduled
            }
            Some(Stop::Rejected(reason)) => {
                row.reason = Some(reason);
                PaymentState::Rejected
            }
        };
        if !matches!(state_now, PaymentState::Scheduled | PaymentState::Parked) {
            (row.waits_until, row.waits_for) = (None, None);
        }
        if state != Some(state_now) {
            row.state = Some(state_now);
            self.has_changed(place);
        }
    }

    fn has_changed(&mut self, place: usize) {
        self.rows[place].version += 1;
        self.changed.insert(self.rows[place].task.id);
    }

    /// Returns the waiting deadline of a task: its own, or that of the awaited task if it is later.
    fn patience(&self, place: usize, awaited: Uuid) -> Timestamp {
        let row = &self.rows[place];
        let own = match row.state {
            Some(PaymentState::Parked) => row.waits_until.expect("what is parked has a deadline"),
            _ => self.now + self.settings.parking,
        };
        let Some(awaited) = self.row(awaited) else { return own };
        match (awaited.state, awaited.waits_until) {
            (Some(PaymentState::Scheduled), Some(until)) => own.max(until + self.settings.parking),
            (Some(PaymentState::Parked), Some(until)) => own.max(until),
            _ => own,
        }
    }

    fn attempt(&mut self, place: usize) -> Result<(), Stop> {
        let task = Arc::clone(&self.rows[place].task);
        rows::sound(&task, self.now)?;
        if let Some(time) = task.when.execute_at
            && time > self.now
        {
            return Err(Stop::NotBefore(time));
        }
        if let Some(id) = task.when.after {
            match self.row(id).and_then(|row| row.state) {
                None | Some(PaymentState::Scheduled | PaymentState::Parked) => {
                    return Err(Stop::WaitsFor(id, Rejection::DependencyNotFound));
                }
                Some(PaymentState::Rejected | PaymentState::Canceled) => {
                    return Err(Stop::Rejected(Rejection::DependencyFailed));
                }
                Some(_) => {}
            }
        }
        match &task.body {
            TaskBody::OpenAccount(open) => {
                self.open(open.account.as_str(), open.currency.as_str(), open.min_balance)?;
            }
            TaskBody::ChangeAccount(change) => self.change(change.account.as_str(), change.change)?,
            TaskBody::Transfer(_) | TaskBody::Split(_) => {
                let mut legs = rows::legs_of(&task);
                for leg in &mut legs {
                    self.transfer(task.id, leg, leg.amount)?;
                    leg.captured = leg.amount;
                }
                self.rows[place].legs = legs;
            }
            TaskBody::Authorize(authorize) => {
                let lasts =
                    authorize.expires_in.map_or(self.settings.hold, |secs| SignedDuration::from_secs(secs.into()));
                if lasts > self.settings.longest_hold {
                    return Err(Rejection::ExpiryOutOfRange.into());
                }
                let legs = rows::legs_of(&task);
                legs.iter().try_for_each(|leg| self.hold(leg))?;
                self.rows[place].legs = legs;
                self.rows[place].hold_until = Some(self.now + lasts);
            }
            TaskBody::FollowUp(follow_up) => self.follow_up(task.id, follow_up)?,
        }
        Ok(())
    }

    fn change(&mut self, name: &str, change: AccountChange) -> Result<(), Rejection> {
        let account = self.existing(name)?;
        match change {
            AccountChange::Close if account.posted != 0 || account.held != 0 => Err(Rejection::AccountNotEmpty),
            AccountChange::Close => {
                account.is_closed = true;
                Ok(())
            }
            AccountChange::Freeze if account.is_frozen => Err(Rejection::AccountFrozen),
            AccountChange::Unfreeze if !account.is_frozen => Err(Rejection::AccountNotFrozen),
            AccountChange::Freeze | AccountChange::Unfreeze => {
                account.is_frozen = !account.is_frozen;
                Ok(())
            }
            AccountChange::SetLimits(limits) => account.set_limits(limits.min_balance, limits.max_balance),
        }
    }
}
