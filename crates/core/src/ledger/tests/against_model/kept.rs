//! What the store does with the ledger's decisions, in memory: it keeps them, wakes who waits, and
//! checks what the database would check.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{ACCOUNTS, Entry, Settings};
use super::*;
use crate::ledger::state::{FIRST, transitions};

pub(super) struct Kept {
    pub(super) world: World,
    pub(super) names: Vec<String>,
    pub(super) waits_for: BTreeMap<Uuid, Uuid>,
    pub(super) entries: Vec<Entry>,
    pub(super) reasons: BTreeMap<Uuid, Rejection>,
    /// All that happened.
    pub(super) transitions: BTreeSet<(PaymentState, PaymentState)>,
    legal: BTreeSet<(PaymentState, PaymentState)>,
    versions: BTreeMap<Uuid, (PaymentState, i32)>,
    changed: BTreeSet<Uuid>,
    /// The last that an outcome said of each account.
    said: BTreeMap<usize, Balance>,
    /// The sum and the number of each account's entries.
    tallies: [(i64, i64); ACCOUNTS],
    /// What each task has moved, for each currency.
    sums: BTreeMap<(Uuid, String), i64>,
}

impl Kept {
    pub(super) fn new(settings: &Settings) -> Self {
        let mut world = World::of((0..ACCOUNTS).map(|ix| Account::unopened(ix as i64)).collect());
        world.rules = Rules {
            hold: settings.hold,
            longest_hold: settings.longest_hold,
            parking: settings.parking,
            frozen_takes_credits: settings.frozen_takes_credits,
            ..Rules::default()
        };
        Self {
            world,
            names: (0..ACCOUNTS).map(|ix| name(ix).to_string()).collect(),
            waits_for: BTreeMap::new(),
            entries: Vec::new(),
            reasons: BTreeMap::new(),
            transitions: BTreeSet::new(),
            legal: transitions().into_iter().collect(),
            versions: BTreeMap::new(),
            changed: BTreeSet::new(),
            said: BTreeMap::new(),
            tallies: [(0, 0); ACCOUNTS],
            sums: BTreeMap::new(),
        }
    }

    /// What became of the tasks, in the order in which they were decided.
    pub(super) fn arrive(&mut self, tasks: &[Task]) -> Result<Vec<(Task, Arrived)>, String> {
        let decision = self.world.decide(tasks, &NonePending);
        self.keep(tasks, &decision)?;
        self.wake()?;
        Ok(tasks.iter().cloned().zip(decision.outcomes.iter().map(arrived)).collect())
    }

    /// The same while other tasks are on their way: what they could change is deferred, and decided
    /// when they are done (and have changed nothing).
    pub(super) fn arrive_beside_others(&mut self, tasks: &[Task]) -> Result<Vec<(Task, Arrived)>, String> {
        let mut tried = self.world.clone();
        let outcomes = tried.decide(tasks, &Earlier).outcomes;
        let of = |decided: bool| {
            let chosen = tasks.iter().zip(&outcomes).filter(move |(_, outcome)| outcome.is_decided() == decided);
            chosen.map(|(task, _)| task.clone()).collect::<Vec<Task>>()
        };
        nobody_overtakes(tasks, &outcomes)?;
        let (first, then) = (of(true), of(false));
        let decision = self.world.decide(&first, &NonePending);
        self.keep(&first, &decision)?;
        let mut expected = outcomes.iter().filter(|outcome| outcome.is_decided());
        same(
            "outcomes without what was set aside",
            &true,
            &decision.outcomes.iter().all(|found| expected.next() == Some(found)),
        )?;
        same("accounts without what was set aside", &tried.accounts, &self.world.accounts)?;
        let mut in_order: Vec<_> = first.into_iter().zip(decision.outcomes.iter().map(arrived)).collect();
        in_order.extend(self.arrive(&then)?);
        Ok(in_order)
    }

    pub(super) fn due(&mut self) -> Result<(), String> {
        let (now, payments) = (self.world.now, &self.world.payments);
        let is_due = |task: &&Task| payments[&task.id].deadline.is_some_and(|until| until <= now);
        let due: Vec<Task> = self.world.waiting().filter(is_due).cloned().collect();
        self.resume(due)?;
        self.wake()
    }

    pub(super) fn expire(&mut self) -> Result<(), String> {
        let all: Vec<u128> = self.world.payments.keys().map(Uuid::as_u128).collect();
        let (acted, transitions) = self.world.expire(&all);
        for acted in &acted {
            self.hear(acted);
        }
        self.pass(&transitions)?;
        self.wake()
    }

    fn wake(&mut self) -> Result<(), String> {
        while !self.changed.is_empty() {
            let changed = std::mem::take(&mut self.changed);
            let is_woken = |task: &&Task| self.waits_for.get(&task.id).is_some_and(|on| changed.contains(on));
            let woken: Vec<Task> = self.world.waiting().filter(is_woken).cloned().collect();
            self.resume(woken)?;
        }
        Ok(())
    }

    fn resume(&mut self, tasks: Vec<Task>) -> Result<(), String> {
        let ids: BTreeSet<Uuid> = tasks.iter().map(|task| task.id).collect();
        let decision = self.world.resume_those(|task| ids.contains(&task.id));
        self.keep(&tasks, &decision)
    }

    fn keep(&mut self, tasks: &[Task], decision: &Decision) -> Result<(), String> {
        for (task, (outcome, step)) in tasks.iter().zip(decision.outcomes.iter().zip(&decision.steps)) {
            let Some(step) = step else { continue };
            if let std::collections::btree_map::Entry::Vacant(first) = self.versions.entry(task.id) {
                let state = step.after.state();
                first.insert((state, step.after.version()));
                self.changed.insert(task.id);
                if step.before.is_some() || !FIRST.contains(&state) || step.after.version() != 1 {
                    return Err(format!("{step:?} is no first state"));
                }
            }
            self.waits_for.remove(&task.id);
            match outcome {
                Outcome::Parked { on, .. } => _ = self.waits_for.insert(task.id, *on),
                Outcome::Rejected(reason) => _ = self.reasons.insert(task.id, *reason),
                Outcome::Settled { debit, credit } => self.enter(task.id, &[*debit, *credit]),
                Outcome::Acted(acted) => {
                    for Movement { debit, credit, .. } in &acted.movements {
                        self.enter(task.id, &[*debit, *credit]);
                    }
                    self.hear(acted);
                }
                _ => {}
            }
        }
        self.pass(&decision.transitions)
    }

    fn enter(&mut self, task: Uuid, postings: &[Posting]) {
        for Posting { amount, after } in postings {
            let (amount, seq, balance, ix) = (*amount, after.version, after.posted, after.account.0);
            let currency = self.world.accounts[ix].currency.map_or("none".to_owned(), |code| code.to_string());
            self.entries.push(Entry { task, account: self.names[ix].clone(), seq, amount, balance });
            *self.sums.entry((task, currency)).or_default() += amount;
            self.tallies[ix] = (self.tallies[ix].0 + amount, self.tallies[ix].1 + 1);
            self.said.insert(ix, *after);
        }
    }

    fn hear(&mut self, acted: &Acted) {
        self.said.extend(acted.balances.iter().map(|balance| (balance.account.0, *balance)));
    }

    /// Each step follows from where the payment was, and is legal.
    fn pass(&mut self, transitions: &[Transition]) -> Result<(), String> {
        for step in transitions {
            let before = self.versions.insert(step.payment, (step.to, step.version));
            if before != Some((step.from, step.version - 1)) || !self.legal.contains(&(step.from, step.to)) {
                return Err(format!("{step:?} after {before:?}"));
            }
            if step.to == PaymentState::Canceled {
                self.waits_for.remove(&step.payment);
            }
            self.transitions.insert((step.from, step.to));
            self.changed.insert(step.payment);
        }
        Ok(())
    }

    /// What holds at all times.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut held = [0; ACCOUNTS];
        for payment in self.world.payments.values() {
            same("the last transition", &Some(&(payment.state(), payment.version())), &self.versions.get(&payment.id))?;
            for leg in &payment.legs {
                held[leg.debit.0] += payment.held(leg);
                let back = leg.refunded + leg.charged_back;
                if back > leg.captured || leg.captured > leg.amount || leg.refunded.min(leg.charged_back) < 0 {
                    return Err(format!("more has gone back than came: {payment:?}"));
                }
            }
        }
        for (ix, account) in self.world.accounts.iter().enumerate() {
            let Account { posted, version, shortfall, min_balance, max_balance, .. } = *account;
            same("what is held", &held[ix], &account.held)?;
            same("the sum and the number of the entries", &self.tallies[ix], &(posted, version))?;
            let is_above = min_balance.is_none_or(|limit| posted - account.held >= limit - shortfall);
            if !is_above || max_balance.is_some_and(|limit| posted > limit) || shortfall < 0 {
                return Err(format!("beyond its limits: {account:?}"));
            }
            if let Some(said) = self.said.get(&ix) {
                let Balance { account: of, .. } = *said;
                let expected = Balance { account: of, posted, held: account.held, version, shortfall };
                same("what was said last", &expected, said)?;
            }
        }
        same("movements that aren't zero", &None, &self.sums.iter().find(|(_, sum)| **sum != 0))
    }
}

fn arrived(outcome: &Outcome) -> Arrived {
    match outcome {
        Outcome::Duplicate => Arrived::Duplicate,
        Outcome::Conflict(_) => Arrived::Conflict,
        _ => Arrived::New,
    }
}

/// Whoever debits the same account, acts on the same payment or refers to a task that is deferred
/// comes after it.
fn nobody_overtakes(tasks: &[Task], outcomes: &[Outcome]) -> Result<(), String> {
    let debits = |task: &Task| task.body.account_pairs().map(|(debit, _)| debit.clone()).collect::<Vec<_>>();
    for (place, waits) in tasks.iter().enumerate().filter(|(place, _)| !outcomes[*place].is_decided()) {
        for (later, outcome) in
            tasks.iter().zip(outcomes).skip(place + 1).filter(|(_, later)| state_of(later).is_some())
        {
            let same_account = debits(waits).iter().any(|account| debits(later).contains(account));
            let payment = waits.body.payment_id();
            if same_account
                || later.id == waits.id
                || later.refers_to().any(|id| id == waits.id)
                || payment.is_some() && payment == later.body.payment_id()
            {
                return Err(format!("{later:?} ({outcome:?}) overtakes {waits:?}"));
            }
        }
    }
    Ok(())
}
