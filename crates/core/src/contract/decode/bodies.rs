//! Makes the body of a task from the fields that its type has.

use compact_str::CompactString;
use uuid::Uuid;

use super::Refusal;
use super::fields::RawTask;
use super::legs::RawLeg;
use super::values::{account, currency, other_task, reference};
use crate::contract::{
    AccountChange, Action, Authorize, ChangeAccount, FollowUp, Leg, OpenAccount, SetLimits, Split, TaskBody, TaskType,
    Terms, Transfer,
};

const AMOUNT: &str = "an integer in minor units";

/// Takes the fields of a type out of `raw`; `id` is the task's own.
pub(super) fn of_type(task_type: TaskType, id: Uuid, raw: &mut RawTask<'_>) -> Result<TaskBody, Refusal> {
    match task_type {
        TaskType::OpenAccount => open_account(raw),
        TaskType::Transfer => transfer(raw),
        TaskType::Authorize => authorize(raw),
        TaskType::Capture => follow_up(id, raw, capture),
        TaskType::Void => follow_up(id, raw, |_| Ok(Action::Void)),
        TaskType::Refund => {
            follow_up(id, raw, |raw| Ok(Action::Refund { amount: raw.movement.amount.take(), leg: raw.leg.take() }))
        }
        TaskType::Chargeback => {
            follow_up(id, raw, |raw| Ok(Action::Chargeback { amount: amount(raw)?, leg: raw.leg.take() }))
        }
        TaskType::ChargebackReversal => {
            follow_up(id, raw, |raw| Ok(Action::ChargebackReversal { amount: amount(raw)?, leg: raw.leg.take() }))
        }
        TaskType::Cancel => follow_up(id, raw, |_| Ok(Action::Cancel)),
        TaskType::CloseAccount => change_account(AccountChange::Close, raw),
        TaskType::FreezeAccount => change_account(AccountChange::Freeze, raw),
        TaskType::UnfreezeAccount => change_account(AccountChange::Unfreeze, raw),
        TaskType::SetLimits => change_account(AccountChange::SetLimits(limits(raw)?), raw),
    }
}

fn open_account(raw: &mut RawTask<'_>) -> Result<TaskBody, Refusal> {
    Ok(TaskBody::OpenAccount(OpenAccount {
        account: account("account", raw.account.take())?,
        currency: currency(raw.movement.currency.take())?,
        min_balance: raw.min_balance.take().unwrap_or(Some(0)),
    }))
}

fn transfer(raw: &mut RawTask<'_>) -> Result<TaskBody, Refusal> {
    let (terms, (reference, metadata)) = (terms(raw)?, notes(raw)?);
    Ok(match terms {
        Terms::One(Leg { debit_account, credit_account, amount, currency }) => {
            TaskBody::Transfer(Transfer { debit_account, credit_account, amount, currency, reference, metadata })
        }
        Terms::Legs(legs) => TaskBody::Split(Split { legs, reference, metadata }),
    })
}

fn authorize(raw: &mut RawTask<'_>) -> Result<TaskBody, Refusal> {
    let (terms, (reference, metadata)) = (terms(raw)?, notes(raw)?);
    Ok(TaskBody::Authorize(Authorize { terms, expires_in: raw.expires_in.take(), reference, metadata }))
}

/// Takes `reference` and `metadata`.
fn notes(raw: &mut RawTask<'_>) -> Result<(Option<CompactString>, Option<CompactString>), Refusal> {
    Ok((raw.reference.take().map(reference).transpose()?, raw.metadata.take()))
}

/// Takes one movement from the task's own fields, or the list `legs`. Both are refused.
fn terms(raw: &mut RawTask<'_>) -> Result<Terms, Refusal> {
    const EITHER: &str = "either `debit_account`, `credit_account`, `amount` and `currency`, or `legs`";
    let own = raw.movement.first_given();
    match (raw.legs.take(), own) {
        (None, Some(_)) => Ok(Terms::One(leg(&mut raw.movement)?)),
        (None, None) => Err(Refusal::missing("debit_account", EITHER)),
        (Some(_), Some(field)) => Err(Refusal::of(field, format!("given beside `legs`, expected {EITHER}"))),
        (Some(mut legs), None) => {
            let of_place = |(place, raw)| leg(raw).map_err(|refusal: Refusal| refusal.of_leg(place));
            legs.iter_mut().enumerate().map(of_place).collect::<Result<_, _>>().map(Terms::Legs)
        }
    }
}

fn leg(raw: &mut RawLeg<'_>) -> Result<Leg, Refusal> {
    Ok(Leg {
        debit_account: account("debit_account", raw.debit_account.take())?,
        credit_account: account("credit_account", raw.credit_account.take())?,
        amount: raw.amount.take().ok_or_else(|| Refusal::missing("amount", AMOUNT))?,
        currency: currency(raw.currency.take())?,
    })
}

/// Takes the fields that all follow-ups have, and those of `action`.
fn follow_up<'a>(
    id: Uuid,
    raw: &mut RawTask<'a>,
    action: impl FnOnce(&mut RawTask<'a>) -> Result<Action, Refusal>,
) -> Result<TaskBody, Refusal> {
    let payment_id = other_task(raw.origin, "payment_id", raw.payment_id.take(), id)?;
    let (action, (reference, metadata)) = (action(raw)?, notes(raw)?);
    Ok(TaskBody::FollowUp(FollowUp { payment_id, action, reference, metadata }))
}

fn capture(raw: &mut RawTask<'_>) -> Result<Action, Refusal> {
    let is_final = raw.is_final.take().unwrap_or(true);
    Ok(Action::Capture { amount: raw.movement.amount.take(), leg: raw.leg.take(), is_final })
}

/// Takes an amount that is required.
fn amount(raw: &mut RawTask<'_>) -> Result<i64, Refusal> {
    raw.movement.amount.take().ok_or_else(|| Refusal::missing("amount", AMOUNT))
}

fn change_account(change: AccountChange, raw: &mut RawTask<'_>) -> Result<TaskBody, Refusal> {
    Ok(TaskBody::ChangeAccount(ChangeAccount { account: account("account", raw.account.take())?, change }))
}

fn limits(raw: &mut RawTask<'_>) -> Result<SetLimits, Refusal> {
    let limits = SetLimits { min_balance: raw.min_balance.take(), max_balance: raw.max_balance.take() };
    if limits.min_balance.is_none() && limits.max_balance.is_none() {
        return Err(Refusal::missing("min_balance", "`min_balance`, `max_balance` or both"));
    }
    Ok(limits)
}
