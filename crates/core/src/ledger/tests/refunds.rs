//! Money that goes back: refunds, chargebacks and their reversal.

use super::*;

/// 50 moved from 1 to 2.
fn paid() -> World {
    let mut world = World::funded(100);
    world.one(transfer(1, 1, 2, 50));
    world
}

#[test]
fn a_refund_moves_money_back_and_never_more_than_was_captured() {
    let mut world = paid();
    let outcome = world.one(refund(2, 1, 20));
    let made = &acted(&outcome).movements[0];
    assert_eq!((made.debit.after.account, made.debit.amount), (AccountIx(2), -20));
    assert_eq!((made.credit.after.account, made.credit.amount), (AccountIx(1), 20));
    assert_eq!(world.state(1), Some(PaymentState::PartiallyRefunded));
    assert_eq!(world.one(refund(3, 1, 31)), rejected(Rejection::AmountExceedsRemaining));
    let rest = world.one(refund(4, 1, None));
    assert_eq!(acted(&rest).moved, Some(30));
    assert_eq!((world.state(1), world.balance(1)), (Some(PaymentState::Refunded), (100, 0)));
    assert_eq!(world.one(refund(5, 1, None)), rejected(Rejection::AmountExceedsRemaining));
    assert_eq!(world.one(chargeback(6, 1, 1)), rejected(Rejection::AmountExceedsRemaining));
}

#[test]
fn of_many_refunds_of_one_batch_exactly_what_was_captured_goes_back() {
    let mut world = paid();
    let refunds: Vec<Task> = (2..66).map(|number| refund(number, 1, 2)).collect();
    let outcomes = world.apply(&refunds);
    assert_eq!(outcomes.iter().filter(|outcome| is_settled(outcome)).count(), 25);
    assert_eq!((world.state(1), world.balance(2)), (Some(PaymentState::Refunded), (0, 0)));
}

#[test]
fn a_refund_that_the_account_cannot_cover_is_rejected_not_overdrawn() {
    let mut world = paid();
    world.one(transfer(2, 2, 3, 40));
    assert_eq!(world.one(refund(3, 1, 11)), rejected(Rejection::InsufficientFunds));
    world.one(authorize(4, 2, 3, 5));
    assert_eq!(world.one(refund(5, 1, 6)), rejected(Rejection::InsufficientFunds), "what is held isn't there");
    assert!(is_settled(&world.one(refund(6, 1, 5))));
}

#[test]
fn a_refund_while_the_rest_is_held_shows_when_the_hold_ends() {
    let cases = [(5, PaymentState::Refunded), (2, PaymentState::PartiallyRefunded)];
    for (back, expected) in cases {
        let mut world = World::funded(100);
        world.apply(&[authorize(1, 1, 2, 8), capture_part(2, 1, 5), refund(3, 1, back)]);
        assert_eq!((world.state(1), world.payment(1).version()), (Some(PaymentState::PartiallyCaptured), 3));
        world.one(void(4, 1));
        assert_eq!(world.state(1), Some(expected));
    }
    let mut world = World::funded(100);
    world.apply(&[authorize(1, 1, 2, 8), capture_part(2, 1, 5), refund(3, 1, 5)]);
    world.now = second(100);
    assert_eq!(ended(&world.expire(&[1]).0[0]), PaymentState::Refunded);
    let mut world = World::funded(100);
    world.apply(&[authorize(1, 1, 2, 8), capture_part(2, 1, 5), refund(3, 1, 5), capture(4, 1, None)]);
    assert_eq!(world.state(1), Some(PaymentState::PartiallyRefunded), "what was captured last is kept");
    let mut world = World::funded(100);
    world.apply(&[authorize(1, 1, 2, 8), capture_part(2, 1, 5), chargeback(3, 1, 1), refund(4, 1, 4), void(5, 1)]);
    assert_eq!(world.state(1), Some(PaymentState::ChargedBack));
}

#[test]
fn a_chargeback_takes_the_account_below_its_limit_and_says_how_far() {
    let mut world = paid();
    world.one(transfer(2, 2, 3, 40));
    let outcome = world.one(chargeback(3, 1, 30));
    assert_eq!(acted(&outcome).movements[0].debit.after.shortfall, 20);
    assert_eq!((world.state(1), world.balance(2)), (Some(PaymentState::ChargedBack), (-20, 0)));
    assert_eq!(world.one(transfer(4, 2, 3, 1)), rejected(Rejection::InsufficientFunds));
    assert_eq!(world.one(chargeback(5, 1, 21)), rejected(Rejection::AmountExceedsRemaining));
}

#[test]
fn credits_make_a_shortfall_smaller_and_nothing_but_what_is_imposed_makes_it_larger() {
    let mut world = paid();
    world.apply(&[transfer(2, 2, 3, 40), authorize(3, 2, 3, 10), chargeback(4, 1, 30)]);
    assert_eq!((world.balance(2), world.accounts[2].shortfall), ((-20, 10), 30), "what is held counts");
    world.one(transfer(5, 0, 2, 15));
    assert_eq!(world.accounts[2].shortfall, 15);
    world.one(capture(6, 3, 5));
    assert_eq!((world.balance(2), world.accounts[2].shortfall), ((-10, 0), 10), "a release is money, too");
    world.one(chargeback(7, 1, 20));
    assert_eq!(world.accounts[2].shortfall, 30);
    world.one(transfer(8, 0, 2, 31));
    assert_eq!((world.balance(2), world.accounts[2].shortfall), ((1, 0), 0));
}

#[test]
fn a_reversal_takes_the_chargeback_back_and_the_payment_to_where_it_was() {
    let mut world = paid();
    world.apply(&[refund(2, 1, 10), chargeback(3, 1, 20)]);
    assert_eq!(world.state(1), Some(PaymentState::ChargedBack));
    let outcome = world.one(reversal(4, 1, 5));
    assert_eq!(acted(&outcome).movements[0].debit.after.account, AccountIx(1));
    assert_eq!(world.state(1), Some(PaymentState::ChargedBack), "a part is still charged back");
    world.one(reversal(5, 1, 15));
    assert_eq!(world.state(1), Some(PaymentState::PartiallyRefunded));
    let mut world = paid();
    world.apply(&[chargeback(2, 1, 50), reversal(3, 1, 50)]);
    assert_eq!((world.state(1), world.balance(1)), (Some(PaymentState::Settled), (50, 0)));
    assert!(is_settled(&world.one(chargeback(4, 1, 50))), "it can be charged back again");
}

#[test]
fn a_reversal_is_imposed_too() {
    let mut world = paid();
    world.apply(&[chargeback(2, 1, 50), transfer(3, 1, 3, 100)]);
    let outcome = world.one(reversal(4, 1, 50));
    assert_eq!(acted(&outcome).movements[0].debit.after.shortfall, 50);
}

#[test]
fn what_was_charged_back_cannot_be_refunded() {
    let mut world = paid();
    world.one(chargeback(2, 1, 30));
    assert_eq!(world.one(refund(3, 1, 21)), rejected(Rejection::AmountExceedsRemaining));
    assert_eq!(acted(&world.one(refund(4, 1, None))).moved, Some(20));
    assert_eq!(world.state(1), Some(PaymentState::ChargedBack));
    assert_eq!(world.one(refund(5, 1, None)), rejected(Rejection::AmountExceedsRemaining));
}

#[test]
fn money_that_goes_back_keeps_to_the_limit_of_who_gets_it() {
    let mut world = paid();
    world.one(limits(2, 1, None, Some(Some(60))));
    assert_eq!(world.one(refund(3, 1, 11)), rejected(Rejection::LimitExceeded));
    assert_eq!(world.one(chargeback(4, 1, 11)), rejected(Rejection::LimitExceeded));
    assert_eq!((world.state(1), world.balance(2)), (Some(PaymentState::Settled), (50, 0)));
}

#[test]
fn a_refund_before_its_capture_waits_for_it() {
    let mut world = World::funded(100);
    let outcomes = world.apply(&[authorize(1, 1, 2, 8), refund(2, 1, None), chargeback(3, 1, 9), reversal(4, 1, 2)]);
    let waits = Outcome::Parked { on: id(1), deadline: second(60) };
    assert!(outcomes[1..].iter().all(|outcome| *outcome == waits), "{outcomes:?}");
    world.one(capture_part(5, 1, 5));
    let again = world.resume().outcomes;
    assert_eq!(acted(&again[0]).moved, Some(5));
    assert_eq!(again[1..], [waits.clone(), waits], "more than is captured so far; no chargeback yet");
    world.one(void(6, 1));
    let again = world.resume().outcomes;
    assert_eq!(again[0], rejected(Rejection::AmountExceedsRemaining), "nothing is held that could be captured");
    assert_eq!(again[1], rejected(Rejection::AmountExceedsRemaining));
}

#[test]
fn a_reversal_before_its_chargeback_waits_for_it() {
    let mut world = paid();
    assert_eq!(world.one(reversal(2, 1, 10)), Outcome::Parked { on: id(1), deadline: second(60) });
    world.one(chargeback(3, 1, 5));
    assert_eq!(world.resume().outcomes, [Outcome::Parked { on: id(1), deadline: second(60) }]);
    world.one(chargeback(4, 1, 5));
    assert!(is_settled(&world.resume().outcomes[0]));
    assert_eq!(world.state(1), Some(PaymentState::Settled));
}
