//! Of several reasons to decline a task there is one that is told.

use super::*;
use crate::contract::{Action, TaskBody, Transfer};

#[test]
fn of_a_transfer_the_task_alone_comes_first_then_the_accounts_then_the_balance() {
    let mut world = World::with(4);
    world.accounts[2].status = AccountStatus::Closed;
    world.accounts[3].status = AccountStatus::Frozen;
    world.accounts.push(Account::unopened(4));
    let mut world = World::of(world.accounts);
    let in_currency = |code: &str, task: Task| match task.body {
        TaskBody::Transfer(body) => {
            let body = Transfer { currency: currency(code), ..body };
            Task::new(task.id, TaskBody::Transfer(body))
        }
        _ => task,
    };
    use Rejection::*;
    let cases = [
        (transfer(1, 1, 1, 0), AmountOutOfRange),
        (transfer(2, 1, 1, 5), SameAccount),
        (transfer(3, 4, 2, 5), AccountNotFound),
        (transfer(4, 1, 4, 5), AccountNotFound),
        (transfer(5, 2, 4, 5), AccountClosed),
        (transfer(6, 3, 1, 5), AccountFrozen),
        (transfer(7, 1, 0, 5), InsufficientFunds),
        (transfer(8, 0, 1, i64::MAX), AmountOutOfRange),
        (in_currency("EUR", transfer(9, 0, 1, 5)), CurrencyMismatch),
        (in_currency("QQQ", transfer(10, 1, 1, 0)), AmountOutOfRange),
        (open(11, 1, None), AccountExists),
        (open(12, 2, None), AccountClosed),
        (open(13, 4, Some(1)), AmountOutOfRange),
        (opening(14, 2, "QQQ", Some(1)), UnknownCurrency),
        (in_currency("QQQ", transfer(15, 4, 1, 5)), AccountNotFound),
        (in_currency("QQQ", transfer(16, 0, 1, 5)), CurrencyMismatch),
    ];
    for (task, reason) in cases {
        assert_eq!(world.one(task.clone()), rejected(reason), "{task:?}");
    }
}

#[test]
fn a_closed_account_is_told_before_the_frozen_one_that_pays_and_that_before_the_money() {
    let mut world = World::with(3);
    world.accounts[1].status = AccountStatus::Frozen;
    world.accounts[2].status = AccountStatus::Closed;
    assert_eq!(world.one(transfer(1, 1, 2, 5)), rejected(Rejection::AccountClosed));
    assert_eq!(world.one(transfer(2, 1, 0, 5)), rejected(Rejection::AccountFrozen));
}

#[test]
fn the_task_alone_comes_before_its_time_and_that_before_the_accounts() {
    let mut world = World::with(2);
    world.accounts[1].status = AccountStatus::Closed;
    assert_eq!(world.one(after(9, at(5, transfer(1, 0, 1, 0)))), rejected(Rejection::AmountOutOfRange));
    assert_eq!(world.one(after(9, at(5, transfer(2, 0, 1, 1)))), Outcome::Scheduled(second(5)));
    assert_eq!(world.one(after(1, transfer(3, 0, 1, 1))), rejected(Rejection::DependencyFailed));
    assert_eq!(world.one(after(1, refund(4, 9, 1))), rejected(Rejection::DependencyFailed), "before the payment");
    assert_eq!(world.one(refund(5, 9, 0)), rejected(Rejection::AmountOutOfRange));
}

#[test]
fn the_payments_state_comes_before_what_is_left_of_it_and_that_before_the_accounts() {
    let mut world = World::funded(100);
    world.apply(&[authorize(1, 1, 2, 8), capture(2, 1, None), refund(3, 1, None), transfer(4, 1, 2, 5)]);
    world.accounts[2].status = AccountStatus::Frozen;
    let leg = |number, parent, amount| follow_up(number, parent, Action::Refund { amount: Some(amount), leg: Some(7) });
    assert_eq!(world.one(leg(5, 1, 99)), rejected(Rejection::AmountExceedsRemaining), "all has gone back");
    assert_eq!(world.one(leg(6, 4, 99)), rejected(Rejection::LegNotFound));
    assert_eq!(world.one(refund(7, 4, 6)), rejected(Rejection::AmountExceedsRemaining));
    assert_eq!(world.one(refund(8, 4, 5)), rejected(Rejection::AccountFrozen));
}

#[test]
fn how_long_a_hold_is_to_last_comes_before_the_accounts() {
    let mut world = World::with(3);
    world.accounts[2].status = AccountStatus::Closed;
    assert_eq!(world.one(authorize_for(1, 5, 1001)), rejected(Rejection::ExpiryOutOfRange));
    assert_eq!(world.one(authorize_for(2, 5, 1000)), rejected(Rejection::AccountClosed));
}

#[test]
fn legs_are_judged_one_after_another() {
    let mut world = World::funded(10);
    world.accounts[3].status = AccountStatus::Closed;
    let outcome = world.one(split(1, [leg(1, 2, 11), leg(1, 3, 1)]));
    assert_eq!(outcome, rejected(Rejection::InsufficientFunds), "the first leg");
    assert_eq!(world.one(split(2, [leg(1, 2, 10), leg(1, 3, 1)])), rejected(Rejection::AccountClosed));
    let outcome = world.one(split(3, [euros(leg(1, 2, 10)), leg(1, 2, 0)]));
    assert_eq!(outcome, rejected(Rejection::AmountOutOfRange), "of all legs alone first");
}
