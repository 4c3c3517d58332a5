//! Decides each task of a batch by the ladder of guards. The first guard that holds decides:
//! 1. the id is known: it is a repetition or a conflict;
//! 2. a task that this one has to come after is deferred: it is deferred, too;
//! 3. the task alone: `unknown_currency` of an account to open, `amount_out_of_range`, `same_account`;
//! 4. the time: not before `execute_at`, not before the outcome of `after`
//!    (`dependency_failed`, `dependency_not_found`);
//! 5. the payment on which it acts: `payment_not_found`, `forbidden`, the rejection of the state table, then
//!    what is left of its amounts; of an authorization `expiry_out_of_range`;
//! 6. the accounts, debit before credit: `account_not_found`, `account_closed`,
//!    `currency_mismatch`, then `account_frozen`;
//! 7. the balances: `insufficient_funds`, `limit_exceeded`.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use uuid::Uuid;

use super::aside::Aside;
use super::guards::{Decline, alone};
use super::state::{Stage, Trigger};
use super::{
    Account, AccountIx, Arrival, Books, Decision, Item, Known, Outcome, Payment, Pending, Rules, Step, Transition,
};
use crate::contract::{AccountName, PaymentState, Rejection, TaskBody};

/// Decides `items`, which are in order of arrival, and changes accounts and payments accordingly.
pub fn apply(items: &[Item<'_>], books: Books<'_>, pending: &impl Pending) -> Decision {
    debug_assert!(items.is_sorted_by_key(|item| item.arrival), "a batch is in order of arrival");
    let mut batch = Batch::new(items, books, pending);
    for item in items {
        let outcome = batch.evaluate(item);
        batch.record(item, outcome);
    }
    batch.decision
}

/// The outcome of a task, or why it is declined.
pub(super) type Verdict = Result<Outcome, Decline>;

pub(super) struct Batch<'b, 'i, P> {
    items: &'i [Item<'i>],
    pending: &'i P,
    pub(super) accounts: &'b mut [Account],
    pub(super) names: &'b [&'b AccountName],
    pub(super) payments: &'b mut HashMap<Uuid, Payment>,
    known: &'b HashMap<Uuid, Known>,
    pub(super) now: Timestamp,
    pub(super) rules: &'b Rules,
    pub(super) decision: Decision,
    /// The first task of the batch with each id.
    seen: HashMap<Uuid, usize>,
    /// The tasks that others of the batch refer to.
    referred: HashSet<Uuid>,
    pub(super) aside: Aside,
}

impl<'b, 'i, P: Pending> Batch<'b, 'i, P> {
    pub(super) fn new(items: &'i [Item<'i>], books: Books<'b>, pending: &'i P) -> Self {
        let Books { accounts, names, payments, known, now, rules } = books;
        Self {
            items,
            pending,
            accounts,
            names,
            payments,
            known,
            now,
            rules,
            decision: Decision::with_capacity(items.len()),
            seen: HashMap::with_capacity(items.len()),
            referred: items.iter().flat_map(|item| item.task.refers_to()).collect(),
            aside: Aside::default(),
        }
    }

    fn evaluate(&mut self, item: &Item<'_>) -> Outcome {
        if let Some(outcome) = self.repetition(item) {
            return outcome;
        }
        if self.aside.is_before(item) {
            return Outcome::Deferred { waits_on: None };
        }
        self.decide(item).unwrap_or_else(|Decline { rejection, account }| {
            let may_change = |account: &AccountIx| self.may_change(*account, item.arrival);
            match account.filter(|_| rejection.depends_on_earlier_tasks()).filter(may_change) {
                Some(account) => Outcome::Deferred { waits_on: Some(self.names[account.0].clone()) },
                None => Outcome::Rejected(rejection),
            }
        })
    }

    fn decide(&mut self, item: &Item<'_>) -> Verdict {
        alone(item.task, self.rules, self.now)?;
        if let Some(waits) = self.not_yet(item)? {
            return Ok(waits);
        }
        match &item.task.body {
            TaskBody::Transfer(transfer) => self.transfer(transfer, item.pairs[0]),
            TaskBody::OpenAccount(open) => self.open_account(open, item.pairs[0].0),
            TaskBody::ChangeAccount(change) => self.change_account(change, item.pairs[0].0, item),
            TaskBody::Split(_) => self.split(item),
            TaskBody::Authorize(authorize) => self.authorize(authorize, item),
            TaskBody::FollowUp(follow_up) => self.follow_up(follow_up, item),
        }
    }

    fn record(&mut self, item: &Item<'_>, outcome: Outcome) {
        self.seen.entry(item.task.id).or_insert(self.decision.outcomes.len());
        if !outcome.is_decided() {
            let parent = item.task.body.payment_id().and_then(|payment| self.payments.get(&payment));
            self.aside.add(item, parent);
        }
        let step = outcome.trigger().map(|trigger| self.step(item, trigger));
        if let Some(step) = step {
            self.take(item, &outcome, step);
        }
        self.decision.steps.push(step);
        self.decision.outcomes.push(outcome);
    }

    /// The change of a task's own payment when `trigger` happens to it: the table's answer.
    pub(super) fn step(&self, item: &Item<'_>, trigger: Trigger) -> Step {
        let before = self.waiting(item).map(|own| own.stage);
        let after = match before {
            Some(stage) => stage.next(trigger, None).ok(),
            None => Stage::first(trigger),
        };
        let Some(after) = after else { unreachable!("{trigger:?} of a task that is {before:?}") };
        Step { before, after }
    }

    /// Takes a task's own payment a step further, and keeps it for the tasks of the batch that refer to it.
    fn take(&mut self, item: &Item<'_>, outcome: &Outcome, step: Step) {
        let id = item.task.id;
        if let Some(before) = step.before.filter(|_| !step.keeps_waiting()) {
            self.decision.transitions.push(Transition::between(id, before, step.after, Some(id)));
        }
        if item.resumes || self.referred.contains(&id) {
            self.payments.insert(id, outcome.payment(item, step.after));
        }
    }

    /// Guard 1; and guard 2 for an id whose first task is deferred.
    fn repetition(&self, item: &Item<'_>) -> Option<Outcome> {
        let task = item.task;
        if item.resumes {
            return self.waiting(item).is_none().then_some(Outcome::Duplicate);
        }
        if let Some(known) = self.known.get(&task.id) {
            if known.fingerprint == task.fingerprint {
                return Some(Outcome::Duplicate);
            }
            let field = known.task.as_ref().and_then(|first| task.differs_from(first));
            return Some(Outcome::Conflict(field.unwrap_or("id")));
        }
        let first = *self.seen.get(&task.id)?;
        Some(if !self.decision.outcomes[first].is_decided() {
            Outcome::Deferred { waits_on: None }
        } else {
            match task.differs_from(self.items[first].task) {
                None => Outcome::Duplicate,
                Some(field) => Outcome::Conflict(field),
            }
        })
    }

    /// Guard 4.
    fn not_yet(&self, item: &Item<'_>) -> Result<Option<Outcome>, Decline> {
        // The time of a parked task has come, even if the clock was set back since.
        let is_parked = self.waiting(item).is_some_and(|own| own.state() == PaymentState::Parked);
        if let Some(at) = item.task.when.execute_at.filter(|at| *at > self.now && !is_parked) {
            return Ok(Some(Outcome::Scheduled(at)));
        }
        let Some(after) = item.task.when.after else { return Ok(None) };
        match self.payments.get(&after).map(Payment::state) {
            Some(state) if state.is_failed() => Err(Rejection::DependencyFailed.into()),
            Some(state) if !state.is_pending() => Ok(None),
            Some(_) | None => self.park(item, after, Rejection::DependencyNotFound).map(Some),
        }
    }

    /// Parks a task until another one has its outcome. At the deadline it is rejected for `reason`.
    pub(super) fn park(&self, item: &Item<'_>, on: Uuid, reason: Rejection) -> Verdict {
        let own = self.waiting(item).filter(|own| own.state() == PaymentState::Parked).and_then(|own| own.deadline);
        let own = own.unwrap_or(self.now + self.rules.parking);
        // A task that waits for one that waits itself has as much time as that one.
        let awaited = self.payments.get(&on).filter(|awaited| awaited.state().is_pending());
        let awaited = awaited.and_then(|awaited| {
            let its_own = awaited.deadline?;
            match awaited.state() == PaymentState::Scheduled {
                true => its_own.checked_add(self.rules.parking).ok(),
                false => Some(its_own),
            }
        });
        let deadline = awaited.map_or(own, |awaited| awaited.max(own));
        if deadline <= self.now { Err(reason.into()) } else { Ok(Outcome::Parked { on, deadline }) }
    }

    /// The payment of a task that was scheduled or parked before, and still is.
    fn waiting(&self, item: &Item<'_>) -> Option<&Payment> {
        self.payments.get(&item.task.id).filter(|own| item.resumes && own.state().is_pending())
    }

    /// Whether an earlier task that is not decided yet may credit, open or change the account.
    pub(super) fn may_change(&self, account: AccountIx, arrival: Arrival) -> bool {
        let decided_here = |earlier: &Arrival| {
            let place = self.items.binary_search_by_key(earlier, |item| item.arrival);
            place.is_ok_and(|place| self.decision.outcomes.get(place).is_some_and(Outcome::is_decided))
        };
        self.pending.earlier(self.names[account.0], arrival).iter().any(|earlier| !decided_here(earlier))
    }
}
