//! The guards that look at a task alone; and the type of a decline.

use jiff::Timestamp;

use super::{AccountIx, Rules};
use crate::contract::{AccountChange, Leg, MAX_AMOUNT, MAX_BALANCE, Rejection, Task, TaskBody, Transfer};

/// A rejection, and the account by which an earlier task could still turn it into an acceptance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decline {
    pub(super) rejection: Rejection,
    pub(super) account: Option<AccountIx>,
}

impl Decline {
    pub(super) const fn on(account: AccountIx) -> impl FnOnce(Rejection) -> Self {
        move |rejection| Self { rejection, account: Some(account) }
    }
}

impl From<Rejection> for Decline {
    fn from(rejection: Rejection) -> Self {
        Self { rejection, account: None }
    }
}

/// Checks a task without accounts and payments: `unknown_currency` of an account to open, then `amount_out_of_range`,
/// then `same_account`; leg by leg.
pub(crate) fn alone(task: &Task, rules: &Rules, now: Timestamp) -> Result<(), Rejection> {
    match &task.body {
        TaskBody::OpenAccount(open) if !rules.currencies.can_open(open.currency, now) => {
            Err(Rejection::UnknownCurrency)
        }
        TaskBody::OpenAccount(open) => limit(open.min_balance, -MAX_BALANCE..=0),
        TaskBody::Transfer(Transfer { debit_account, credit_account, amount, .. }) => {
            movement(*amount, debit_account == credit_account)
        }
        TaskBody::Split(split) => legs(&split.legs),
        TaskBody::Authorize(authorize) => legs(authorize.legs()),
        TaskBody::FollowUp(follow_up) => follow_up.action.amount().map_or(Ok(()), amount_in_range),
        TaskBody::ChangeAccount(change) => match change.change {
            AccountChange::SetLimits(limits) => {
                limit(limits.min_balance.flatten(), -MAX_BALANCE..=MAX_BALANCE)?;
                limit(limits.max_balance.flatten(), -MAX_BALANCE..=MAX_BALANCE)
            }
            AccountChange::Close | AccountChange::Freeze | AccountChange::Unfreeze => Ok(()),
        },
    }
}

fn legs(legs: &[Leg]) -> Result<(), Rejection> {
    legs.iter().try_for_each(|leg| movement(leg.amount, leg.debit_account == leg.credit_account))
}

fn movement(amount: i64, same_account: bool) -> Result<(), Rejection> {
    amount_in_range(amount)?;
    if same_account { Err(Rejection::SameAccount) } else { Ok(()) }
}

fn amount_in_range(amount: i64) -> Result<(), Rejection> {
    limit(Some(amount), 1..=MAX_AMOUNT)
}

fn limit(amount: Option<i64>, range: std::ops::RangeInclusive<i64>) -> Result<(), Rejection> {
    if amount.is_none_or(|amount| range.contains(&amount)) { Ok(()) } else { Err(Rejection::AmountOutOfRange) }
}
