//! A decline is final only when nothing that arrived before it can change it.

use super::*;
use crate::contract::AccountChange;

fn decide(world: &mut World, tasks: &[Task]) -> Vec<Outcome> {
    world.decide(tasks, &Earlier).outcomes
}

fn waits_on(account: usize) -> Outcome {
    Outcome::Deferred { waits_on: Some(name(account)) }
}

const BEHIND: Outcome = Outcome::Deferred { waits_on: None };

#[test]
fn a_decline_waits_for_an_earlier_credit_and_later_debits_stand_behind_it() {
    let mut world = World::with(3);
    world.accounts[2].posted = 10;
    // 2 → 0 doesn't need what is on its way.
    let tasks = [transfer(1, 1, 0, 5), transfer(2, 1, 0, 1), transfer(3, 2, 0, 5), transfer(1, 1, 0, 5)];
    let outcomes = decide(&mut world, &tasks);
    assert_eq!(outcomes[0], waits_on(1));
    assert_eq!(outcomes[1], BEHIND);
    assert!(is_settled(&outcomes[2]));
    assert_eq!(outcomes[3], BEHIND);
}

#[test]
fn a_decline_is_final_when_the_earlier_credit_was_decided_in_the_same_batch() {
    struct TheFirst;
    impl Pending for TheFirst {
        fn earlier(&self, _: &crate::contract::AccountName, before: Arrival) -> Vec<Arrival> {
            let first = Arrival(EARLIER.0 + 1);
            if before > first { vec![first] } else { Vec::new() }
        }
    }
    let mut world = World::with(2);
    let outcomes = world.decide(&[transfer(1, 0, 1, 5), transfer(2, 1, 0, 6)], &TheFirst).outcomes;
    assert_eq!(outcomes[1], rejected(Rejection::InsufficientFunds));
}

#[test]
fn an_altered_repetition_of_a_task_set_aside_stands_behind_it() {
    let mut world = World::with(3);
    world.accounts[2].posted = 10;
    let outcomes = decide(&mut world, &[transfer(1, 1, 0, 5), transfer(1, 2, 0, 5)]);
    assert_eq!(outcomes, [waits_on(1), BEHIND]);
}

#[test]
fn what_acts_on_a_payment_set_aside_stands_behind_it() {
    let mut world = World::with(4);
    world.accounts[3].posted = 5;
    let tasks = [
        authorize(1, 1, 2, 5),
        capture(2, 1, None),
        refund(3, 1, None),
        cancel(4, 1),
        after(1, transfer(5, 3, 2, 5)),
        transfer(6, 3, 2, 5),
    ];
    let outcomes = decide(&mut world, &tasks);
    assert_eq!(outcomes, [waits_on(1), BEHIND, BEHIND, BEHIND, BEHIND, BEHIND]);
    assert_eq!(world.balance(3), (5, 0));
}

#[test]
fn what_is_set_aside_when_its_time_has_come_keeps_others_behind_it() {
    let mut world = World::with(5);
    world.accounts[4].posted = 5;
    world.one(at(10, transfer(1, 1, 2, 5)));
    world.now = second(10);
    let scheduled = world.payment(1).clone();
    let tasks = [cancel(2, 1), refund(3, 1, None), after(1, transfer(4, 4, 2, 1)), transfer(5, 1, 2, 1)];
    let outcomes = world.decide_with(|_| true, &tasks, &Earlier).outcomes;
    assert_eq!(outcomes, [waits_on(1), BEHIND, BEHIND, BEHIND, BEHIND]);
    assert_eq!(world.payment(1), &scheduled, "it is still scheduled");
}

#[test]
fn a_refund_that_earlier_money_could_cover_waits_and_later_debits_of_its_account_stand_behind_it() {
    let mut world = World::funded(10);
    world.apply(&[transfer(1, 1, 2, 10), transfer(2, 2, 0, 4)]);
    let outcomes = decide(&mut world, &[refund(3, 1, 10), transfer(4, 2, 0, 1), chargeback(5, 1, 10)]);
    assert_eq!(outcomes, [waits_on(2), BEHIND, BEHIND]);
    assert_eq!(world.balance(2), (6, 0));
}

#[test]
fn all_that_acts_on_a_payment_stands_behind_what_of_it_was_set_aside() {
    let mut world = World::funded(10);
    world.apply(&[authorize(1, 1, 2, 10), capture_part(2, 1, 6), transfer(3, 2, 0, 4)]);
    let outcomes = decide(&mut world, &[refund(4, 1, 6), capture_part(5, 1, 2), void(6, 1)]);
    assert_eq!(outcomes, [waits_on(2), BEHIND, BEHIND]);
    assert_eq!(world.balance(1), (4, 4));
}

#[test]
fn a_declined_leg_waits_for_its_account() {
    let mut world = World::funded(10);
    let outcomes = decide(&mut world, &[split(1, [leg(1, 2, 5), leg(3, 2, 5)]), transfer(2, 3, 0, 1)]);
    assert_eq!(outcomes, [waits_on(3), BEHIND]);
    assert_eq!(world.balance(1), (10, 0));
}

#[test]
fn an_account_is_changed_only_after_all_that_came_before() {
    let mut world = World::funded(10);
    let outcomes = decide(&mut world, &[change(1, 1, AccountChange::Freeze), transfer(2, 1, 0, 5)]);
    assert_eq!(outcomes, [waits_on(1), BEHIND]);
    assert_eq!(world.accounts[1].status, AccountStatus::Open);
}

#[test]
fn what_waits_for_its_time_is_not_set_aside() {
    let mut world = World::with(2);
    assert_eq!(decide(&mut world, &[at(5, transfer(1, 1, 0, 5))]), [Outcome::Scheduled(second(5))]);
}
