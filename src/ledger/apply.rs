//! The ladder of guards, and the loop that climbs it for each task of a batch.
//!
//! Precedence, first that holds:
//! 1. the id is known: the stored outcome stands, or it is a conflict;
//! 2. an earlier task on the same account or payment, one that it refers to, or one with the same
//!    id is set aside: behind it;
//! 3. the task alone: `unknown_currency` of an account to open, `amount_out_of_range`, `same_account`;
//! 4. its time: not before `execute_at`, not before the outcome of `after`
//!    (`dependency_failed`, `dependency_not_found`);
//! 5. the payment it acts on: `payment_not_found`, `forbidden`, what its state says, then what is left
//!    of it; of an authorization `expiry_out_of_range`;
//! 6. the accounts, debit before credit: `account_not_found`, `account_closed`,
//!    `currency_mismatch`, then `account_frozen`;
//! 7. the balances: `insufficient_funds`, `limit_exceeded`.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use smallvec::SmallVec;
use uuid::Uuid;

use super::aside::Aside;
use super::guards::{Decline, alone};
use super::{Account, AccountIx, Arrival, Books, Decision, Outcome, Payment, Rules, Transition};
use crate::contract::{Access, AccountName, Fingerprint, PaymentState, Rejection, Task, TaskBody};
use crate::sabotage::{self, Defect};

/// A task with its place in the order and in the batch's list of accounts.
#[derive(Clone, Debug)]
pub struct Item<'a> {
    /// What is asked for.
    pub task: &'a Task,
    /// When it came.
    pub arrival: Arrival,
    /// The places of [`TaskBody::account_pairs`].
    pub pairs: SmallVec<[(AccountIx, AccountIx); 1]>,
    /// Whether it is stored as scheduled or parked, and looked at again.
    pub resumes: bool,
    /// Who published it.
    pub publisher: Option<&'a str>,
    /// Which payments that publisher may act on.
    pub access: Access<'a>,
}

/// What the database says of an id that has had its outcome.
#[derive(Clone, Debug)]
pub struct Known {
    /// Of the task that had it.
    pub fingerprint: Fingerprint,
    /// The task itself; only needed when the fingerprints differ.
    pub task: Option<Task>,
}

/// Which tasks are still on their way.
pub trait Pending {
    /// The arrivals before `before` of tasks, not yet done, that credit, open or change `account`,
    /// or may do so.
    fn earlier(&self, account: &AccountName, before: Arrival) -> Vec<Arrival>;
}

/// No task is on its way beside the batch.
#[derive(Clone, Copy, Debug)]
pub struct NonePending;

impl Pending for NonePending {
    fn earlier(&self, _: &AccountName, _: Arrival) -> Vec<Arrival> {
        Vec::new()
    }
}

/// Evaluates `items` (in order of arrival) and changes the accounts and payments accordingly.
pub fn apply(items: &[Item<'_>], books: Books<'_>, pending: &impl Pending) -> Decision {
    debug_assert!(items.is_sorted_by_key(|item| item.arrival), "a batch is in order of arrival");
    let mut batch = Batch::new(items, books, pending);
    for item in items {
        let outcome = batch.evaluate(item);
        batch.record(item, outcome);
    }
    batch.decision
}

/// What a task comes to, or why it is declined.
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
            decision: Decision { outcomes: Vec::with_capacity(items.len()), transitions: Vec::new() },
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
            return Outcome::SetAside { waits_on: None };
        }
        match self.decide(item) {
            Ok(outcome) => outcome,
            Err(Decline { rejection, account }) => match account {
                Some(account) if rejection.depends_on_earlier_tasks() && self.may_change(account, item.arrival) => {
                    Outcome::SetAside { waits_on: Some(self.names[account.0].clone()) }
                }
                _ => Outcome::Rejected(rejection),
            },
        }
    }

    fn decide(&mut self, item: &Item<'_>) -> Verdict {
        alone(item.task, self.rules, self.now)?;
        if let Some(waits) = self.not_yet(item)? {
            return Ok(waits);
        }
        match (&item.task.body, item.pairs.as_slice()) {
            (TaskBody::Transfer(transfer), [pair]) => self.transfer(transfer, *pair),
            (TaskBody::OpenAccount(open), [(account, _)]) => self.open_account(open, *account),
            (TaskBody::ChangeAccount(change), [(account, _)]) => self.change_account(change, *account, item),
            (TaskBody::Split(split), pairs) => self.split(split, pairs, item),
            (TaskBody::Authorize(authorize), pairs) => self.authorize(authorize, pairs, item),
            (TaskBody::FollowUp(follow_up), _) => self.follow_up(follow_up, item),
            (_, pairs) => unreachable!("a task that names two accounts has one pair, not {}", pairs.len()),
        }
    }

    fn record(&mut self, item: &Item<'_>, outcome: Outcome) {
        if let Outcome::Settled { debit, credit } = &outcome
            && sabotage::strikes(Defect::DoubledEntry, item.arrival, item.task)
        {
            for posting in [debit, credit].map(sabotage::once_more) {
                self.post(posting.after.account, posting.amount, posting.after.posted);
            }
        }
        self.seen.entry(item.task.id).or_insert(self.decision.outcomes.len());
        if !outcome.is_decided() {
            let parent = item.task.body.payment_id().and_then(|payment| self.payments.get(&payment));
            self.aside.add(item, parent);
        }
        if item.resumes || self.referred.contains(&item.task.id) {
            self.remember(item, &outcome);
        }
        self.decision.outcomes.push(outcome);
    }

    /// Lets later tasks of the batch find this one; and takes one that was resumed a state further.
    fn remember(&mut self, item: &Item<'_>, outcome: &Outcome) {
        let Some(state) = outcome.state() else { return };
        let id = item.task.id;
        let before = item.resumes.then(|| self.payments.get(&id)).flatten().map(|own| (own.state, own.version));
        let version = match before {
            // Still scheduled, or still parked.
            Some((before, version)) if before == state => version,
            _ => self.version_of(item),
        };
        if let Some((from, _)) = before.filter(|(before, _)| *before != state) {
            let cause = Some(id);
            self.decision.transitions.push(Transition { payment: id, version, from, to: state, cause });
        }
        let deadline = match outcome {
            Outcome::Scheduled(until) | Outcome::Parked { deadline: until, .. } => Some(*until),
            _ => None,
        };
        let whole = match outcome {
            Outcome::Acted(acted) => acted.payment.clone().filter(|payment| payment.id == id),
            Outcome::Settled { .. } => Some(self.posted(item)),
            _ => None,
        };
        let bare = || Payment {
            state,
            deadline,
            publisher: item.publisher.map(Into::into),
            ..Payment::bare(id, item.task.body.task_type(), version)
        };
        self.payments.insert(id, whole.unwrap_or_else(bare));
    }

    /// Guard 1 and, for an id whose first task is set aside, guard 2.
    fn repetition(&self, item: &Item<'_>) -> Option<Outcome> {
        let task = item.task;
        if item.resumes {
            let waits = self.payments.get(&task.id).is_some_and(|own| own.state.is_pending());
            return (!waits).then_some(Outcome::Duplicate);
        }
        if let Some(known) = self.known.get(&task.id) {
            if known.fingerprint == task.fingerprint {
                return Some(Outcome::Duplicate);
            }
            if sabotage::has(Defect::AlteredReplayApplied) {
                return None;
            }
            let field = known.task.as_ref().and_then(|first| task.differs_from(first));
            return Some(Outcome::Conflict(field.unwrap_or("id")));
        }
        let first = *self.seen.get(&task.id)?;
        Some(if !self.decision.outcomes[first].is_decided() {
            Outcome::SetAside { waits_on: None }
        } else {
            match task.differs_from(self.items[first].task) {
                None => Outcome::Duplicate,
                Some(field) => Outcome::Conflict(field),
            }
        })
    }

    /// Guard 4.
    fn not_yet(&self, item: &Item<'_>) -> Result<Option<Outcome>, Decline> {
        // What is parked has seen its time come, even if the clock was set back since.
        let is_parked = self.parked(item).is_some();
        if let Some(at) = item.task.when.execute_at.filter(|at| *at > self.now && !is_parked) {
            return Ok(Some(Outcome::Scheduled(at)));
        }
        let Some(after) = item.task.when.after else { return Ok(None) };
        match self.payments.get(&after).map(|awaited| awaited.state) {
            Some(state) if state.is_failed() => Err(Rejection::DependencyFailed.into()),
            Some(state) if !state.is_pending() => Ok(None),
            _ => self.park(item, after, Rejection::DependencyNotFound).map(Some),
        }
    }

    /// Has the task wait for another one; until its deadline, then it is rejected for `reason`.
    pub(super) fn park(&self, item: &Item<'_>, on: Uuid, reason: Rejection) -> Verdict {
        let own = self.parked(item).and_then(|own| own.deadline).unwrap_or(self.now + self.rules.parking);
        // Whoever waits for a task that waits itself has as much time as that one.
        let awaited = self.payments.get(&on).and_then(|awaited| match awaited.state {
            PaymentState::Scheduled => awaited.deadline.and_then(|at| at.checked_add(self.rules.parking).ok()),
            PaymentState::Parked => awaited.deadline,
            _ => None,
        });
        let deadline = awaited.map_or(own, |awaited| awaited.max(own));
        if deadline <= self.now { Err(reason.into()) } else { Ok(Outcome::Parked { on, deadline }) }
    }

    /// The task itself, if it was parked before.
    fn parked(&self, item: &Item<'_>) -> Option<&Payment> {
        let own = item.resumes.then(|| self.payments.get(&item.task.id)).flatten();
        own.filter(|own| own.state == PaymentState::Parked)
    }

    /// Whether a task that came earlier, and that this batch hasn't decided, can still credit
    /// or open the account.
    pub(super) fn may_change(&self, account: AccountIx, arrival: Arrival) -> bool {
        let decided_here = |earlier: &Arrival| {
            let place = self.items.binary_search_by_key(earlier, |item| item.arrival);
            place.is_ok_and(|place| self.decision.outcomes.get(place).is_some_and(Outcome::is_decided))
        };
        self.pending.earlier(self.names[account.0], arrival).iter().any(|earlier| !decided_here(earlier))
    }

    /// The version that the task itself comes to.
    pub(super) fn version_of(&self, item: &Item<'_>) -> i32 {
        let own = item.resumes.then(|| self.payments.get(&item.task.id)).flatten();
        own.map_or(1, |own| own.version + 1)
    }
}
