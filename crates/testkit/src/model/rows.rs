//! Tasks and the payments that they make.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::super::contract::{
    self, AccountChange, AccountName, Currencies, Currency, PaymentState, Rejection, Task, TaskBody,
};

/// A task and its current state.
#[derive(Clone, Debug)]
pub struct Row {
    pub task: Arc<Task>,
    /// `None` before it is tried for the first time.
    pub state: Option<PaymentState>,
    pub reason: Option<Rejection>,
    pub version: i32,
    /// While the task waits: its deadline, and the awaited task.
    pub waits_until: Option<Timestamp>,
    pub waits_for: Option<Uuid>,
    /// While money is held: when the hold expires.
    pub hold_until: Option<Timestamp>,
    pub legs: Vec<Leg>,
}

/// One leg of a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    pub debit: String,
    pub credit: String,
    pub currency: String,
    pub amount: i64,
    pub captured: i64,
    pub refunded: i64,
    pub charged_back: i64,
}

impl Leg {
    pub fn kept(&self) -> i64 {
        self.captured - self.refunded - self.charged_back
    }

    /// Returns the leg with debit and credit exchanged.
    pub(super) fn backwards(&self) -> Self {
        Self { debit: self.credit.clone(), credit: self.debit.clone(), ..self.clone() }
    }
}

impl Row {
    pub(super) fn new(task: Arc<Task>) -> Self {
        Self {
            task,
            state: None,
            reason: None,
            version: 0,
            waits_until: None,
            waits_for: None,
            hold_until: None,
            legs: Vec::new(),
        }
    }

    /// Returns the state of an applied payment, which follows from the amounts.
    pub(super) fn applied(&self) -> PaymentState {
        let sum = |of: fn(&Leg) -> i64| self.legs.iter().map(of).sum::<i64>();
        let (captured, kept) = (sum(|leg| leg.captured), sum(Leg::kept));
        match self.hold_until {
            Some(_) if captured == 0 => PaymentState::Authorized,
            Some(_) => PaymentState::PartiallyCaptured,
            None if sum(|leg| leg.charged_back) > 0 => PaymentState::ChargedBack,
            None if sum(|leg| leg.refunded) == 0 => PaymentState::Settled,
            None if kept == 0 => PaymentState::Refunded,
            None => PaymentState::PartiallyRefunded,
        }
    }

    pub(super) fn moves_money(&self) -> bool {
        matches!(self.task.body, TaskBody::Transfer(_) | TaskBody::Split(_) | TaskBody::Authorize(_))
    }
}

/// Returns the legs of the payment that a task makes.
pub(super) fn legs_of(task: &Task) -> Vec<Leg> {
    let of = |debit: &AccountName, credit: &AccountName, amount: i64, currency: Currency| Leg {
        debit: debit.to_string(),
        credit: credit.to_string(),
        currency: currency.to_string(),
        amount,
        captured: 0,
        refunded: 0,
        charged_back: 0,
    };
    let listed: &[contract::Leg] = match &task.body {
        TaskBody::Transfer(one) => return vec![of(&one.debit_account, &one.credit_account, one.amount, one.currency)],
        TaskBody::Split(split) => &split.legs,
        TaskBody::Authorize(authorize) => authorize.legs(),
        _ => &[],
    };
    listed.iter().map(|leg| of(&leg.debit_account, &leg.credit_account, leg.amount, leg.currency)).collect()
}

/// Largest absolute value of a balance.
pub(super) const QUINTILLION: i64 = 1_000_000_000_000_000_000;

/// Checks what doesn't depend on the state of the ledger.
pub(super) fn sound(task: &Task, now: Timestamp) -> Result<(), Rejection> {
    let within = |amount: i64, least: i64, most: i64| {
        if amount < least || amount > most { Err(Rejection::AmountOutOfRange) } else { Ok(()) }
    };
    const QUADRILLION: i64 = 1_000_000_000_000_000;
    for leg in legs_of(task) {
        within(leg.amount, 1, QUADRILLION)?;
        if leg.debit == leg.credit {
            return Err(Rejection::SameAccount);
        }
    }
    match &task.body {
        TaskBody::OpenAccount(open) => {
            if !Currencies::default().can_open(open.currency, now) {
                return Err(Rejection::UnknownCurrency);
            }
            within(open.min_balance.unwrap_or(0), -QUINTILLION, 0)
        }
        TaskBody::ChangeAccount(change) => {
            if let AccountChange::SetLimits(limits) = change.change {
                within(limits.min_balance.flatten().unwrap_or(0), -QUINTILLION, QUINTILLION)?;
                within(limits.max_balance.flatten().unwrap_or(0), -QUINTILLION, QUINTILLION)?;
            }
            Ok(())
        }
        TaskBody::FollowUp(follow_up) => within(follow_up.action.amount().unwrap_or(1), 1, QUADRILLION),
        TaskBody::Transfer(_) | TaskBody::Split(_) | TaskBody::Authorize(_) => Ok(()),
    }
}
