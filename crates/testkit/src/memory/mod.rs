//! In-memory tables of a ledger, for simulation: a second implementation of the database's interface.
//!
//! A batch is decided by the same code as on PostgreSQL. The difference is that `commit` is one step in memory, in
//! place of the locks and the transaction.

mod agenda;
mod outbox;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use self::agenda::AgendaRow;
pub use self::outbox::OutboxRow;
use settled_core::contract::{AccountName, Message, Rejection, Task};
use settled_core::ledger::{Account, AccountIx, Known, Payment, PaymentLeg, Pending, Rules};
use settled_pipeline::store::{Answer, Committed, EventBatch, Proof, Submission};
use settled_store::decision::{DecidedBatch, Layout, Locked, Plan, Rows};
use settled_store::queries::payment::StoredTask;

/// A task that has an outcome.
#[derive(Clone, Debug)]
pub struct Stored {
    pub task: Task,
    /// The payment of the task, with account ids in place of account indexes.
    pub payment: Payment,
    /// Why the task was declined, if it was.
    pub rejection: Option<Rejection>,
    /// How often the payment was inserted. More than once is a bug.
    pub written: u32,
    message: Message,
}

/// The in-memory tables.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    names: BTreeMap<AccountName, usize>,
    /// Indexed by account id.
    pub accounts: Vec<Account>,
    pub stored: BTreeMap<Uuid, Stored>,
    /// Indexed by account id: payment, amount, balance after the entry.
    pub entries: Vec<Vec<(Uuid, i64, i64)>>,
    /// By digest of the message: task id and reason.
    pub dead_letters: BTreeMap<[u8; 32], (Option<Uuid>, &'static str)>,
    pub outbox: BTreeMap<i64, OutboxRow>,
    /// Ids of all events that were ever written to the outbox.
    pub told: BTreeSet<String>,
    agenda: BTreeMap<Uuid, AgendaRow>,
    next_row: i64,
    rules: Rules,
    incarnation: Uuid,
}

impl Memory {
    pub fn new(rules: Rules) -> Self {
        Self { rules, next_row: 1, incarnation: Uuid::from_u128(1), ..Self::default() }
    }

    /// Decides and commits a batch.
    pub fn commit(
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
        let decided = DecidedBatch::by(&self.rules, what, expired, locked, self.stored_tasks(expired), pending);
        let (answers, rows) = decided.rows();
        let has_outcome = answers.iter().any(|answer| !matches!(answer, Answer::Deferred { .. }));
        let woken = self.write(&decided, &rows, now);
        let event_batch = rows
            .tells
            .then(|| decided.events("simulation", &rows.dead_letters))
            .filter(|events| events.outbox.count > 0);
        let event_batch =
            event_batch.map(|events| self.tell(events.outbox.body, events.outbox.count.unsigned_abs(), now, lease));
        Committed {
            proof: has_outcome.then(proof),
            answers,
            event_batch,
            stream_batch: None,
            woken,
            expired: decided.expired.len(),
            shortfalls: decided.shortfalls(),
        }
    }

    /// Returns the payments with an active hold, and when it expires.
    pub fn holds(&self) -> impl Iterator<Item = (&Payment, Timestamp)> {
        let payments = self.stored.values().map(|stored| &stored.payment).filter(|payment| payment.state().is_held());
        payments.filter_map(|payment| Some((payment, payment.expires_at?)))
    }

    /// Returns the posted and the held amount of each account by name.
    pub fn balances(&self) -> BTreeMap<&str, (i64, i64)> {
        let of = |place: &usize| (self.accounts[*place].posted, self.accounts[*place].held);
        self.names.iter().map(|(name, place)| (name.as_str(), of(place))).collect()
    }

    fn intern(&mut self, name: &AccountName) -> i64 {
        let next = self.accounts.len();
        let found = *self.names.entry(name.clone()).or_insert(next);
        if found == next {
            self.accounts.push(Account::unopened(id(next)));
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

    /// Returns the stored tasks of expired holds, which the events of the expiry are made from.
    fn stored_tasks(&self, expired: &[Uuid]) -> HashMap<Uuid, StoredTask> {
        let task = |id: &Uuid| {
            let Stored { task, payment, rejection, message, .. } = self.stored.get(id)?;
            let stored = StoredTask {
                task: task.clone(),
                state: payment.state(),
                rejection: *rejection,
                publisher: message.properties.publisher.as_deref().map(str::to_owned),
                version: payment.version(),
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

    /// Writes the rows of a batch. Returns how many waiting tasks were woken.
    fn write(&mut self, decided: &DecidedBatch<'_, '_>, rows: &Rows<'_>, now: Timestamp) -> u64 {
        let ids = &decided.layout.account_ids;
        for account in &decided.accounts {
            self.accounts[place(account.id)] = account.clone();
        }
        for row in &rows.entries {
            let entries = &mut self.entries[place(row.account)];
            entries.push((row.payment, row.amount, row.balance_after));
            assert_eq!(entries.len() as i64, row.seq, "entry_pkey: the entries of an account have no gap");
        }
        for (ix, (item, planned)) in decided.layout.items.iter().zip(&decided.plan.tasks).enumerate() {
            let message = decided.batch[planned.position].message;
            let Some(payment) = decided.decision.payment(ix, item, &decided.payments) else { continue };
            let payment = by_id(&payment, ids);
            let rejection = decided.decision.outcomes[ix].rejection();
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

    fn tell(&mut self, body: Vec<u8>, events: u32, now: Timestamp, lease: Duration) -> EventBatch {
        self.told.extend(event_ids(&body));
        let row =
            OutboxRow { body, events, leased_until: now + lease, held_key: None, held_reason: None, created_at: now };
        self.add_row(row)
    }
}

/// Returns the payment with account ids in place of the indexes of a batch.
fn by_id(payment: &Payment, ids: &[i64]) -> Payment {
    let global = |account: AccountIx| AccountIx(place(ids[account.0]));
    let leg = |leg: &PaymentLeg| PaymentLeg { debit: global(leg.debit), credit: global(leg.credit), ..leg.clone() };
    Payment { legs: payment.legs.iter().map(leg).collect(), ..payment.clone() }
}

/// Returns the ids of the events in the body of an outbox row.
pub fn event_ids(body: &[u8]) -> Vec<String> {
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

#[expect(clippy::disallowed_methods, reason = "nothing outlives the tables in memory, and what they have they keep")]
const fn proof() -> Proof {
    Proof::without_evidence()
}
