//! A ledger's tables in memory, for simulation: the other side of the seam to the database.
//!
//! A batch is decided by the same plan, ledger and rows as on PostgreSQL; what differs is that
//! `commit` is one step in which nothing else happens, as locks and a transaction see to it there.

mod agenda;
mod outbox;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use self::agenda::AgendaRow;
pub(crate) use self::outbox::OutboxRow;
use super::decided::Decided;
use super::plan::{Layout, Plan};
use super::read::Locked;
use super::write::Rows;
use super::{Answer, Committed, Parcel, Proof, StoredTask, Submission};
use crate::contract::{AccountName, Message, PaymentState, Rejection, Task, TaskBody};
use crate::ledger::{self, Account, AccountIx, AccountStatus, Known, Outcome, Payment, PaymentLeg, Pending, Rules};

/// A task that has had an outcome.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// What was asked for.
    pub(crate) task: Task,
    /// The payment that it is, with accounts by their ids.
    pub(crate) payment: Payment,
    /// Why it was declined.
    pub(crate) rejection: Option<Rejection>,
    /// How often it was written as new: more than once is once too often.
    pub(crate) written: u32,
    message: Message,
}

/// The tables.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    names: BTreeMap<AccountName, usize>,
    /// By id.
    pub(crate) accounts: Vec<Account>,
    pub(crate) stored: BTreeMap<Uuid, Stored>,
    /// Of each account by id: payment, amount, balance after it.
    pub(crate) entries: Vec<Vec<(Uuid, i64, i64)>>,
    /// By digest: the task's id, the reason.
    pub(crate) dead_letters: BTreeMap<[u8; 32], (Option<Uuid>, &'static str)>,
    pub(crate) outbox: BTreeMap<i64, OutboxRow>,
    /// Every event that was ever written to the outbox.
    pub(crate) told: BTreeSet<String>,
    agenda: BTreeMap<Uuid, AgendaRow>,
    next_row: i64,
    rules: Rules,
    incarnation: Uuid,
}

impl Memory {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            names: BTreeMap::new(),
            accounts: Vec::new(),
            stored: BTreeMap::new(),
            entries: Vec::new(),
            dead_letters: BTreeMap::new(),
            outbox: BTreeMap::new(),
            told: BTreeSet::new(),
            agenda: BTreeMap::new(),
            next_row: 1,
            rules,
            incarnation: Uuid::from_u128(1),
        }
    }

    /// Decides a batch and commits it.
    pub(crate) fn commit(
        &mut self,
        batch: &[Submission<'_>],
        expired: &[Uuid],
        pending: &impl Pending,
        lease: Duration,
        now: Timestamp,
    ) -> Committed {
        let mut plan = Plan::of(batch);
        plan.referred.extend_from_slice(expired);
        let ids: Vec<i64> = plan.names.iter().map(|name| self.intern(name)).collect();
        let others = self.accounts_of(&plan.referred);
        let layout = plan.layout(&ids, &others);
        let locked = Locked {
            accounts: layout.account_ids.iter().map(|id| self.accounts[place(*id)].clone()).collect(),
            known: self.known(&layout),
            payments: self.payments(&plan.referred, &layout),
            too_late: Vec::new(),
            woken: plan.referred.iter().filter_map(|id| Some((*id, self.agenda.get(id)?.woken))).collect(),
            now,
            someone_waits: self.agenda.values().any(|row| row.waits_for.is_some()),
            incarnation: self.incarnation,
        };
        let what = (batch, &plan, &layout);
        let decided = Decided::by(&self.rules, what, expired, locked, self.stored_tasks(expired), pending);
        let (answers, rows) = decided.rows();
        let has_outcome = answers.iter().any(|answer| !matches!(answer, Answer::SetAside { .. }));
        let woken = self.write(&decided, &rows, now);
        let parcel =
            rows.tells.then(|| decided.events("simulation", &rows.dead_letters)).filter(|events| events.count > 0);
        let parcel = parcel.map(|events| self.tell(events.body, events.count.unsigned_abs(), now, lease));
        Committed {
            proof: has_outcome.then(Proof::of_memory),
            answers,
            parcel,
            woken,
            expired: decided.expired.len(),
            shortfalls: decided.shortfalls(),
        }
    }

    /// Payments that hold money until a time.
    pub(crate) fn holds(&self) -> impl Iterator<Item = (&Payment, Timestamp)> {
        let payments = self.stored.values().map(|stored| &stored.payment).filter(|payment| payment.state.is_held());
        payments.filter_map(|payment| Some((payment, payment.expires_at?)))
    }

    /// What is posted and held, by name.
    pub(crate) fn balances(&self) -> BTreeMap<&str, (i64, i64)> {
        let of = |place: &usize| (self.accounts[*place].posted, self.accounts[*place].held);
        self.names.iter().map(|(name, place)| (name.as_str(), of(place))).collect()
    }

    fn intern(&mut self, name: &AccountName) -> i64 {
        let next = self.accounts.len();
        let found = *self.names.entry(name.clone()).or_insert(next);
        if found == next {
            self.accounts.push(Account {
                id: id(next),
                status: AccountStatus::Unopened,
                currency: None,
                min_balance: Some(0),
                posted: 0,
                held: 0,
                version: 0,
                max_balance: None,
                shortfall: 0,
            });
            self.entries.push(Vec::new());
        }
        id(found)
    }

    fn accounts_of(&self, payments: &[Uuid]) -> Vec<(i64, AccountName)> {
        let legs = payments.iter().filter_map(|id| self.stored.get(id)).flat_map(|stored| &stored.payment.legs);
        let ids: BTreeSet<usize> = legs.flat_map(|leg| [leg.debit.0, leg.credit.0]).collect();
        let name = |of: usize| self.names.iter().find(|(_, id)| **id == of).map(|(name, _)| name.clone());
        ids.into_iter().filter_map(|of| Some((id(of), name(of)?))).collect()
    }

    fn known(&self, layout: &Layout<'_>) -> HashMap<Uuid, Known> {
        let new = layout.items.iter().filter(|item| !item.resumes);
        let known = new.filter_map(|item| Some((item.task.id, &self.stored.get(&item.task.id)?.task)));
        known.map(|(id, task)| (id, Known { fingerprint: task.fingerprint, task: Some(task.clone()) })).collect()
    }

    fn payments(&self, referred: &[Uuid], layout: &Layout<'_>) -> HashMap<Uuid, Payment> {
        let rank = |account: AccountIx| layout.account_ids.binary_search(&id(account.0)).ok().map(AccountIx);
        let leg =
            |leg: &PaymentLeg| Some(PaymentLeg { debit: rank(leg.debit)?, credit: rank(leg.credit)?, ..leg.clone() });
        let found = referred.iter().filter_map(|id| self.stored.get(id));
        found
            .filter_map(|Stored { payment, .. }| {
                let legs = payment.legs.iter().map(leg).collect::<Option<_>>()?;
                Some((payment.id, Payment { legs, ..payment.clone() }))
            })
            .collect()
    }

    /// As whoever tells of an expiry needs them.
    fn stored_tasks(&self, expired: &[Uuid]) -> HashMap<Uuid, StoredTask> {
        let task = |id: &Uuid| {
            let Stored { task, payment, rejection, message, .. } = self.stored.get(id)?;
            let stored = StoredTask {
                task: task.clone(),
                state: payment.state,
                rejection: *rejection,
                publisher: message.properties.publisher.as_deref().map(str::to_owned),
                version: payment.version,
                moved: None,
                received_at: message.received_at,
                settled_at: message.received_at,
                entries: Vec::new(),
                payment: None,
            };
            Some((*id, stored))
        };
        expired.iter().filter_map(task).collect()
    }

    /// Makes the rows so; answers how many waiting tasks were woken.
    fn write(&mut self, decided: &Decided<'_, '_>, rows: &Rows<'_>, now: Timestamp) -> u64 {
        let ids = &decided.layout.account_ids;
        for account in &decided.accounts {
            self.accounts[place(account.id)] = account.clone();
        }
        for row in &rows.entries {
            let entries = &mut self.entries[place(row.account)];
            entries.push((row.payment, row.amount, row.balance_after));
            assert_eq!(entries.len() as i64, row.seq, "entry_pkey: the entries of an account have no gap");
        }
        for (item, (planned, outcome)) in
            decided.layout.items.iter().zip(decided.plan.tasks.iter().zip(&decided.decision.outcomes))
        {
            let message = decided.batch[planned.position].message;
            let Some(payment) = after(decided, item.task, item, outcome) else { continue };
            let payment = by_id(&payment, ids);
            let rejection = if let Outcome::Rejected(rejection) = outcome { Some(*rejection) } else { None };
            match self.stored.get_mut(&item.task.id) {
                Some(stored) if item.resumes => (stored.payment, stored.rejection) = (payment, rejection),
                Some(stored) => stored.written += 1,
                None => {
                    let (task, message) = (item.task.clone(), message.clone());
                    self.stored.insert(task.id, Stored { task, payment, rejection, written: 1, message });
                }
            }
        }
        for (id, payment) in &decided.payments {
            if let Some(stored) = self.stored.get_mut(id) {
                stored.payment = by_id(payment, ids);
            }
        }
        for row in &rows.dead_letters {
            self.dead_letters.insert(row.digest, (row.task_id, row.reason.name()));
        }
        self.write_agenda(&rows.life, now)
    }

    fn tell(&mut self, body: Vec<u8>, events: u32, now: Timestamp, lease: Duration) -> Parcel {
        self.told.extend(event_ids(&body));
        let id = self.next_row;
        self.next_row += 1;
        self.outbox.insert(
            id,
            OutboxRow {
                body: body.clone(),
                events,
                leased_until: now + lease,
                held_key: None,
                held_reason: None,
                created_at: now,
            },
        );
        Parcel { id, body, events, held_key: None, held_reason: None }
    }
}

/// Where the task of an item stands after the batch; `None` if it stands where it stood.
fn after(decided: &Decided<'_, '_>, task: &Task, item: &ledger::Item<'_>, outcome: &Outcome) -> Option<Payment> {
    let state = outcome.state()?;
    if decided.waits_as_before(item) {
        return None;
    }
    if let Some(payment) = decided.payments.get(&task.id) {
        return Some(payment.clone());
    }
    let acted = if let Outcome::Acted(acted) = outcome { acted.payment.as_ref() } else { None };
    if let Some(own) = acted.filter(|payment| payment.id == task.id) {
        return Some(own.clone());
    }
    let legs = match (&task.body, state) {
        (TaskBody::Transfer(transfer), PaymentState::Settled) => {
            let (debit, credit) = item.pairs[0];
            let (amount, currency) = (transfer.amount, transfer.currency);
            let leg = PaymentLeg { debit, credit, currency, amount, captured: amount, refunded: 0, charged_back: 0 };
            std::iter::once(leg).collect()
        }
        _ => std::iter::empty().collect(),
    };
    let deadline = match outcome {
        Outcome::Scheduled(at) | Outcome::Parked { deadline: at, .. } => Some(*at),
        _ => None,
    };
    let task_type = task.body.task_type();
    let version = decided.payments_before.get(&task.id).map_or(1, |before| before.version + 1);
    Some(Payment {
        id: task.id,
        task_type,
        state,
        version,
        expires_at: None,
        deadline,
        listed: false,
        legs,
        publisher: item.publisher.map(Into::into),
    })
}

/// With accounts by their ids instead of their places in a batch.
fn by_id(payment: &Payment, ids: &[i64]) -> Payment {
    let global = |account: AccountIx| AccountIx(place(ids[account.0]));
    let leg = |leg: &PaymentLeg| PaymentLeg { debit: global(leg.debit), credit: global(leg.credit), ..leg.clone() };
    Payment { legs: payment.legs.iter().map(leg).collect(), ..payment.clone() }
}

/// The ids of the events in an outbox row's lines.
pub(crate) fn event_ids(body: &[u8]) -> Vec<String> {
    #[derive(Deserialize)]
    struct Line {
        id: String,
    }
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice::<Line>(line).expect("an event").id).collect()
}

fn id(place: usize) -> i64 {
    i64::try_from(place).expect("few accounts") + 1
}

fn place(id: i64) -> usize {
    usize::try_from(id - 1).expect("an id")
}
