//! The rows of a batch: made from the ledger's outcomes, and written by the statements.

use std::borrow::Cow;

use jiff::Timestamp;
use uuid::Uuid;

use settled_core::contract::{Currency, DeadReason, Message, Reply};
use settled_core::ledger::{AccountStatus, Transition};

pub struct EntryRow {
    pub account: i64,
    pub seq: i64,
    pub amount: i64,
    pub balance_after: i64,
    pub payment: Uuid,
}

pub struct OpenedRow {
    pub account: i64,
    pub currency: Currency,
    pub min_balance: Option<i64>,
}

pub struct BalanceRow {
    pub account: i64,
    pub posted: i64,
    pub version: i64,
    pub version_before: i64,
}

pub struct DeadLetterRow<'a> {
    pub digest: [u8; 32],
    pub task_id: Option<Uuid>,
    pub reason: DeadReason,
    pub field: Option<String>,
    pub detail: String,
    pub body: &'a [u8],
    pub properties: String,
    /// The deliveries of this dead letter in the batch. Each counts as an attempt.
    pub messages: Vec<&'a Message>,
    pub seen: Timestamp,
}

impl<'a> DeadLetterRow<'a> {
    /// Returns the deliveries that ask for a reply and may get one.
    pub fn asked(&self) -> impl Iterator<Item = (&'a Message, Reply<'a>)> {
        self.messages.iter().filter(|message| message.is_answerable).filter_map(|message| {
            let properties = &message.properties;
            let reply_to = properties.reply_to.as_deref()?;
            Some((*message, Reply { reply_to, correlation_id: properties.correlation_id.as_deref() }))
        })
    }
}

#[derive(Default)]
pub struct Rows<'a> {
    /// New tasks that need only the columns of a plain transfer or account opening.
    pub payments: Vec<TaskRow<'a>>,
    pub entries: Vec<EntryRow>,
    pub opened: Vec<OpenedRow>,
    pub balances: Vec<BalanceRow>,
    pub dead_letters: Vec<DeadLetterRow<'a>>,
    pub life: Life<'a>,
    /// Whether the batch has events.
    pub tells: bool,
}

impl Rows<'_> {
    pub const fn is_empty(&self) -> bool {
        self.payments.is_empty() && self.dead_letters.is_empty() && self.life.is_empty() && !self.tells
    }

    /// Returns true if at least one row is certainly written. Updates of waiting tasks may match none.
    pub const fn surely_write(&self) -> bool {
        !(self.payments.is_empty() && self.dead_letters.is_empty() && self.life.tasks.is_empty())
    }
}

pub struct TaskRow<'a> {
    pub id: Uuid,
    pub version: i32,
    pub task_type: &'static str,
    pub state: &'static str,
    pub reason: Option<&'static str>,
    pub parent: Option<Uuid>,
    pub movement: MovementColumns,
    pub progress: Option<Progress>,
    pub legs: Option<i16>,
    pub min_balance: Option<i64>,
    pub expires_at: Option<Timestamp>,
    pub received_at: Timestamp,
    pub fingerprint: [u8; 16],
    pub publisher: Option<&'a str>,
    pub reference: Option<&'a str>,
    pub metadata: Option<&'a str>,
    pub request: Option<Cow<'a, str>>,
}

/// The movement columns of a task or leg. `amount` is in minor units.
#[derive(Clone, Copy, Default)]
pub struct MovementColumns {
    pub debit: Option<i64>,
    pub credit: Option<i64>,
    pub amount: Option<i64>,
    pub currency: Option<Currency>,
    pub debit_seq: Option<i64>,
    pub credit_seq: Option<i64>,
}

impl MovementColumns {
    pub(super) fn code(&self) -> Option<&str> {
        self.currency.as_ref().map(Currency::as_str)
    }
}

/// How much of an amount was captured, refunded and charged back, in minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub captured: i64,
    pub refunded: i64,
    pub charged_back: i64,
}

/// A change of a stored task. A column that is `None` keeps its value.
#[derive(Default)]
pub struct UpdateRow {
    pub id: Uuid,
    pub version: i32,
    pub version_before: i32,
    pub state: &'static str,
    pub reason: Option<&'static str>,
    pub movement: MovementColumns,
    pub progress: Option<Progress>,
    pub legs: Option<i16>,
    pub expires_at: Option<Timestamp>,
    pub decided_at: Option<Timestamp>,
}

/// A leg of a payment, or the movement of a follow-up on that leg.
pub struct LegRow {
    pub payment: Uuid,
    pub leg: i16,
    pub movement: MovementColumns,
    pub progress: Option<Progress>,
}

/// A change of a stored leg.
pub struct LegUpdateRow {
    pub payment: Uuid,
    pub leg: i16,
    pub progress: Progress,
}

/// A hold. If it is changed, `amount` is what is held afterwards.
#[derive(Clone, Copy)]
pub struct HoldRow {
    pub payment: Uuid,
    pub leg: i16,
    pub account: i64,
    pub amount: i64,
    pub expires_at: Timestamp,
}

/// A change of an account that is more than a new balance. What is held is changed by the holds' triggers.
pub struct TermsRow {
    pub account: i64,
    pub posted: i64,
    pub version: i64,
    pub version_before: i64,
    pub status: AccountStatus,
    pub min_balance: Option<i64>,
    pub max_balance: Option<i64>,
    pub shortfall: i64,
}

/// A scheduled or parked task.
pub struct AgendaRow {
    pub task: Uuid,
    pub deadline: Timestamp,
    /// The task it waits for; `None` if it is scheduled for `deadline`.
    pub waits_for: Option<Uuid>,
    /// How often the task had been woken when it was read.
    pub woken: i32,
    pub properties: String,
}

/// The rows that a batch of plain transfers does not have.
#[derive(Default)]
pub struct Life<'a> {
    pub tasks: Vec<TaskRow<'a>>,
    pub updates: Vec<UpdateRow>,
    pub legs: Vec<LegRow>,
    pub leg_updates: Vec<LegUpdateRow>,
    pub transitions: Vec<Transition>,
    pub holds_ended: Vec<HoldRow>,
    pub holds_changed: Vec<HoldRow>,
    pub holds: Vec<HoldRow>,
    pub terms: Vec<TermsRow>,
    /// Account id and the amount that must be held on it at the end of the transaction.
    pub held: Vec<(i64, i64)>,
    pub agenda: Vec<AgendaRow>,
    /// Tasks that were tried again and still wait.
    pub agenda_again: Vec<AgendaRow>,
    pub agenda_done: Vec<Uuid>,
    /// Tasks that have changed their state: the tasks that wait for them become due.
    pub wakes: Vec<Uuid>,
}

impl Life<'_> {
    pub const fn is_empty(&self) -> bool {
        self.tasks.is_empty()
            && self.updates.is_empty()
            && self.legs.is_empty()
            && self.leg_updates.is_empty()
            && self.transitions.is_empty()
            && self.holds_ended.is_empty()
            && self.holds_changed.is_empty()
            && self.holds.is_empty()
            && self.terms.is_empty()
            && self.agenda.is_empty()
            && self.agenda_again.is_empty()
            && self.agenda_done.is_empty()
            && self.wakes.is_empty()
    }

    /// Sorts rows that two batches may both change without sharing an account by their keys, so that the batches cannot
    /// deadlock.
    pub fn sort(&mut self) {
        self.updates.sort_unstable_by_key(|row| row.id);
        self.agenda.sort_unstable_by_key(|row| row.task);
        self.agenda_again.sort_unstable_by_key(|row| row.task);
        self.agenda_done.sort_unstable();
        self.wakes.sort_unstable();
        self.wakes.dedup();
    }
}
