//! The rows of all that is more than a plain transfer.

use std::borrow::Cow;

use jiff::Timestamp;
use uuid::Uuid;

use crate::contract::Currency;
use crate::ledger::{AccountStatus, Transition};

/// A task with all its columns.
pub(in super::super) struct TaskRow<'a> {
    pub(in super::super) id: Uuid,
    pub(in super::super) version: i32,
    pub(in super::super) task_type: &'static str,
    pub(in super::super) state: &'static str,
    pub(in super::super) reason: Option<&'static str>,
    pub(in super::super) parent: Option<Uuid>,
    pub(in super::super) movement: MovementColumns,
    pub(in super::super) progress: Option<Progress>,
    pub(in super::super) legs: Option<i16>,
    pub(in super::super) min_balance: Option<i64>,
    pub(in super::super) expires_at: Option<Timestamp>,
    pub(in super::super) received_at: Timestamp,
    pub(in super::super) fingerprint: [u8; 16],
    pub(in super::super) publisher: Option<&'a str>,
    pub(in super::super) reference: Option<&'a str>,
    pub(in super::super) metadata: Option<&'a str>,
    pub(in super::super) request: Option<Cow<'a, str>>,
}

/// From where to where, and how much; in minor units.
#[derive(Clone, Copy, Default)]
pub(in super::super) struct MovementColumns {
    pub(in super::super) debit: Option<i64>,
    pub(in super::super) credit: Option<i64>,
    pub(in super::super) amount: Option<i64>,
    pub(in super::super) currency: Option<Currency>,
    pub(in super::super) debit_seq: Option<i64>,
    pub(in super::super) credit_seq: Option<i64>,
}

/// What has become of an amount, in minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Progress {
    pub(in super::super) captured: i64,
    pub(in super::super) refunded: i64,
    pub(in super::super) charged_back: i64,
}

/// A task that is stored already, and what it has come to. What is `None` stays.
pub(in super::super) struct UpdateRow {
    pub(in super::super) id: Uuid,
    pub(in super::super) version: i32,
    pub(in super::super) version_before: i32,
    pub(in super::super) state: &'static str,
    pub(in super::super) reason: Option<&'static str>,
    pub(in super::super) movement: MovementColumns,
    pub(in super::super) progress: Option<Progress>,
    pub(in super::super) legs: Option<i16>,
    pub(in super::super) expires_at: Option<Timestamp>,
    pub(in super::super) decided_at: Option<Timestamp>,
}

/// A leg of a payment, or what a follow-up did with it.
pub(in super::super) struct LegRow {
    pub(in super::super) payment: Uuid,
    pub(in super::super) leg: i16,
    pub(in super::super) movement: MovementColumns,
    pub(in super::super) progress: Option<Progress>,
}

/// What has become of a leg.
pub(in super::super) struct LegUpdateRow {
    pub(in super::super) payment: Uuid,
    pub(in super::super) leg: i16,
    pub(in super::super) progress: Progress,
}

/// A hold; of one that is changed, what is held from now on.
#[derive(Clone, Copy)]
pub(in super::super) struct HoldRow {
    pub(in super::super) payment: Uuid,
    pub(in super::super) leg: i16,
    pub(in super::super) account: i64,
    pub(in super::super) amount: i64,
    pub(in super::super) expires_at: Timestamp,
}

/// All that the ledger may change about an account but what is held.
pub(in super::super) struct TermsRow {
    pub(in super::super) account: i64,
    pub(in super::super) posted: i64,
    pub(in super::super) version: i64,
    pub(in super::super) version_before: i64,
    pub(in super::super) status: AccountStatus,
    pub(in super::super) min_balance: Option<i64>,
    pub(in super::super) max_balance: Option<i64>,
    pub(in super::super) shortfall: i64,
}

/// A task that waits.
pub(in super::super) struct AgendaRow {
    pub(in super::super) task: Uuid,
    pub(in super::super) deadline: Timestamp,
    /// `None` waits for the deadline, which is its time.
    pub(in super::super) waits_for: Option<Uuid>,
    /// How often it had been woken when it was looked at.
    pub(in super::super) woken: i32,
    pub(in super::super) properties: String,
}

/// All that a batch writes beside plain transfers.
#[derive(Default)]
pub(in super::super) struct Life<'a> {
    pub(in super::super) tasks: Vec<TaskRow<'a>>,
    pub(in super::super) updates: Vec<UpdateRow>,
    pub(in super::super) legs: Vec<LegRow>,
    pub(in super::super) leg_updates: Vec<LegUpdateRow>,
    pub(in super::super) transitions: Vec<Transition>,
    pub(in super::super) holds_ended: Vec<HoldRow>,
    pub(in super::super) holds_changed: Vec<HoldRow>,
    pub(in super::super) holds: Vec<HoldRow>,
    pub(in super::super) terms: Vec<TermsRow>,
    /// Accounts, and what has to be held of each in the end.
    pub(in super::super) held: Vec<(i64, i64)>,
    pub(in super::super) agenda: Vec<AgendaRow>,
    /// Tasks that go on waiting.
    pub(in super::super) agenda_again: Vec<AgendaRow>,
    pub(in super::super) agenda_done: Vec<Uuid>,
    /// Tasks that have moved: whoever waits for one is looked at again.
    pub(in super::super) wakes: Vec<Uuid>,
}

impl Life<'_> {
    pub(in super::super) const fn is_empty(&self) -> bool {
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
}
