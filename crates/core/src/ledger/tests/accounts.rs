//! Account tasks, frozen accounts, and limits.

use super::*;
use crate::contract::AccountChange::{Close, Freeze, Unfreeze};

fn only_balance(outcome: &Outcome) -> Balance {
    let acted = acted(outcome);
    assert!(acted.movements.is_empty() && acted.payment.is_none() && acted.moved.is_none());
    acted.balances[0]
}

#[test]
fn an_account_is_closed_only_with_nothing_posted_and_nothing_held() {
    let mut world = World::funded(10);
    assert_eq!(world.one(change(1, 1, Close)), rejected(Rejection::AccountNotEmpty));
    world.apply(&[transfer(2, 1, 0, 10), authorize(3, 0, 1, 5)]);
    assert_eq!(world.balance(0), (0, 5));
    assert_eq!(world.one(change(4, 0, Close)), rejected(Rejection::AccountNotEmpty));
    let closed = world.one(change(5, 1, Close));
    assert_eq!(only_balance(&closed).account, AccountIx(1));
    assert_eq!(world.accounts[1].status, AccountStatus::Closed);
}

#[test]
fn a_closed_account_takes_part_in_nothing_and_stays_closed() {
    let mut world = World::funded(10);
    world.apply(&[transfer(1, 1, 2, 4), authorize(2, 1, 3, 5), change(3, 3, Close)]);
    let closed = [
        transfer(4, 1, 3, 1),
        transfer(5, 3, 1, 1),
        authorize(6, 1, 3, 1),
        capture(7, 2, None),
        open(8, 3, None),
        change(9, 3, Close),
        change(10, 3, Freeze),
        change(11, 3, Unfreeze),
        limits(12, 3, Some(None), None),
    ];
    for task in closed {
        assert_eq!(world.one(task.clone()), rejected(Rejection::AccountClosed), "{task:?}");
    }
    assert_eq!(world.balance(1), (6, 5), "what is held for it stays held");
}

#[test]
fn what_no_task_has_opened_cannot_be_changed() {
    let mut world = World::of(vec![Account::unopened(0)]);
    for (number, what) in (1..).zip([Close, Freeze, Unfreeze]) {
        assert_eq!(world.one(change(number, 0, what)), rejected(Rejection::AccountNotFound));
    }
    assert_eq!(world.one(limits(9, 0, Some(None), None)), rejected(Rejection::AccountNotFound));
}

#[test]
fn a_frozen_account_takes_no_debits_no_holds_and_no_captures_but_credits() {
    let mut world = World::funded(10);
    world.apply(&[transfer(1, 1, 2, 3), authorize(2, 1, 2, 3), transfer(3, 0, 1, 1), transfer(4, 0, 2, 1)]);
    assert!(is_settled(&world.one(change(5, 1, Freeze))));
    for task in [transfer(6, 1, 2, 1), authorize(7, 1, 2, 1), capture(8, 2, None), refund(9, 3, None)] {
        assert_eq!(world.one(task.clone()), rejected(Rejection::AccountFrozen), "{task:?}");
    }
    for task in [transfer(10, 2, 1, 1), refund(11, 1, 1), void(12, 2)] {
        assert!(is_settled(&world.one(task.clone())), "{task:?}");
    }
    assert!(is_settled(&world.one(change(13, 1, Unfreeze))));
    assert!(is_settled(&world.one(transfer(14, 1, 2, 1))));
}

#[test]
fn a_frozen_account_takes_no_credits_either_where_the_operator_says_so() {
    let mut world = World::funded(10);
    world.rules.frozen_takes_credits = false;
    world.apply(&[transfer(1, 1, 2, 3), authorize(2, 1, 3, 3), change(3, 1, Freeze), change(4, 3, Freeze)]);
    for task in [transfer(5, 0, 1, 1), refund(6, 1, 1), chargeback(7, 1, 1), authorize(8, 0, 3, 1)] {
        assert_eq!(world.one(task.clone()), rejected(Rejection::AccountFrozen), "{task:?}");
    }
    world.one(change(9, 1, Unfreeze));
    assert_eq!(world.one(capture(10, 2, None)), rejected(Rejection::AccountFrozen), "the one that is paid is frozen");
}

#[test]
fn a_chargeback_comes_out_of_a_frozen_account() {
    let mut world = World::funded(10);
    world.apply(&[transfer(1, 1, 2, 5), change(2, 2, Freeze), change(3, 1, Freeze)]);
    assert!(is_settled(&world.one(chargeback(4, 1, 5))));
    assert!(is_settled(&world.one(reversal(5, 1, 5))));
    assert_eq!(world.balance(2), (5, 0));
}

#[test]
fn what_is_frozen_or_not_already_is_rejected() {
    let mut world = World::with(2);
    assert_eq!(world.one(change(1, 1, Unfreeze)), rejected(Rejection::AccountNotFrozen));
    world.one(change(2, 1, Freeze));
    assert_eq!(world.one(change(3, 1, Freeze)), rejected(Rejection::AccountFrozen));
    assert_eq!(world.one(open(4, 1, None)), rejected(Rejection::AccountExists));
    assert!(is_settled(&world.one(limits(5, 1, Some(None), None))), "limits are the operator's");
    assert!(is_settled(&world.one(change(6, 1, Close))));
}

#[test]
fn a_limit_left_out_stays_and_one_that_is_none_goes() {
    let mut world = World::with(2);
    world.one(limits(1, 1, Some(Some(-5)), Some(Some(7))));
    assert_eq!((world.accounts[1].min_balance, world.accounts[1].max_balance), (Some(-5), Some(7)));
    world.one(limits(2, 1, Some(None), None));
    assert_eq!((world.accounts[1].min_balance, world.accounts[1].max_balance), (None, Some(7)));
    world.one(limits(3, 1, None, Some(None)));
    assert_eq!((world.accounts[1].min_balance, world.accounts[1].max_balance), (None, None));
}

#[test]
fn limits_hold_at_once_and_from_then_on() {
    let mut world = World::funded(10);
    world.one(authorize(1, 1, 2, 4));
    assert_eq!(world.one(limits(2, 1, Some(Some(7)), None)), rejected(Rejection::InsufficientFunds));
    assert_eq!(world.one(limits(3, 1, None, Some(Some(9)))), rejected(Rejection::LimitExceeded));
    assert_eq!(world.one(limits(4, 1, Some(Some(6)), Some(Some(5)))), rejected(Rejection::AmountOutOfRange));
    assert_eq!(
        world.one(limits(5, 1, None, Some(Some(-1)))),
        rejected(Rejection::AmountOutOfRange),
        "below the minimum"
    );
    assert!(is_settled(&world.one(limits(6, 1, Some(Some(6)), Some(Some(10))))));
    assert_eq!(world.one(transfer(7, 1, 0, 1)), rejected(Rejection::InsufficientFunds));
    assert_eq!(world.one(transfer(8, 0, 1, 1)), rejected(Rejection::LimitExceeded));
    assert!(is_settled(&world.one(capture(9, 1, None))), "what is held is below the limit already");
}

#[test]
fn a_shortfall_stands_only_in_the_way_of_the_limit_that_it_is_of() {
    let mut world = World::funded(10);
    world.apply(&[transfer(1, 1, 2, 5), transfer(2, 2, 0, 5), chargeback(3, 1, 5)]);
    assert_eq!((world.balance(2), world.accounts[2].shortfall), ((-5, 0), 5));
    assert_eq!(world.one(limits(4, 2, Some(Some(-4)), None)), rejected(Rejection::InsufficientFunds));
    let limited = world.one(limits(5, 2, None, Some(Some(100))));
    assert_eq!(only_balance(&limited).shortfall, 5);
    assert_eq!((world.accounts[2].max_balance, world.accounts[2].shortfall), (Some(100), 5));
    let limited = world.one(limits(6, 2, Some(Some(-5)), None));
    assert_eq!(only_balance(&limited).shortfall, 0);
}
