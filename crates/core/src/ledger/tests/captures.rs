//! The life of a hold: captured, voided, expired.

use super::*;
use crate::contract::Action;

fn held(amount: i64) -> World {
    let mut world = World::funded(100);
    world.one(authorize(1, 1, 2, amount));
    world
}

#[test]
fn an_authorization_holds_and_moves_nothing() {
    let mut world = World::funded(10);
    let outcome = world.one(authorize(1, 1, 2, 8));
    let done = acted(&outcome);
    assert_eq!((state_of(&outcome), done.movements.len()), (Some(PaymentState::Authorized), 0));
    assert_eq!(done.balances[..], [Balance { account: AccountIx(1), posted: 10, held: 8, version: 0, shortfall: 0 }]);
    assert_eq!(world.one(transfer(2, 1, 2, 3)), rejected(Rejection::InsufficientFunds));
    assert_eq!(world.one(authorize(3, 1, 2, 3)), rejected(Rejection::InsufficientFunds));
    assert!(is_settled(&world.one(transfer(4, 1, 2, 2))));
}

#[test]
fn a_capture_without_amount_posts_all_and_the_posting_knows_what_is_still_held() {
    let mut world = held(8);
    let outcome = world.one(capture(2, 1, None));
    let done = acted(&outcome);
    let [made] = done.movements.as_slice() else { panic!("one movement, not {done:?}") };
    assert_eq!((made.debit.amount, made.credit.amount, done.moved), (-8, 8, Some(8)));
    assert_eq!((made.debit.after.posted, made.debit.after.held), (92, 0));
    assert!(done.balances.is_empty(), "the posting says it");
    assert_eq!(world.state(1), Some(PaymentState::Settled));
    assert_eq!((world.balance(1), world.balance(2)), ((92, 0), (8, 0)));
}

#[test]
fn a_final_capture_of_a_part_releases_the_rest() {
    let mut world = held(8);
    let outcome = world.one(capture(2, 1, 3));
    let done = acted(&outcome);
    assert_eq!((done.movements[0].debit.after.posted, done.movements[0].debit.after.held), (97, 0));
    assert_eq!(world.state(1), Some(PaymentState::Settled));
    assert_eq!(world.balance(1), (97, 0));
    assert_eq!(world.one(capture(3, 1, None)), rejected(Rejection::AlreadyCaptured));
}

#[test]
fn captures_that_are_not_final_keep_the_rest_until_all_is_captured() {
    let mut world = held(8);
    world.one(capture_part(2, 1, 3));
    assert_eq!((world.state(1), world.balance(1)), (Some(PaymentState::PartiallyCaptured), (97, 5)));
    assert_eq!(world.one(capture_part(3, 1, 6)), rejected(Rejection::AmountExceedsRemaining));
    world.one(capture_part(4, 1, 5));
    assert_eq!((world.state(1), world.balance(1)), (Some(PaymentState::Settled), (92, 0)));
    assert_eq!(world.payment(1).version(), 3);
    assert_eq!(world.payment(1).expires_at, None);
}

#[test]
fn the_captures_of_one_batch_follow_one_another() {
    let mut world = World::funded(10);
    let outcomes = world.apply(&[authorize(1, 1, 2, 8), capture_part(2, 1, 3), capture(3, 1, None), void(4, 1)]);
    assert_eq!(acted(&outcomes[2]).moved, Some(5));
    assert_eq!(outcomes[3], rejected(Rejection::AlreadyCaptured));
    let versions: Vec<i32> =
        outcomes.iter().take(3).map(|done| acted(done).payment.as_ref().expect("the parent").version()).collect();
    assert_eq!(versions, [1, 2, 3]);
}

#[test]
fn every_step_of_a_payment_is_a_transition_with_its_cause() {
    let mut world = World::funded(10);
    let decision = world.decide(&[authorize(1, 1, 2, 8), capture_part(2, 1, 3), void(3, 1)], &NonePending);
    use PaymentState::{Authorized, PartiallyCaptured, Settled};
    let step = |version, from, to, by| Transition { payment: id(1), version, from, to, cause: Some(id(by)) };
    let expected = [step(2, Authorized, PartiallyCaptured, 2), step(3, PartiallyCaptured, Settled, 3)];
    assert_eq!(decision.transitions, expected);
}

#[test]
fn a_void_releases_all_and_ends_the_payment() {
    let mut world = held(8);
    let outcome = world.one(void(2, 1));
    let done = acted(&outcome);
    assert_eq!((done.balances[0].held, done.movements.len(), done.moved), (0, 0, None));
    assert_eq!((world.state(1), world.balance(1)), (Some(PaymentState::Voided), (100, 0)));
    for task in [capture(3, 1, None), void(4, 1), refund(5, 1, None), chargeback(6, 1, 1)] {
        assert_eq!(world.one(task), rejected(Rejection::PaymentVoided));
    }
    assert_eq!(world.one(cancel(7, 1)), rejected(Rejection::AlreadyApplied));
}

#[test]
fn a_void_of_what_is_partially_captured_leaves_it_settled() {
    let mut world = held(8);
    world.apply(&[capture_part(2, 1, 3), void(3, 1)]);
    assert_eq!((world.state(1), world.balance(1)), (Some(PaymentState::Settled), (97, 0)));
    assert!(is_settled(&world.one(refund(4, 1, 3))));
}

#[test]
fn a_hold_expires_at_its_time_and_only_once() {
    let mut world = held(8);
    world.now = second(99);
    assert!(world.expire(&[1]).0.is_empty());
    world.now = second(100);
    let (done, transitions) = world.expire(&[1, 1, 7]);
    assert_eq!((done.len(), ended(&done[0]), done[0].balances[0].held), (1, PaymentState::Expired, 0));
    let (from, to) = (PaymentState::Authorized, PaymentState::Expired);
    assert_eq!(transitions, [Transition { payment: id(1), version: 2, from, to, cause: None }]);
    assert_eq!(world.balance(1), (100, 0));
    assert_eq!(world.expire(&[1]), (vec![], vec![]));
    assert_eq!(world.one(capture(2, 1, None)), rejected(Rejection::PaymentExpired));
}

#[test]
fn a_capture_at_the_moment_of_expiry_comes_too_late_whoever_writes_it_down_first() {
    let mut world = held(8);
    world.now = second(100);
    assert_eq!(world.one(capture(2, 1, None)), rejected(Rejection::PaymentExpired));
    world.now = second(99);
    assert!(is_settled(&world.one(capture(3, 1, None))));
}

#[test]
fn what_was_captured_before_the_expiry_stays() {
    let mut world = held(8);
    world.one(capture_part(2, 1, 3));
    world.now = second(100);
    let (done, _) = world.expire(&[1]);
    assert_eq!(ended(&done[0]), PaymentState::Settled);
    assert_eq!((world.balance(1), world.balance(2)), ((97, 0), (3, 0)));
}

#[test]
fn a_hold_lasts_as_long_as_it_asks_for_up_to_the_longest() {
    let mut world = World::funded(100);
    let outcomes = world.apply(&[authorize_for(1, 1, 1000), authorize_for(2, 1, 1001), authorize_for(3, 1, 1)]);
    assert_eq!(outcomes[1], rejected(Rejection::ExpiryOutOfRange));
    assert_eq!(world.payment(1).expires_at, Some(second(1000)));
    assert_eq!(world.payment(3).expires_at, Some(second(1)));
}

#[test]
fn a_capture_that_cannot_be_paid_in_leaves_the_hold() {
    let mut world = held(8);
    world.one(limits(2, 2, None, Some(Some(5))));
    assert_eq!(world.one(capture(3, 1, None)), rejected(Rejection::LimitExceeded));
    assert_eq!((world.state(1), world.balance(1)), (Some(PaymentState::Authorized), (100, 8)));
    assert!(is_settled(&world.one(capture(4, 1, 5))));
}

#[test]
fn a_transfer_has_no_hold_and_what_moves_nothing_is_no_payment() {
    let mut world = held(8);
    world.apply(&[transfer(2, 1, 2, 5), capture_part(3, 1, 2)]);
    for task in [capture(4, 2, None), void(5, 2)] {
        assert_eq!(world.one(task), rejected(Rejection::AlreadyCaptured));
    }
    assert_eq!(world.one(refund(6, 3, None)), rejected(Rejection::PaymentNotFound), "a capture is not the payment");
    assert_eq!(world.one(cancel(7, 3)), rejected(Rejection::AlreadyApplied));
}

#[test]
fn a_declined_authorization_can_be_nobodys_parent() {
    let mut world = World::with(3);
    let outcomes = world.apply(&[authorize(1, 1, 2, 5), capture(2, 1, None), refund(3, 1, None), cancel(4, 1)]);
    assert_eq!(outcomes[0], rejected(Rejection::InsufficientFunds));
    assert!(outcomes[1..].iter().all(|outcome| *outcome == rejected(Rejection::PaymentRejected)));
}

#[test]
fn the_only_leg_can_be_named_and_no_other() {
    let mut world = held(8);
    let of_leg =
        |number, leg| follow_up(number, 1, Action::Capture { amount: Some(2), leg: Some(leg), is_final: false });
    assert_eq!(world.one(of_leg(2, 1)), rejected(Rejection::LegNotFound));
    assert!(is_settled(&world.one(of_leg(3, 0))));
}
