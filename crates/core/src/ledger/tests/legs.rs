//! Several legs: all or nothing, and how an amount is spread over them.

use proptest::prelude::*;

use super::*;
use crate::contract::Action;
use crate::ledger::shares::in_proportion;

/// 1 pays 70 to 2, 20 to 3 and 10 to 0, at once.
fn paid() -> World {
    let mut world = World::funded(100);
    world.one(split(1, [leg(1, 2, 70), leg(1, 3, 20), leg(1, 0, 10)]));
    world
}

/// How much of each leg a task moved.
fn shares(outcome: &Outcome) -> Vec<(u8, i64)> {
    acted(outcome).movements.iter().map(|movement| (movement.leg, movement.credit.amount)).collect()
}

fn with_euros() -> World {
    let mut accounts = World::funded(100).accounts;
    for ix in [2, 3] {
        accounts[ix].currency = Some(currency("EUR"));
    }
    accounts[2].posted = 50;
    World::of(accounts)
}

#[test]
fn all_legs_are_posted_one_after_another() {
    let mut world = World::funded(100);
    let outcome = world.one(split(1, [leg(1, 2, 70), leg(2, 3, 20), leg(1, 3, 30)]));
    let done = acted(&outcome);
    assert_eq!((state_of(&outcome), done.moved), (Some(PaymentState::Settled), Some(120)));
    let seen: Vec<_> = done.movements.iter().map(|made| (made.debit.after.posted, made.debit.after.version)).collect();
    assert_eq!(seen, [(30, 1), (50, 2), (0, 2)]);
    assert_eq!((world.balance(1), world.balance(2), world.balance(3)), ((0, 0), (50, 0), (50, 0)));
    assert!(world.payment(1).legs.iter().all(|leg| leg.captured == leg.amount));
}

#[test]
fn a_leg_that_is_declined_undoes_those_before_it() {
    let before = World::funded(100).accounts;
    let mut world = World::funded(100);
    for task in [
        split(1, [leg(1, 2, 70), leg(2, 3, 20), leg(1, 3, 31)]),
        authorize_legs(2, [leg(1, 2, 70), leg(1, 3, 20), leg(1, 0, 11)]),
    ] {
        assert_eq!(world.one(task), rejected(Rejection::InsufficientFunds));
        assert_eq!(world.accounts, before);
    }
    assert_eq!(world.one(split(3, [leg(1, 2, 70), euros(leg(1, 3, 20))])), rejected(Rejection::CurrencyMismatch));
    assert_eq!(world.accounts, before);
    assert_eq!(world.one(split(4, [leg(1, 2, 70), leg(3, 3, 20)])), rejected(Rejection::SameAccount));
}

#[test]
fn a_capture_and_a_refund_of_legs_are_all_or_nothing_too() {
    let mut world = World::funded(100);
    world.apply(&[authorize_legs(1, [leg(1, 2, 70), leg(1, 3, 30)]), limits(2, 3, None, Some(Some(29)))]);
    let before = (world.accounts.clone(), world.payments.clone());
    assert_eq!(world.one(capture(3, 1, None)), rejected(Rejection::LimitExceeded));
    assert_eq!(world.accounts, before.0);
    assert_eq!(world.payment(1), &before.1[&id(1)]);

    let mut world = paid();
    world.one(transfer(2, 3, 0, 1));
    let before = (world.accounts.clone(), world.payment(1).clone());
    assert_eq!(world.one(refund(3, 1, None)), rejected(Rejection::InsufficientFunds), "the second leg");
    assert_eq!((&world.accounts, world.payment(1)), (&before.0, &before.1));
    assert!(is_settled(&world.one(refund_leg(4, 1, 0, None))));
}

#[test]
fn a_leg_can_spend_what_an_earlier_one_brought() {
    let mut world = World::funded(10);
    assert!(is_settled(&world.one(split(1, [leg(1, 2, 10), leg(2, 3, 10)]))));
    let mut world = World::funded(10);
    assert_eq!(world.one(split(1, [leg(2, 3, 10), leg(1, 2, 10)])), rejected(Rejection::InsufficientFunds));
}

#[test]
fn holds_of_several_legs_are_summed_per_account() {
    let mut world = World::funded(100);
    let outcome = world.one(authorize_legs(1, [leg(1, 2, 70), leg(1, 3, 20), leg(0, 2, 5)]));
    let held: Vec<_> = acted(&outcome).balances.iter().map(|balance| (balance.account.0, balance.held)).collect();
    assert_eq!(held, [(1, 90), (0, 5)]);
    let outcome = world.one(void(2, 1));
    let held: Vec<_> = acted(&outcome).balances.iter().map(|balance| (balance.account.0, balance.held)).collect();
    assert_eq!(held, [(1, 0), (0, 0)]);
}

#[test]
fn a_refund_without_a_leg_goes_in_proportion_to_what_is_left_of_each() {
    let mut world = paid();
    assert_eq!(shares(&world.one(refund(2, 1, 10))), [(0, 7), (1, 2), (2, 1)]);
    assert_eq!(shares(&world.one(refund_leg(3, 1, 1, 18))), [(1, 18)]);
    // 63 and 9 are left.
    assert_eq!(shares(&world.one(refund(4, 1, 8))), [(0, 7), (2, 1)]);
    assert_eq!(world.one(refund_leg(5, 1, 1, 1)), rejected(Rejection::AmountExceedsRemaining));
    assert_eq!(world.one(refund_leg(6, 1, 3, 1)), rejected(Rejection::LegNotFound));
    assert_eq!(shares(&world.one(refund(7, 1, None))), [(0, 56), (2, 8)]);
    assert_eq!(world.state(1), Some(PaymentState::Refunded));
    assert_eq!(world.balance(1), (100, 0));
}

#[test]
fn legs_are_captured_in_proportion_or_by_name_and_the_last_capture_releases_all() {
    let mut world = World::funded(100);
    world.one(authorize_legs(1, [leg(1, 2, 70), leg(1, 3, 30)]));
    assert_eq!(shares(&world.one(capture_part(2, 1, 9))), [(0, 6), (1, 3)]);
    let second = follow_up(3, 1, Action::Capture { amount: None, leg: Some(1), is_final: false });
    assert_eq!(shares(&world.one(second)), [(1, 27)]);
    let again = follow_up(4, 1, Action::Capture { amount: None, leg: Some(1), is_final: false });
    assert_eq!(world.one(again), rejected(Rejection::AmountExceedsRemaining));
    assert_eq!(world.balance(1), (64, 64));
    assert_eq!(shares(&world.one(capture(5, 1, 1))), [(0, 1)]);
    assert_eq!((world.balance(1), world.state(1)), ((63, 0), Some(PaymentState::Settled)));
}

#[test]
fn of_legs_in_several_currencies_an_amount_names_its_leg() {
    let mut world = with_euros();
    let outcome = world.one(split(1, [leg(1, 0, 40), euros(leg(2, 3, 30))]));
    assert_eq!(acted(&outcome).moved, None, "there is no sum of two currencies");
    for task in [refund(2, 1, 5), chargeback(3, 1, 5), reversal(4, 1, 5)] {
        let expected = if task.body.task_type() == crate::contract::TaskType::ChargebackReversal {
            Outcome::Parked { on: id(1), deadline: second(60) }
        } else {
            rejected(Rejection::LegRequired)
        };
        assert_eq!(world.one(task), expected);
    }
    assert_eq!(acted(&world.one(refund_leg(5, 1, 1, 10))).moved, Some(10));
    let outcome = world.one(refund(6, 1, None));
    assert_eq!((shares(&outcome), acted(&outcome).moved), (vec![(0, 40), (1, 20)], None));
    assert_eq!(world.state(1), Some(PaymentState::Refunded));
}

#[test]
fn what_is_the_shortest_of_the_shares_gets_the_unit_that_rounding_left() {
    let share = |amount, left: &[i64]| in_proportion(amount, left).to_vec();
    assert_eq!(share(1, &[1, 1, 1]), [1, 0, 0], "of equal ones the first");
    assert_eq!(share(2, &[1, 1, 1]), [1, 1, 0]);
    assert_eq!(share(10, &[70, 20, 10]), [7, 2, 1]);
    assert_eq!(share(5, &[10, 3, 1]), [4, 1, 0], "3.57, 1.07, 0.36");
    assert_eq!(share(1, &[1, 0, 2]), [0, 0, 1]);
    let large = 1_000_000_000_000_000;
    assert_eq!(share(64 * large, &[large; 64]), [large; 64]);
}

fn lefts() -> impl Strategy<Value = (i64, Vec<i64>)> {
    let lefts = proptest::collection::vec(prop_oneof![0..4i64, 0..1_000_000_000_000_001i64], 1..64);
    let lefts = lefts.prop_filter("something is left", |left| left.iter().any(|left| *left > 0));
    lefts.prop_flat_map(|left| (1..=left.iter().sum::<i64>(), Just(left)))
}

proptest! {
    #[test]
    fn shares_sum_to_the_amount_and_take_no_more_than_is_left((amount, left) in lefts()) {
        let shares = in_proportion(amount, &left);
        prop_assert_eq!(shares.iter().sum::<i64>(), amount);
        let total: i128 = left.iter().map(|left| i128::from(*left)).sum();
        for (share, left) in shares.iter().zip(&left) {
            prop_assert!((0..=*left).contains(share));
            let off = i128::from(*share) * total - i128::from(amount) * i128::from(*left);
            prop_assert!(off.abs() < total, "less than one unit from the exact share");
        }
    }

    #[test]
    fn all_that_is_left_is_shared_exactly((_, left) in lefts()) {
        prop_assert_eq!(in_proportion(left.iter().sum(), &left).to_vec(), left);
    }

    #[test]
    fn refunds_in_parts_come_to_zero_exactly(
        amounts in proptest::collection::vec(1..50i64, 1..8),
        parts in proptest::collection::vec(1..60i64, 1..40),
    ) {
        let mut world = World::with(2);
        let legs: Vec<_> = amounts.iter().map(|amount| leg(0, 1, *amount)).collect();
        world.one(split(1, legs));
        let mut left: i64 = amounts.iter().sum();
        for (number, part) in (2..).zip(parts) {
            let expected = if part <= left { PaymentState::Settled } else { PaymentState::Rejected };
            prop_assert_eq!(state_of(&world.one(refund(number, 1, part))), Some(expected));
            left -= if part <= left { part } else { 0 };
            prop_assert_eq!(world.payment(1).legs.iter().map(PaymentLeg::kept).sum::<i64>(), left);
        }
        if left > 0 {
            prop_assert!(is_settled(&world.one(refund(1000, 1, left))));
        }
        prop_assert_eq!(world.state(1), Some(PaymentState::Refunded));
        prop_assert_eq!(world.balance(1), (0, 0));
    }
}
