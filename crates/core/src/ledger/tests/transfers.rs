//! Plain transfers and the opening of accounts.

use super::*;
use crate::contract::MAX_BALANCE;

#[test]
fn two_debits_of_sixty_from_a_hundred_give_one_settled_and_one_rejected() {
    let mut world = World::with(2);
    let outcomes = world.apply(&[transfer(1, 0, 1, 100), transfer(2, 1, 0, 60), transfer(3, 1, 0, 60)]);
    assert!(is_settled(&outcomes[0]) && is_settled(&outcomes[1]));
    assert_eq!(outcomes[2], rejected(Rejection::InsufficientFunds));
    assert_eq!(world.balance(1), (40, 0));
}

#[test]
fn open_fund_and_spend_in_one_batch_all_succeed() {
    let mut world = World::of(vec![Account::unopened(0), Account::unopened(1)]);
    let outcomes = world.apply(&[open(1, 0, None), open(2, 1, Some(0)), transfer(3, 0, 1, 5), transfer(4, 1, 0, 5)]);
    assert_eq!(outcomes[..2], [Outcome::Opened, Outcome::Opened]);
    assert!(is_settled(&outcomes[2]) && is_settled(&outcomes[3]));
}

#[test]
fn a_repeated_id_is_a_duplicate_or_a_conflict_that_names_the_field() {
    let repetitions = [transfer(1, 0, 1, 5), transfer(1, 0, 1, 6), transfer(1, 0, 2, 5), open(1, 2, None)];
    let expected = [
        Outcome::Duplicate,
        Outcome::Conflict("amount"),
        Outcome::Conflict("credit_account"),
        Outcome::Conflict("type"),
    ];
    let mut world = World::with(3);
    let mut tasks = vec![transfer(1, 0, 1, 5)];
    tasks.extend(repetitions.clone());
    let outcomes = world.apply(&tasks);
    assert!(is_settled(&outcomes[0]));
    assert_eq!(outcomes[1..], expected, "in the same batch");
    assert_eq!(world.apply(&repetitions), expected, "in a later one");
    assert_eq!(world.balance(1), (5, 0));
}

#[test]
fn a_balance_stays_within_its_bounds() {
    let mut world = World::with(2);
    world.accounts[1].posted = MAX_BALANCE - 1;
    let outcomes = world.apply(&[transfer(1, 0, 1, 1), transfer(2, 0, 1, 1)]);
    assert!(is_settled(&outcomes[0]));
    assert_eq!(outcomes[1], rejected(Rejection::LimitExceeded));
}
