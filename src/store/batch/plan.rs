//! From submissions to the ledger's items, and from its outcomes to rows: pure.

use std::collections::HashMap;

use uuid::Uuid;

use super::super::queries::payment::StoredTask;
use super::write::{BalanceRow, DeadLetterRow, EntryRow, OpenedRow, PaymentRow, Rows};
use super::{Answer, Submission};
use crate::contract::{AccountName, DeadLetter, DeadReason, Message, Rejection, Task, TaskBody};
use crate::ledger::{Account, AccountIx, Arrival, Item, Outcome, Posting};
use crate::sabotage::{self, Defect};

/// The accounts of a batch, each once.
pub(super) struct Plan<'a> {
    pub(super) names: Vec<&'a AccountName>,
    pub(super) tasks: Vec<Planned<'a>>,
}

/// A submission that has a task.
pub(super) struct Planned<'a> {
    /// Its position in the batch.
    pub(super) position: usize,
    arrival: Arrival,
    pub(super) task: &'a Task,
    /// The place of its ordering account in the plan's `names`.
    ordering: usize,
    /// The place of its credited account in the plan's `names`.
    credited: usize,
}

impl<'a> Plan<'a> {
    pub(super) fn of(batch: &[Submission<'a>]) -> Self {
        let mut places: HashMap<&AccountName, usize> = HashMap::with_capacity(batch.len() * 2);
        let mut names: Vec<&AccountName> = Vec::with_capacity(batch.len() * 2);
        let mut place = |name: &'a AccountName| {
            *places.entry(name).or_insert_with(|| {
                names.push(name);
                names.len() - 1
            })
        };
        let tasks = batch
            .iter()
            .enumerate()
            .filter_map(|(position, submission)| {
                let (arrival, task) = (submission.arrival, submission.content.ok()?);
                if sabotage::strikes(Defect::LostMessage, arrival, task) {
                    return None;
                }
                let ordering = place(task.body.ordering_account());
                Some(Planned { position, arrival, task, ordering, credited: place(task.body.credited_account()) })
            })
            .collect();
        Self { names, tasks }
    }

    /// The account ids, sorted, and the ledger's items; `ids` belong to `names`.
    pub(super) fn items(&self, ids: &[i64]) -> (Vec<i64>, Vec<Item<'a>>) {
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_unstable_by_key(|place| ids[*place]);
        let mut ranks = vec![AccountIx(0); ids.len()];
        for (rank, place) in order.iter().enumerate() {
            ranks[*place] = AccountIx(rank);
        }
        let items = self.tasks.iter().map(|planned| Item {
            task: planned.task,
            arrival: planned.arrival,
            ordering: ranks[planned.ordering],
            credited: ranks[planned.credited],
        });
        (order.iter().map(|place| ids[*place]).collect(), items.collect())
    }
}

/// A batch that the ledger has decided.
pub(super) struct Decided<'b, 'a> {
    pub(super) batch: &'b [Submission<'a>],
    pub(super) plan: &'b Plan<'a>,
    pub(super) items: &'b [Item<'a>],
    /// One per item.
    pub(super) outcomes: Vec<Outcome>,
    pub(super) accounts: Vec<Account>,
    /// The accounts as they were locked.
    pub(super) before: Vec<Account>,
    pub(super) stored: HashMap<Uuid, StoredTask>,
}

impl<'a> Decided<'_, 'a> {
    /// An answer per submission, and the rows that make it true.
    pub(super) fn rows(&self) -> (Vec<Answer>, Rows<'a>) {
        let mut rows = Rows::default();
        rows.payments.reserve(self.items.len());
        rows.entries.reserve(self.items.len() * 2);
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
        self.balances(&mut rows);
        (answers, rows)
    }

    fn task(&self, ix: usize, message: &'a Message, rows: &mut Rows<'a>) -> Answer {
        let item = &self.items[ix];
        let (rejection, postings) = match &self.outcomes[ix] {
            Outcome::Opened => (None, None),
            Outcome::Settled { debit, credit } => (None, Some((debit, credit))),
            Outcome::Rejected(rejection) => (Some(*rejection), None),
            Outcome::Duplicate => {
                rows.tells |= message.properties.reply_to.is_some();
                return Answer::Duplicate;
            }
            Outcome::Conflict(field) => return bury(message, conflict(item.task, field), rows),
            Outcome::SetAside { waits_on } => return Answer::SetAside { waits_on: waits_on.clone() },
        };
        self.write_payment(item, message, rejection, postings, rows);
        rows.tells = true;
        rejection.map_or(Answer::Settled, Answer::Rejected)
    }

    fn write_payment(
        &self,
        item: &Item<'a>,
        message: &'a Message,
        rejection: Option<Rejection>,
        postings: Option<(&Posting, &Posting)>,
        rows: &mut Rows<'a>,
    ) {
        let task = item.task;
        let (credit, amount, min_balance, reference, metadata) = match &task.body {
            TaskBody::OpenAccount(open) => (None, None, open.min_balance, None, None),
            TaskBody::Transfer(transfer) => {
                let credit = self.accounts[item.credited.0].id;
                (Some(credit), Some(transfer.amount), None, transfer.reference.as_deref(), transfer.metadata.as_deref())
            }
        };
        rows.payments.push(PaymentRow {
            id: task.id,
            debit: self.accounts[item.ordering.0].id,
            credit,
            amount,
            min_balance,
            debit_seq: postings.map(|(debit, _)| debit.seq),
            credit_seq: postings.map(|(_, credit)| credit.seq),
            received_at: message.received_at,
            task_type: task.body.task_type().name(),
            state: if rejection.is_some() { "rejected" } else { "settled" },
            currency: task.body.currency(),
            fingerprint: *task.fingerprint.as_bytes(),
            reason: rejection.map(Rejection::name),
            publisher: message.properties.publisher.as_deref(),
            reference,
            metadata,
        });
        for posting in postings.into_iter().flat_map(|(debit, credit)| [debit, credit]) {
            rows.entries.push(self.entry(posting, task));
            if sabotage::strikes(Defect::DoubledEntry, item.arrival, task) {
                rows.entries.push(self.entry(&sabotage::once_more(posting), task));
            }
        }
        if let (TaskBody::OpenAccount(open), None) = (&task.body, rejection) {
            let account = self.accounts[item.ordering.0].id;
            rows.opened.push(OpenedRow { account, currency: open.currency, min_balance: open.min_balance });
        }
    }

    fn entry(&self, posting: &Posting, task: &Task) -> EntryRow {
        EntryRow {
            account: self.accounts[posting.account.0].id,
            seq: posting.seq,
            amount: posting.amount,
            balance_after: posting.balance_after,
            payment: task.id,
        }
    }

    fn balances(&self, rows: &mut Rows<'a>) {
        let changed = self.before.iter().zip(&self.accounts).filter(|(before, after)| before.version != after.version);
        rows.balances.extend(changed.map(|(before, after)| BalanceRow {
            account: after.id,
            posted: after.posted,
            version: after.version,
            version_before: before.version,
        }));
    }
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
        Some(row) => row.attempts += 1,
        None => rows.dead_letters.push(DeadLetterRow {
            digest,
            task_id: letter.task_id,
            reason: reason.name(),
            field: letter.field,
            detail: letter.detail,
            body: &message.body[..message.body.len().min(DeadLetter::KEPT_BYTES)],
            // Plain strings and a number.
            properties: serde_json::to_string(&message.properties).unwrap_or_else(|_| "{}".into()),
            attempts: 1,
            seen: message.received_at,
        }),
    }
    Answer::DeadLettered(reason)
}
