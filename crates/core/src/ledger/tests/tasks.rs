//! Tasks in few words. Accounts are numbers, and so are ids.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::contract::{
    AccountChange, AccountName, Action, Authorize, ChangeAccount, Currency, FollowUp, Leg, OpenAccount, SetLimits,
    Split, Task, TaskBody, Terms, Transfer, When,
};

pub(super) fn name(ix: usize) -> AccountName {
    AccountName::parse(&format!("a{ix}")).expect("a name")
}

pub(super) fn currency(code: &str) -> Currency {
    Currency::parse(code).expect("three letters")
}

pub(super) fn usd() -> Currency {
    currency("USD")
}

pub(super) const fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// So many seconds after the time at which every test begins.
pub(super) fn second(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_800_000_000 + seconds)
}

pub(super) fn task(number: u128, body: TaskBody) -> Task {
    Task::new(id(number), body)
}

pub(super) fn open(number: u128, account: usize, min_balance: Option<i64>) -> Task {
    opening(number, account, "USD", min_balance)
}

pub(super) fn opening(number: u128, account: usize, code: &str, min_balance: Option<i64>) -> Task {
    let open = OpenAccount { account: name(account), currency: currency(code), min_balance };
    task(number, TaskBody::OpenAccount(open))
}

pub(super) fn change(number: u128, account: usize, change: AccountChange) -> Task {
    task(number, TaskBody::ChangeAccount(ChangeAccount { account: name(account), change }))
}

pub(super) fn limits(
    number: u128,
    account: usize,
    min_balance: Option<Option<i64>>,
    max_balance: Option<Option<i64>>,
) -> Task {
    change(number, account, AccountChange::SetLimits(SetLimits { min_balance, max_balance }))
}

pub(super) fn transfer(number: u128, debit: usize, credit: usize, amount: i64) -> Task {
    let (debit_account, credit_account, currency) = (name(debit), name(credit), usd());
    let body = Transfer { debit_account, credit_account, amount, currency, reference: None, metadata: None };
    task(number, TaskBody::Transfer(body))
}

pub(super) fn leg(debit: usize, credit: usize, amount: i64) -> Leg {
    Leg { debit_account: name(debit), credit_account: name(credit), amount, currency: usd() }
}

pub(super) fn euros(leg: Leg) -> Leg {
    Leg { currency: currency("EUR"), ..leg }
}

pub(super) fn split(number: u128, legs: impl Into<Vec<Leg>>) -> Task {
    task(number, TaskBody::Split(Split { legs: legs.into(), reference: None, metadata: None }))
}

fn authorization(number: u128, terms: Terms, expires_in: Option<u32>) -> Task {
    task(number, TaskBody::Authorize(Authorize { terms, expires_in, reference: None, metadata: None }))
}

pub(super) fn authorize(number: u128, debit: usize, credit: usize, amount: i64) -> Task {
    authorization(number, Terms::One(leg(debit, credit, amount)), None)
}

pub(super) fn authorize_for(number: u128, amount: i64, seconds: u32) -> Task {
    authorization(number, Terms::One(leg(1, 2, amount)), Some(seconds))
}

pub(super) fn authorize_legs(number: u128, legs: impl Into<Vec<Leg>>) -> Task {
    authorization(number, Terms::Legs(legs.into()), None)
}

pub(super) fn follow_up(number: u128, parent: u128, action: Action) -> Task {
    task(number, TaskBody::FollowUp(FollowUp { payment_id: id(parent), action, reference: None, metadata: None }))
}

/// Captures and ends the hold.
pub(super) fn capture(number: u128, parent: u128, amount: impl Into<Option<i64>>) -> Task {
    follow_up(number, parent, Action::Capture { amount: amount.into(), leg: None, is_final: true })
}

/// Captures and keeps the rest held.
pub(super) fn capture_part(number: u128, parent: u128, amount: impl Into<Option<i64>>) -> Task {
    follow_up(number, parent, Action::Capture { amount: amount.into(), leg: None, is_final: false })
}

pub(super) fn void(number: u128, parent: u128) -> Task {
    follow_up(number, parent, Action::Void)
}

pub(super) fn refund(number: u128, parent: u128, amount: impl Into<Option<i64>>) -> Task {
    follow_up(number, parent, Action::Refund { amount: amount.into(), leg: None })
}

pub(super) fn refund_leg(number: u128, parent: u128, leg: u8, amount: impl Into<Option<i64>>) -> Task {
    follow_up(number, parent, Action::Refund { amount: amount.into(), leg: Some(leg) })
}

pub(super) fn chargeback(number: u128, parent: u128, amount: i64) -> Task {
    follow_up(number, parent, Action::Chargeback { amount, leg: None })
}

pub(super) fn reversal(number: u128, parent: u128, amount: i64) -> Task {
    follow_up(number, parent, Action::ChargebackReversal { amount, leg: None })
}

pub(super) fn cancel(number: u128, parent: u128) -> Task {
    follow_up(number, parent, Action::Cancel)
}

/// The task, not before so many seconds.
pub(super) fn at(seconds: i64, task: Task) -> Task {
    Task::timed(task.id, When { execute_at: Some(second(seconds)), ..task.when }, task.body)
}

/// The task, not before the outcome of another.
pub(super) fn after(awaited: u128, task: Task) -> Task {
    Task::timed(task.id, When { after: Some(id(awaited)), ..task.when }, task.body)
}
