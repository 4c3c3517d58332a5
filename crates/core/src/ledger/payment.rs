//! Payments as the ledger knows them.
//!
//! Invariant: a payment changes its state only by [`Payment::happen`], which asks the table.

use compact_str::CompactString;
use jiff::Timestamp;
use smallvec::SmallVec;
use uuid::Uuid;

use super::account::AccountIx;
use super::state::{Stage, Trigger};
use crate::contract::{Currency, PaymentState, Rejection, TaskType};

/// The payment that a task is; of a task about an account or a follow-up, its state alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The id of the task that the payment is.
    pub id: Uuid,
    /// The type of that task.
    pub task_type: TaskType,
    /// Its place in the state machine: state and version.
    pub stage: Stage,
    /// While money is held: when the hold runs out.
    pub expires_at: Option<Timestamp>,
    /// While the task waits: when it stops waiting.
    pub deadline: Option<Timestamp>,
    /// Whether the task has `legs`, and not the fields of one movement.
    pub listed: bool,
    /// The movements of a `transfer` or an `authorize`; none of any other task.
    pub legs: SmallVec<[PaymentLeg; 1]>,
    /// Name of the publisher.
    pub publisher: Option<CompactString>,
}

/// One movement of a payment; amounts are in minor units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentLeg {
    /// The account that pays.
    pub debit: AccountIx,
    /// The account that is paid.
    pub credit: AccountIx,
    /// The currency of both accounts.
    pub currency: Currency,
    /// The amount that the task asks for.
    pub amount: i64,
    /// The amount that was posted.
    pub captured: i64,
    /// The amount that was refunded.
    pub refunded: i64,
    /// The amount that was charged back and has not come again.
    pub charged_back: i64,
}

impl PaymentLeg {
    /// The leg with all of it posted.
    pub(super) const fn posted(self) -> Self {
        Self { captured: self.amount, ..self }
    }

    /// The amount that was posted and has not gone back.
    pub const fn kept(&self) -> i64 {
        self.captured - self.refunded - self.charged_back
    }
}

impl Payment {
    /// The payment of a task that moves no money, or has not moved it yet.
    pub(super) fn bare(id: Uuid, task_type: TaskType, stage: Stage) -> Self {
        Self {
            id,
            task_type,
            stage,
            expires_at: None,
            deadline: None,
            listed: false,
            legs: SmallVec::new(),
            publisher: None,
        }
    }

    /// Returns the state of the payment.
    pub const fn state(&self) -> PaymentState {
        self.stage.state()
    }

    /// Returns the number of states that the payment has had.
    pub const fn version(&self) -> i32 {
        self.stage.version()
    }

    /// Whether it moves money, so that it can be captured, refunded and the like.
    pub const fn moves_money(&self) -> bool {
        matches!(self.task_type, TaskType::Transfer | TaskType::Authorize)
    }

    /// The amount that is held for a leg: what was not captured, while the payment is held.
    pub const fn held(&self, leg: &PaymentLeg) -> i64 {
        if self.state().is_held() { leg.amount - leg.captured } else { 0 }
    }

    /// Takes the payment to its next stage. Its amounts have to be those after `trigger` already.
    ///
    /// # Errors
    ///
    /// The table's rejection, if `trigger` isn't legal in the payment's state.
    pub(super) fn happen(&mut self, trigger: Trigger, cause: Option<Uuid>) -> Result<Transition, Rejection> {
        let before = self.stage;
        self.stage = before.next(trigger, self.went_back())?;
        if !self.state().is_held() {
            self.expires_at = None;
        }
        if !self.state().is_pending() {
            self.deadline = None;
        }
        Ok(Transition::between(self.id, before, self.stage, cause))
    }

    /// What has happened to posted money that has gone back. `None` if none has.
    fn went_back(&self) -> Option<Trigger> {
        let sum = |of: fn(&PaymentLeg) -> i64| self.legs.iter().map(of).sum::<i64>();
        if sum(|leg| leg.charged_back) > 0 {
            Some(Trigger::ChargeBack)
        } else if sum(|leg| leg.refunded) == 0 {
            None
        } else if sum(PaymentLeg::kept) == 0 {
            Some(Trigger::RefundRest)
        } else {
            Some(Trigger::RefundPart)
        }
    }
}

/// A change of a payment that exists already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The id of the payment.
    pub payment: Uuid,
    /// The version of the payment after it; the first state has version 1.
    pub version: i32,
    /// The state before.
    pub from: PaymentState,
    /// The state after.
    pub to: PaymentState,
    /// The task that has caused it; `None` is the clock.
    pub cause: Option<Uuid>,
}

impl Transition {
    /// The change from `before` to `after` of the payment with this id.
    pub(super) const fn between(payment: Uuid, before: Stage, after: Stage, cause: Option<Uuid>) -> Self {
        Self { payment, version: after.version(), from: before.state(), to: after.state(), cause }
    }
}
