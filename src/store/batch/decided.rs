//! From the ledger's outcomes to rows: pure.

use std::collections::HashMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::super::queries::payment::StoredTask;
use super::plan::{Layout, Plan};
use super::read::Locked;
use super::write::{BalanceRow, DeadLetterRow, EntryRow, OpenedRow, PaymentRow, Rows};
use super::{Answer, Submission};
use crate::contract::{DeadLetter, DeadReason, Message, PaymentState, Rejection, Task, TaskBody, When};
use crate::ledger::{self, Account, Acted, Books, Decision, Item, Outcome, Payment, Pending, Posting, Rules};
use crate::sabotage::{self, Defect};

/// A batch that the ledger has decided.
pub(super) struct Decided<'b, 'a> {
    pub(super) batch: &'b [Submission<'a>],
    pub(super) plan: &'b Plan<'a>,
    pub(super) layout: &'b Layout<'a>,
    pub(super) now: Timestamp,
    /// One outcome per item; all transitions, those of expired holds first.
    pub(super) decision: Decision,
    /// The holds that the clock has ended.
    pub(super) expired: Vec<Acted>,
    pub(super) accounts: Vec<Account>,
    /// The accounts as they were locked.
    pub(super) accounts_before: Vec<Account>,
    pub(super) payments: HashMap<Uuid, Payment>,
    /// The payments that the batch refers to, as they were.
    pub(super) payments_before: HashMap<Uuid, Payment>,
    /// Those of them that came too late to be acted on.
    pub(super) too_late: Vec<Uuid>,
    /// How often those of them that wait had been woken.
    pub(super) woken: HashMap<Uuid, i32>,
    /// Whether any task waits for another one.
    pub(super) someone_waits: bool,
    pub(super) stored: HashMap<Uuid, StoredTask>,
    /// Whether there is an event for each dead letter.
    pub(super) tells_dead_letters: bool,
    /// The ledger's incarnation.
    pub(super) incarnation: Uuid,
}

impl<'b, 'a> Decided<'b, 'a> {
    /// Has the ledger decide by `rules`, on what was `locked`: what the clock has ended of `expired`
    /// first, then the batch.
    pub(super) fn by(
        rules: &Rules,
        (batch, plan, layout): (&'b [Submission<'a>], &'b Plan<'a>, &'b Layout<'a>),
        expired: &[Uuid],
        locked: Locked,
        stored: HashMap<Uuid, StoredTask>,
        pending: &impl Pending,
    ) -> Self {
        let Locked { accounts: accounts_before, known, payments: payments_before, .. } = locked;
        let Locked { too_late, woken, now, someone_waits, incarnation, .. } = locked;
        let (mut accounts, mut payments) = (accounts_before.clone(), payments_before.clone());
        let (names, known) = (&*layout.names, &known);
        let (expired, mut transitions) = if expired.is_empty() {
            (Vec::new(), Vec::new())
        } else {
            let (accounts, payments) = (&mut *accounts, &mut payments);
            ledger::expire(expired, Books { accounts, names, payments, known, now, rules })
        };
        let books = Books { accounts: &mut accounts, names, payments: &mut payments, known, now, rules };
        let mut decision = ledger::apply(&layout.items, books, pending);
        transitions.append(&mut decision.transitions);
        decision.transitions = transitions;
        Self {
            batch,
            plan,
            layout,
            now,
            decision,
            expired,
            accounts,
            accounts_before,
            payments,
            payments_before,
            too_late,
            woken,
            someone_waits,
            stored,
            tells_dead_letters: false,
            incarnation,
        }
    }

    /// An answer per submission, and the rows that make it true.
    pub(super) fn rows(&self) -> (Vec<Answer>, Rows<'a>) {
        let mut rows = Rows::default();
        rows.payments.reserve(self.layout.items.len());
        rows.entries.reserve(self.layout.items.len() * 2);
        let mut answers = Vec::with_capacity(self.batch.len());
        let mut tasks = self.plan.tasks.iter().enumerate().peekable();
        for (position, submission) in self.batch.iter().enumerate() {
            let item = tasks.next_if(|(_, planned)| planned.position == position).map(|(ix, _)| ix);
            answers.push(match (item, submission.content) {
                (Some(ix), _) => self.task(ix, submission.message, &mut rows),
                (None, Err(letter)) => bury(submission.message, letter.clone(), &mut rows),
                (None, Ok(task)) if sabotage::strikes(Defect::LostMessage, submission.arrival, task) => Answer::Settled,
                (None, Ok(_)) => unreachable!("each task is an item"),
            });
        }
        self.others(&mut rows.life);
        self.balances(&mut rows);
        rows.tells |= !self.expired.is_empty();
        rows.tells |= rows.dead_letters.iter().any(|row| self.tells_dead_letters || row.asked().next().is_some());
        rows.life.sort();
        (answers, rows)
    }

    fn task(&self, ix: usize, message: &'a Message, rows: &mut Rows<'a>) -> Answer {
        let item = &self.layout.items[ix];
        let outcome = &self.decision.outcomes[ix];
        let answer = match outcome {
            Outcome::Duplicate => {
                rows.tells |= message.properties.reply_to.is_some() && !item.resumes;
                // It waits no more, whatever the agenda says.
                rows.life.agenda_done.extend(item.resumes.then_some(item.task.id));
                return Answer::Duplicate;
            }
            Outcome::Conflict(field) => return bury(message, conflict(item.task, field), rows),
            Outcome::SetAside { waits_on } => return Answer::SetAside { waits_on: waits_on.clone() },
            Outcome::Opened | Outcome::Settled { .. } | Outcome::Acted(_) => Answer::Settled,
            Outcome::Scheduled(_) | Outcome::Parked { .. } if self.waits_as_before(item) => Answer::StillWaiting,
            Outcome::Scheduled(_) => Answer::Waiting(PaymentState::Scheduled),
            Outcome::Parked { .. } => Answer::Waiting(PaymentState::Parked),
            Outcome::Rejected(rejection) => Answer::Rejected(*rejection),
        };
        if self.is_plain(item) {
            self.write_payment(item, message, outcome, rows);
        } else {
            self.write_task(item, message, outcome, &mut rows.life);
        }
        self.write_entries(item, outcome, rows);
        if let (TaskBody::OpenAccount(open), Outcome::Opened) = (&item.task.body, outcome) {
            let account = self.accounts[item.pairs[0].0.0].id;
            rows.opened.push(OpenedRow { account, currency: open.currency, min_balance: open.min_balance });
        }
        if !self.waits_as_before(item) {
            rows.tells = true;
            // One that goes on waiting wakes nobody: two that wait for each other would never sleep.
            rows.life.wakes.extend(self.someone_waits.then_some(item.task.id));
        }
        answer
    }

    /// How many tasks have taken an account (further) below its limit.
    pub(super) fn shortfalls(&self) -> usize {
        let overdraws = |outcome: &&Outcome| match outcome {
            Outcome::Acted(acted) => acted.movements.iter().any(|made| made.debit.after.shortfall > 0),
            _ => false,
        };
        self.decision.outcomes.iter().filter(overdraws).count()
    }

    /// Whether the row is one of the few columns that most tasks need.
    fn is_plain(&self, item: &Item<'_>) -> bool {
        has_plain_request(item.task)
            && !item.resumes
            && self.payments.get(&item.task.id).is_none_or(|payment| payment.version == 1)
    }

    /// A task that goes on waiting as it did: nothing that anybody needs to be told.
    pub(super) fn waits_as_before(&self, item: &Item<'_>) -> bool {
        let state = |payments: &HashMap<Uuid, Payment>| payments.get(&item.task.id).map(|own| own.state);
        let before = state(&self.payments_before).filter(|state| state.is_pending());
        item.resumes && before.is_some() && before == state(&self.payments)
    }

    fn write_payment(&self, item: &Item<'a>, message: &'a Message, outcome: &Outcome, rows: &mut Rows<'a>) {
        let task = item.task;
        let (debit, credit) = item.pairs[0];
        let (credit, amount, currency, min_balance) = match &task.body {
            TaskBody::Transfer(transfer) => {
                (Some(self.accounts[credit.0].id), Some(transfer.amount), transfer.currency, None)
            }
            TaskBody::OpenAccount(open) => (None, None, open.currency, open.min_balance),
            _ => unreachable!("only these are plain"),
        };
        let postings = if let Outcome::Settled { debit, credit } = outcome { Some((debit, credit)) } else { None };
        let rejection = if let Outcome::Rejected(rejection) = outcome { Some(*rejection) } else { None };
        rows.payments.push(PaymentRow {
            id: task.id,
            debit: self.accounts[debit.0].id,
            credit,
            amount,
            min_balance,
            debit_seq: postings.map(|(debit, _)| debit.after.version),
            credit_seq: postings.map(|(_, credit)| credit.after.version),
            received_at: message.received_at,
            task_type: task.body.task_type().name(),
            state: if rejection.is_some() { "rejected" } else { "settled" },
            currency,
            fingerprint: *task.fingerprint.as_bytes(),
            reason: rejection.map(Rejection::name),
            publisher: message.properties.publisher.as_deref(),
            reference: task.body.reference(),
            metadata: task.body.metadata(),
        });
    }

    fn write_entries(&self, item: &Item<'_>, outcome: &Outcome, rows: &mut Rows<'a>) {
        let mut write = |posting: &Posting| rows.entries.push(self.entry(posting, item.task));
        match outcome {
            Outcome::Settled { debit, credit } => {
                for posting in [debit, credit] {
                    write(posting);
                    if sabotage::strikes(Defect::DoubledEntry, item.arrival, item.task) {
                        write(&sabotage::once_more(posting));
                    }
                }
            }
            Outcome::Acted(acted) => {
                acted.movements.iter().flat_map(|made| [&made.debit, &made.credit]).for_each(write);
            }
            _ => {}
        }
    }

    fn entry(&self, posting: &Posting, task: &Task) -> EntryRow {
        EntryRow {
            account: self.accounts[posting.after.account.0].id,
            seq: posting.after.version,
            amount: posting.amount,
            balance_after: posting.after.posted,
            payment: task.id,
        }
    }

    fn balances(&self, rows: &mut Rows<'a>) {
        for (before, after) in self.accounts_before.iter().zip(&self.accounts) {
            if let Some(terms) = Self::terms(before, after, &rows.opened) {
                rows.life.terms.push(terms);
            } else if before.version != after.version {
                rows.balances.push(BalanceRow {
                    account: after.id,
                    posted: after.posted,
                    version: after.version,
                    version_before: before.version,
                });
            }
            if before.held != after.held {
                rows.life.held.push((after.id, after.held));
            }
        }
    }
}

/// Whether its columns say all that the task asks for.
pub(super) fn has_plain_request(task: &Task) -> bool {
    task.when == When::default() && matches!(task.body, TaskBody::Transfer(_) | TaskBody::OpenAccount(_))
}

fn conflict(task: &Task, field: &str) -> DeadLetter {
    DeadLetter {
        reason: DeadReason::IdempotencyConflict,
        field: Some(field.to_owned()),
        detail: format!("`{field}` differs from the task that had the id {} first; nothing was applied", task.id),
        task_id: Some(task.id),
    }
}

fn bury<'a>(message: &'a Message, letter: DeadLetter, rows: &mut Rows<'a>) -> Answer {
    let digest = letter.digest(&message.body, &message.properties);
    let reason = letter.reason;
    // PostgreSQL updates a row once per statement.
    match rows.dead_letters.iter_mut().find(|row| row.digest == digest) {
        Some(row) => row.messages.push(message),
        None => rows.dead_letters.push(DeadLetterRow {
            digest,
            task_id: letter.task_id,
            reason,
            field: letter.field,
            detail: letter.detail,
            body: &message.body[..message.body.len().min(DeadLetter::KEPT_BYTES)],
            // Plain strings and a number.
            properties: serde_json::to_string(&message.properties).unwrap_or_else(|_| "{}".into()),
            messages: vec![message],
            seen: message.received_at,
        }),
    }
    Answer::DeadLettered(reason)
}
