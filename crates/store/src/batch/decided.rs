//! Has the ledger decide a batch, and makes rows of the outcomes: pure.

use std::collections::HashMap;

use uuid::Uuid;

use super::super::queries::payment::StoredTask;
use super::lock::Locked;
use super::plan::{Layout, Plan};
use super::rows::{BalanceRow, DeadLetterRow, EntryRow, OpenedRow, Rows};
use settled_core::contract::{DeadLetter, DeadReason, Message, PaymentState, Task, TaskBody, When};
use settled_core::ledger;
use settled_core::ledger::{Account, Acted, Books, Decision, Outcome, Payment, Pending, Posting, Rules};
use settled_pipeline::store::{Answer, Submission};

/// A batch that the ledger has decided.
pub struct DecidedBatch<'b, 'a> {
    pub batch: &'b [Submission<'a>],
    /// The accounts and tasks of the batch.
    pub plan: &'b Plan<'a>,
    /// The same in the order of the locks.
    pub layout: &'b Layout<'a>,
    /// What it was decided on: accounts and payments as they were.
    pub(super) locked: Locked,
    /// One outcome per item; all transitions, those of expired holds first.
    pub decision: Decision,
    /// The holds that the clock has ended.
    pub expired: Vec<Acted>,
    /// The accounts as the batch leaves them.
    pub accounts: Vec<Account>,
    /// The payments that the batch refers to, as it leaves them.
    pub payments: HashMap<Uuid, Payment>,
    pub(super) stored: HashMap<Uuid, StoredTask>,
    /// Whether there is an event for each dead letter.
    pub(super) tells_dead_letters: bool,
    /// Whether events go to a stream.
    pub(super) has_stream: bool,
}

impl<'b, 'a> DecidedBatch<'b, 'a> {
    /// Has the ledger decide on what was `locked`: first it ends those holds of `expired` that have run out, then it
    /// applies the batch.
    pub fn by(
        rules: &Rules,
        (batch, plan, layout): (&'b [Submission<'a>], &'b Plan<'a>, &'b Layout<'a>),
        expired: &[Uuid],
        locked: Locked,
        stored: HashMap<Uuid, StoredTask>,
        pending: &impl Pending,
    ) -> Self {
        let (mut accounts, mut payments) = (locked.accounts.clone(), locked.payments.clone());
        let (names, known, now) = (&*layout.names, &locked.known, locked.now);
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
        let (tells_dead_letters, has_stream) = (false, false);
        Self {
            batch,
            plan,
            layout,
            locked,
            decision,
            expired,
            accounts,
            payments,
            stored,
            tells_dead_letters,
            has_stream,
        }
    }

    /// Returns an answer per submission, and the rows to write.
    pub fn rows(&self) -> (Vec<Answer>, Rows<'a>) {
        let mut rows = Rows::default();
        rows.payments.reserve(self.layout.items.len());
        rows.entries.reserve(self.layout.items.len() * 2);
        let mut answers = Vec::with_capacity(self.batch.len());
        let mut tasks = self.plan.tasks.iter().enumerate().peekable();
        for (position, submission) in self.batch.iter().enumerate() {
            let item = tasks.next_if(|(_, planned)| planned.position == position).map(|(ix, _)| ix);
            answers.push(match (item, submission.content) {
                (Some(ix), _) => self.task(ix, submission.message, &mut rows),
                (None, Err(letter)) => dead_letter(submission.message, letter.clone(), &mut rows),
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
        let answer = match &self.decision.outcomes[ix] {
            Outcome::Duplicate => {
                rows.tells |= message.properties.reply_to.is_some() && !item.resumes;
                // It waits no more, whatever the agenda says.
                rows.life.agenda_done.extend(item.resumes.then_some(item.task.id));
                return Answer::Duplicate;
            }
            Outcome::Conflict(field) => return dead_letter(message, conflict(item.task, field), rows),
            Outcome::Deferred { waits_on } => return Answer::Deferred { waits_on: waits_on.clone() },
            Outcome::Opened | Outcome::Settled { .. } | Outcome::Acted(_) => Answer::Settled,
            Outcome::Scheduled(_) | Outcome::Parked { .. } if self.keeps_waiting(ix) => Answer::StillWaiting,
            Outcome::Scheduled(_) => Answer::Waiting(PaymentState::Scheduled),
            Outcome::Parked { .. } => Answer::Waiting(PaymentState::Parked),
            Outcome::Rejected(rejection) => Answer::Rejected(*rejection),
        };
        self.write_outcome(ix, message, rows);
        answer
    }

    /// The rows of a task that has an outcome.
    fn write_outcome(&self, ix: usize, message: &'a Message, rows: &mut Rows<'a>) {
        let (item, outcome) = (&self.layout.items[ix], &self.decision.outcomes[ix]);
        let Some(step) = self.decision.steps[ix] else { return };
        let last = self.payments.get(&item.task.id).map_or(step.after, |own| own.stage);
        if has_plain_request(item.task) && !item.resumes && last.version() == 1 {
            rows.payments.push(self.task_row(item, message, outcome, last));
        } else {
            self.write_task(ix, message, &mut rows.life);
        }
        rows.entries.extend(postings(outcome).map(|posting| self.entry(posting, item.task)));
        if let (TaskBody::OpenAccount(open), Outcome::Opened) = (&item.task.body, outcome) {
            let account = self.accounts[item.pairs[0].0.0].id;
            rows.opened.push(OpenedRow { account, currency: open.currency, min_balance: open.min_balance });
        }
        rows.tells |= !step.keeps_waiting();
        // One that goes on waiting wakes nobody: two that wait for each other would never sleep.
        let has_moved = step.before != Some(last);
        rows.life.wakes.extend((has_moved && self.locked.someone_waits).then_some(item.task.id));
    }

    /// Returns the number of tasks that have taken an account below its limit, or further below it.
    pub fn shortfalls(&self) -> usize {
        let overdraws = |acted: &Acted| acted.movements.iter().any(|made| made.debit.after.shortfall > 0);
        self.decision.outcomes.iter().filter_map(Outcome::acted).filter(|acted| overdraws(acted)).count()
    }

    /// Whether a task that was waiting goes on waiting: nobody is told of that.
    pub(super) fn keeps_waiting(&self, ix: usize) -> bool {
        self.decision.steps[ix].is_some_and(|step| step.keeps_waiting())
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
        for (before, after) in self.locked.accounts.iter().zip(&self.accounts) {
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

/// Returns the postings of an outcome, of each movement the debit first.
pub(super) fn postings(outcome: &Outcome) -> impl Iterator<Item = &Posting> {
    let settled = if let Outcome::Settled { debit, credit } = outcome { Some([debit, credit]) } else { None };
    let acted = outcome.acted().into_iter().flat_map(|acted| &acted.movements);
    settled.into_iter().chain(acted.map(|made| [&made.debit, &made.credit])).flatten()
}

/// Whether the columns of a payment say all that the task asks for.
pub(super) fn has_plain_request(task: &Task) -> bool {
    task.when == When::default() && matches!(task.body, TaskBody::Transfer(_) | TaskBody::OpenAccount(_))
}

/// The dead letter of a task whose id has had its outcome with another `field`.
fn conflict(task: &Task, field: &str) -> DeadLetter {
    DeadLetter {
        reason: DeadReason::IdempotencyConflict,
        field: Some(field.to_owned()),
        detail: format!("`{field}` differs from the task that had the id {} first; nothing was applied", task.id),
        task_id: Some(task.id),
    }
}

/// Adds the row of a dead letter, or another delivery to the row that there is of it. Returns the answer.
fn dead_letter<'a>(message: &'a Message, letter: DeadLetter, rows: &mut Rows<'a>) -> Answer {
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
