//! What waits: for its time, for its payment, for another task.

use super::*;
use crate::contract::AccountChange;

fn parked(on: u128, until: i64) -> Outcome {
    Outcome::Parked { on: id(on), deadline: second(until) }
}

fn step(payment: u128, version: i32, from: PaymentState, to: PaymentState, by: u128) -> Transition {
    Transition { payment: id(payment), version, from, to, cause: Some(id(by)) }
}

#[test]
fn any_task_can_be_scheduled_and_is_applied_when_its_time_has_come() {
    let mut world = World::funded(10);
    world.apply(&[transfer(1, 1, 2, 1), authorize(2, 1, 2, 1)]);
    let tasks = [
        transfer(3, 1, 2, 1),
        split(4, [leg(1, 2, 1)]),
        authorize(5, 1, 2, 1),
        refund(6, 1, 1),
        void(7, 2),
        limits(8, 3, Some(Some(-1)), None),
    ];
    let outcomes = world.apply(&tasks.map(|task| at(10, task)));
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Scheduled(second(10))), "{outcomes:?}");
    world.now = second(10);
    let decision = world.resume();
    let states: Vec<_> = decision.outcomes.iter().map(state_of).collect();
    use PaymentState::{Authorized, Scheduled, Settled, Voided};
    assert_eq!(states, [Settled, Settled, Authorized, Settled, Settled, Settled].map(Some));
    assert!(decision.transitions.contains(&step(5, 2, Scheduled, Authorized, 5)));
    assert!(decision.transitions.contains(&step(2, 2, Authorized, Voided, 7)));
    assert!(decision.transitions.contains(&step(7, 2, Scheduled, Settled, 7)));
    assert_eq!(world.payment(5).version(), 2);
    assert_eq!(world.payment(5).expires_at, Some(second(110)), "the hold begins when it is applied");
}

#[test]
fn a_time_that_is_past_is_at_once() {
    assert!(is_settled(&World::funded(10).one(at(0, transfer(1, 1, 2, 1)))));
}

#[test]
fn a_task_that_is_wrong_by_itself_is_rejected_at_once_whatever_its_time() {
    assert_eq!(World::with(3).one(at(10, transfer(1, 1, 1, 1))), rejected(Rejection::SameAccount));
}

#[test]
fn what_is_looked_at_again_too_early_stays_as_it_was() {
    let mut world = World::funded(10);
    world.apply(&[at(10, transfer(1, 1, 2, 1)), refund(2, 9, 1)]);
    let before = world.payments.clone();
    let decision = world.resume();
    assert_eq!(decision.outcomes, [Outcome::Scheduled(second(10)), parked(9, 60)]);
    assert_eq!(decision.transitions, []);
    assert_eq!(world.payments, before);
}

#[test]
fn a_clock_that_is_set_back_does_not_schedule_again_what_is_parked() {
    let mut world = World::funded(10);
    world.one(at(10, refund(1, 9, 1)));
    world.now = second(10);
    assert_eq!(world.resume().outcomes, [parked(9, 70)]);
    world.now = second(5);
    let decision = world.resume();
    assert_eq!((decision.outcomes, decision.transitions), (vec![parked(9, 70)], vec![]));
}

#[test]
fn what_is_applied_is_not_applied_again_when_it_is_looked_at_twice() {
    let mut world = World::funded(10);
    let due = at(10, transfer(1, 1, 2, 1));
    world.one(due.clone());
    assert_eq!(world.one(due.clone()), Outcome::Duplicate);
    assert_eq!(world.one(at(11, transfer(1, 1, 2, 1))), Outcome::Conflict("execute_at"));
    world.now = second(10);
    assert_eq!(world.one(due), Outcome::Duplicate, "a repetition isn't the task itself");
    world.one(cancel(2, 1));
    assert_eq!(world.resume().outcomes, [Outcome::Duplicate]);
    assert_eq!(world.state(1), Some(PaymentState::Canceled));
}

#[test]
fn follow_ups_published_before_their_payment_are_parked_and_applied_when_it_is_there() {
    let mut world = World::funded(10);
    let outcomes = world.apply(&[refund(3, 1, 4), capture(2, 1, None)]);
    assert_eq!(outcomes, [parked(1, 60), parked(1, 60)]);
    world.one(authorize(1, 1, 2, 8));
    let decision = world.resume();
    assert_eq!(decision.outcomes[0], parked(1, 60), "nothing is captured yet");
    assert!(is_settled(&decision.outcomes[1]));
    use PaymentState::{Authorized, Parked, PartiallyRefunded, Settled};
    assert_eq!(decision.transitions, [step(1, 2, Authorized, Settled, 2), step(2, 2, Parked, Settled, 2)]);
    let decision = world.resume();
    let expected = [step(1, 3, Settled, PartiallyRefunded, 3), step(3, 2, Parked, Settled, 3)];
    assert_eq!(decision.transitions, expected);
}

#[test]
fn what_nothing_came_for_is_rejected_at_its_deadline_with_the_reason() {
    let mut world = World::funded(100);
    world.apply(&[authorize(1, 1, 2, 8), transfer(2, 1, 2, 1)]);
    let outcomes = world.apply(&[
        capture(3, 9, None),
        refund(4, 1, 1),
        reversal(5, 2, 1),
        after(9, transfer(6, 1, 2, 1)),
        cancel(7, 9),
    ]);
    assert!(outcomes.iter().all(|outcome| state_of(outcome) == Some(PaymentState::Parked)));
    world.now = second(59);
    assert!(world.resume().transitions.is_empty());
    world.now = second(60);
    use Rejection::{AmountExceedsRemaining, DependencyNotFound, NotCaptured, PaymentNotFound};
    let expected = [PaymentNotFound, NotCaptured, AmountExceedsRemaining, DependencyNotFound, PaymentNotFound];
    assert_eq!(world.resume().outcomes, expected.map(rejected));
}

#[test]
fn who_waits_for_what_is_scheduled_has_time_until_after_that() {
    let mut world = World::funded(10);
    let tasks = [at(500, authorize(1, 1, 2, 8)), capture(2, 1, None), after(2, transfer(3, 1, 2, 1))];
    let outcomes = world.apply(&tasks);
    assert_eq!(outcomes[1..], [parked(1, 560), parked(2, 560)]);
    world.now = second(500);
    let states: Vec<_> = world.resume().outcomes.iter().map(state_of).collect();
    assert_eq!(states, [PaymentState::Authorized, PaymentState::Settled, PaymentState::Settled].map(Some));
}

#[test]
fn who_waits_for_what_is_parked_has_its_deadline_at_least() {
    let mut world = World::funded(10);
    world.one(refund(1, 9, None));
    world.now = second(30);
    assert_eq!(world.one(after(1, transfer(2, 1, 2, 1))), parked(1, 90), "an own deadline that is later stays");
    world.one(at(400, transfer(9, 1, 2, 1)));
    assert_eq!(world.resume().outcomes, [parked(9, 460), parked(1, 460), Outcome::Scheduled(second(400))]);
}

#[test]
fn a_task_comes_only_after_the_outcome_of_the_one_it_names() {
    let mut world = World::funded(10);
    assert_eq!(world.one(after(1, transfer(2, 1, 2, 1))), parked(1, 60));
    world.one(at(5, transfer(1, 1, 2, 1)));
    assert_eq!(world.resume().outcomes[0], parked(1, 65), "it is scheduled: no outcome");
    world.now = second(5);
    let outcomes = world.resume().outcomes;
    assert_eq!(outcomes[0], parked(1, 65), "it came first in the batch");
    assert!(is_settled(&outcomes[1]));
    assert!(is_settled(&world.resume().outcomes[0]));
    assert!(is_settled(&world.one(after(2, transfer(3, 1, 2, 1)))));
}

#[test]
fn a_declined_or_canceled_dependency_fails_whoever_comes_after_it() {
    let mut world = World::funded(10);
    let tasks = [
        transfer(1, 1, 2, 11),
        after(1, transfer(2, 1, 2, 1)),
        after(2, change(3, 1, AccountChange::Freeze)),
        at(5, transfer(4, 1, 2, 1)),
        after(4, transfer(5, 1, 2, 1)),
        cancel(6, 4),
        authorize(7, 1, 2, 1),
        void(8, 7),
        after(7, transfer(9, 1, 2, 1)),
    ];
    let outcomes = world.apply(&tasks);
    assert_eq!(outcomes[1..3], [rejected(Rejection::DependencyFailed), rejected(Rejection::DependencyFailed)]);
    assert_eq!(world.resume().outcomes[1], rejected(Rejection::DependencyFailed));
    assert!(is_settled(&outcomes[8]), "what was voided has happened");
}

#[test]
fn tasks_that_wait_for_each_other_end_at_the_deadline() {
    let mut world = World::funded(10);
    world.one(after(2, transfer(1, 1, 2, 1)));
    world.now = second(30);
    assert_eq!(world.one(after(1, transfer(2, 1, 2, 1))), parked(1, 90));
    for now in [40, 60, 89] {
        world.now = second(now);
        assert_eq!(world.resume().outcomes, [parked(2, 90), parked(1, 90)]);
    }
    world.now = second(90);
    let expected = [rejected(Rejection::DependencyNotFound), rejected(Rejection::DependencyFailed)];
    assert_eq!(world.resume().outcomes, expected);
}

#[test]
fn what_is_scheduled_or_parked_can_be_canceled_once() {
    let mut world = World::funded(10);
    world.apply(&[at(5, transfer(1, 1, 2, 1)), capture(2, 9, None), at(5, limits(3, 1, Some(None), None))]);
    for (number, parent, from) in
        [(10, 1, PaymentState::Scheduled), (11, 2, PaymentState::Parked), (12, 3, PaymentState::Scheduled)]
    {
        let decision = world.decide(&[cancel(number, parent)], &NonePending);
        assert!(is_settled(&decision.outcomes[0]));
        assert_eq!(decision.transitions, [step(parent, 2, from, PaymentState::Canceled, number)]);
        assert_eq!(world.payment(parent).deadline, None, "it waits no more");
        assert_eq!(world.one(cancel(number + 10, parent)), rejected(Rejection::PaymentCanceled));
    }
    assert_eq!(world.one(refund(30, 1, 1)), rejected(Rejection::PaymentCanceled));
    assert_eq!(world.one(after(1, transfer(31, 1, 2, 1))), rejected(Rejection::DependencyFailed));
    world.now = second(5);
    assert!(world.resume().outcomes.iter().all(|outcome| *outcome == Outcome::Duplicate));
    assert_eq!(world.balance(1), (10, 0));
}

#[test]
fn a_cancel_can_come_before_what_it_cancels() {
    let mut world = World::funded(10);
    assert_eq!(world.one(cancel(2, 1)), parked(1, 60));
    world.one(at(5, transfer(1, 1, 2, 1)));
    let decision = world.resume();
    assert!(is_settled(&decision.outcomes[0]));
    assert_eq!(decision.outcomes[1], Outcome::Duplicate, "canceled in the same batch");
    assert_eq!(world.state(1), Some(PaymentState::Canceled));
    world.apply(&[cancel(4, 3), transfer(3, 1, 2, 1)]);
    assert_eq!(world.resume_those(|task| task.id == id(4)).outcomes, [rejected(Rejection::AlreadyApplied)]);
}

#[test]
fn each_task_says_from_which_stage_to_which_its_own_payment_went() {
    let mut world = World::funded(10);
    let first = world.decide(&[transfer(1, 1, 2, 1), at(5, transfer(3, 1, 2, 1)), refund(4, 9, 1)], &NonePending);
    let stages = |steps: &[Option<Step>]| -> Vec<_> {
        let of = |stage: Stage| (stage.state(), stage.version());
        steps.iter().map(|step| step.map(|step| (step.before.map(of), of(step.after)))).collect()
    };
    use PaymentState::{Parked, Scheduled, Settled};
    let new = |state| Some((None, (state, 1)));
    assert_eq!(stages(&first.steps), [new(Settled), new(Scheduled), new(Parked)]);
    world.now = second(5);
    let again = world.resume();
    let resumed = |from, to, version| Some((Some((from, 1)), (to, version)));
    assert_eq!(stages(&again.steps), [resumed(Scheduled, Settled, 2), resumed(Parked, Parked, 1)]);
    assert!(again.steps[1].is_some_and(|step| step.keeps_waiting()));
    assert_eq!(stages(&world.decide(&[transfer(1, 1, 2, 1)], &NonePending).steps), [None], "a repetition");
}

#[test]
fn what_goes_on_waiting_and_is_then_canceled_in_the_same_batch_takes_one_step() {
    let mut world = World::funded(10);
    world.one(refund(1, 9, 1));
    let decision = world.decide_with(|_| true, &[cancel(2, 1)], &NonePending);
    assert_eq!(decision.outcomes[0], parked(9, 60));
    assert!(decision.steps[0].is_some_and(|step| step.keeps_waiting()), "nothing that anybody is told");
    assert_eq!(decision.transitions, [step(1, 2, PaymentState::Parked, PaymentState::Canceled, 2)]);
    assert_eq!((world.state(1), world.payment(1).version()), (Some(PaymentState::Canceled), 2));
}
