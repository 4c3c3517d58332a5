//! What the ledger is given by the store, without a database: accounts, what is known, and the
//! payments that a batch refers to, no others.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::tasks::{name, second, usd};
use super::*;
use crate::contract::{Access, AccountName, Currencies, PublisherRules};

/// The arrival of a task on its way beside the batch; those of a [`World`] come later.
pub(super) const EARLIER: Arrival = Arrival(0);

/// One pending task for each account, that arrived before all others.
pub(super) struct Earlier;

impl Pending for Earlier {
    fn earlier(&self, _: &AccountName, before: Arrival) -> Vec<Arrival> {
        if before > EARLIER { vec![EARLIER] } else { Vec::new() }
    }
}

/// All that is stored.
#[derive(Clone)]
pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) rules: Rules,
    pub(super) accounts: Vec<Account>,
    pub(super) payments: HashMap<Uuid, Payment>,
    names: Vec<AccountName>,
    known: HashMap<Uuid, Known>,
    /// What is scheduled or parked, in order of arrival.
    waiting: BTreeMap<Arrival, Task>,
    /// Of who publishes from here on; without any, of nobody in particular.
    pub(super) publisher: Option<PublisherRules>,
    arrivals: u64,
}

impl World {
    /// Account 0 has no limit, the others must not go below zero; all have a balance of zero. Holds
    /// last 100 s, at most 1000 s, parking 60 s.
    pub(super) fn with(accounts: usize) -> Self {
        let account = |ix: usize| Account {
            status: AccountStatus::Open,
            currency: Some(usd()),
            min_balance: (ix > 0).then_some(0),
            ..Account::unopened(ix as i64)
        };
        Self::of((0..accounts).map(account).collect())
    }

    pub(super) fn of(accounts: Vec<Account>) -> Self {
        let rules = Rules {
            hold: SignedDuration::from_secs(100),
            longest_hold: SignedDuration::from_secs(1000),
            parking: SignedDuration::from_secs(60),
            frozen_takes_credits: true,
            currencies: Currencies::default(),
        };
        Self {
            now: second(0),
            rules,
            names: (0..accounts.len()).map(name).collect(),
            accounts,
            payments: HashMap::new(),
            known: HashMap::new(),
            waiting: BTreeMap::new(),
            publisher: None,
            arrivals: EARLIER.0 + 1,
        }
    }

    /// With so much on account 1.
    pub(super) fn funded(amount: i64) -> Self {
        let mut world = Self::with(4);
        world.accounts[0].posted = -amount;
        world.accounts[1].posted = amount;
        world
    }

    /// Applies new tasks as one batch.
    pub(super) fn apply(&mut self, tasks: &[Task]) -> Vec<Outcome> {
        self.decide(tasks, &NonePending).outcomes
    }

    /// Applies one task.
    pub(super) fn one(&mut self, task: Task) -> Outcome {
        self.apply(&[task]).remove(0)
    }

    pub(super) fn decide(&mut self, tasks: &[Task], pending: &impl Pending) -> Decision {
        self.decide_with(|_| false, tasks, pending)
    }

    /// What is scheduled or parked, in order of arrival.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Task> {
        self.waiting.values()
    }

    /// Looks again at all that waits.
    pub(super) fn resume(&mut self) -> Decision {
        self.resume_those(|_| true)
    }

    /// Looks again at what waits and is `chosen`, in order of arrival, as one batch.
    pub(super) fn resume_those(&mut self, chosen: impl Fn(&Task) -> bool) -> Decision {
        self.decide_with(chosen, &[], &NonePending)
    }

    /// Applies new tasks in one batch with what waits and is `chosen`, which has come before them.
    pub(super) fn decide_with(
        &mut self,
        chosen: impl Fn(&Task) -> bool,
        tasks: &[Task],
        pending: &impl Pending,
    ) -> Decision {
        let (waiting, first) = (self.waiting.clone(), self.arrivals);
        self.arrivals += tasks.len() as u64;
        let waiting = waiting.iter().filter(|(_, task)| chosen(task)).map(|(at, task)| (*at, task, true));
        let new = (first..).zip(tasks).map(|(arrival, task)| (Arrival(arrival), task, false));
        self.run(&waiting.chain(new).collect::<Vec<_>>(), pending)
    }

    /// Expires the holds of these payments, if it is time.
    pub(super) fn expire(&mut self, payments: &[u128]) -> (Vec<Acted>, Vec<Transition>) {
        let ids: Vec<Uuid> = payments.iter().copied().map(Uuid::from_u128).collect();
        let names: Vec<&AccountName> = self.names.iter().collect();
        let (accounts, payments) = (&mut self.accounts, &mut self.payments);
        let books = Books { accounts, names: &names, payments, known: &self.known, now: self.now, rules: &self.rules };
        expire(&ids, books)
    }

    pub(super) fn state(&self, task: u128) -> Option<PaymentState> {
        self.payments.get(&Uuid::from_u128(task)).map(Payment::state)
    }

    pub(super) fn payment(&self, task: u128) -> &Payment {
        &self.payments[&Uuid::from_u128(task)]
    }

    /// `(posted, held)` of an account.
    pub(super) fn balance(&self, account: usize) -> (i64, i64) {
        (self.accounts[account].posted, self.accounts[account].held)
    }

    fn run(&mut self, batch: &[(Arrival, &Task, bool)], pending: &impl Pending) -> Decision {
        let pairs = |task: &Task| task.body.account_pairs().map(|(debit, credit)| (ix(debit), ix(credit))).collect();
        let publisher = self.publisher.clone();
        let items: Vec<Item<'_>> = batch
            .iter()
            .map(|(arrival, task, resumes)| Item {
                task,
                arrival: *arrival,
                pairs: pairs(task),
                resumes: *resumes,
                publisher: publisher.as_ref().map(|rules| rules.name.as_str()),
                access: match &publisher {
                    Some(rules) => Access::Only(rules, Some(&rules.name)),
                    None => Access::Everything,
                },
            })
            .collect();
        let own = batch.iter().filter(|(.., resumes)| *resumes).map(|(_, task, _)| task.id);
        let wanted = batch.iter().flat_map(|(_, task, _)| task.refers_to()).chain(own);
        let mut payments: HashMap<Uuid, Payment> =
            wanted.filter_map(|id| Some((id, self.payments.get(&id)?.clone()))).collect();
        let names: Vec<&AccountName> = self.names.iter().collect();
        let books = Books {
            accounts: &mut self.accounts,
            names: &names,
            payments: &mut payments,
            known: &self.known,
            now: self.now,
            rules: &self.rules,
        };
        let decision = apply(&items, books, pending);
        for (ix, item) in items.iter().enumerate() {
            if let (Some(step), Some(own)) = (decision.steps[ix], decision.payment(ix, item, &payments)) {
                self.store(item, step, own.into_owned());
            }
        }
        self.payments.extend(payments);
        decision
    }

    /// Keeps what the database would keep of an outcome.
    fn store(&mut self, item: &Item<'_>, step: Step, own: Payment) {
        let task = item.task;
        self.known.entry(task.id).or_insert_with(|| Known { fingerprint: task.fingerprint, task: Some(task.clone()) });
        if step.after.state().is_pending() {
            self.waiting.insert(item.arrival, task.clone());
        } else {
            self.waiting.remove(&item.arrival);
        }
        self.payments.insert(task.id, own);
    }
}

fn ix(name: &AccountName) -> AccountIx {
    AccountIx(name.as_str()[1..].parse().expect("a number"))
}
