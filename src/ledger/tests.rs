use std::collections::HashMap;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::contract::{AccountName, Currency, OpenAccount, Rejection, Task, TaskBody, Transfer};

/// One pending credit to each account, that arrived as number 0.
struct OneEarlier;

impl Pending for OneEarlier {
    fn earlier(&self, _: &AccountName, before: Arrival) -> Vec<Arrival> {
        if before > Arrival(0) { vec![Arrival(0)] } else { Vec::new() }
    }
}

fn name(ix: usize) -> AccountName {
    AccountName::parse(&format!("a{ix}")).expect("valid")
}

fn usd() -> Currency {
    Currency::parse("USD").expect("valid")
}

fn transfer(id: u128, debit: usize, credit: usize, amount: i64) -> Task {
    let body = Transfer {
        debit_account: name(debit),
        credit_account: name(credit),
        amount,
        currency: usd(),
        reference: None,
        metadata: None,
    };
    Task::new(Uuid::from_u128(id), TaskBody::Transfer(body))
}

fn open(id: u128, account: usize, min_balance: Option<i64>) -> Task {
    Task::new(
        Uuid::from_u128(id),
        TaskBody::OpenAccount(OpenAccount { account: name(account), currency: usd(), min_balance }),
    )
}

fn ix(name: &AccountName) -> AccountIx {
    AccountIx(name.as_str()[1..].parse().expect("a number"))
}

/// Account 0 has no limit, the others must not go below zero.
fn opened(count: usize) -> Vec<Account> {
    (0..count)
        .map(|id| Account {
            status: AccountStatus::Open,
            currency: Some(usd()),
            min_balance: (id > 0).then_some(0),
            ..Account::unopened(id as i64)
        })
        .collect()
}

fn apply_from(first: u64, tasks: &[Task], accounts: &mut [Account], pending: &impl Pending) -> Vec<Outcome> {
    let items: Vec<Item<'_>> = tasks
        .iter()
        .enumerate()
        .map(|(position, task)| Item {
            task,
            arrival: Arrival(first + position as u64),
            ordering: ix(task.body.ordering_account()),
            credited: ix(task.body.credited_account()),
        })
        .collect();
    apply(&items, accounts, &HashMap::new(), pending)
}

fn settled(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Settled { .. })
}

#[test]
fn two_debits_of_sixty_from_a_hundred_give_one_settled_and_one_rejected() {
    let mut accounts = opened(2);
    let tasks = [transfer(1, 0, 1, 100), transfer(2, 1, 0, 60), transfer(3, 1, 0, 60)];
    let outcomes = apply_from(0, &tasks, &mut accounts, &NonePending);
    assert!(settled(&outcomes[0]) && settled(&outcomes[1]));
    assert_eq!(outcomes[2], Outcome::Rejected(Rejection::InsufficientFunds));
    assert_eq!(accounts[1].posted, 40);
}

#[test]
fn open_fund_and_spend_in_one_batch_all_succeed() {
    let mut accounts = vec![Account::unopened(0), Account::unopened(1)];
    let tasks = [open(1, 0, None), open(2, 1, Some(0)), transfer(3, 0, 1, 5), transfer(4, 1, 0, 5)];
    let outcomes = apply_from(0, &tasks, &mut accounts, &NonePending);
    assert_eq!(outcomes[..2], [Outcome::Opened, Outcome::Opened]);
    assert!(settled(&outcomes[2]) && settled(&outcomes[3]));
}

#[test]
fn a_repeated_id_is_a_duplicate_or_a_conflict_that_names_the_field() {
    let mut accounts = opened(3);
    let tasks =
        [transfer(1, 0, 1, 5), transfer(1, 0, 1, 5), transfer(1, 0, 1, 6), transfer(1, 0, 2, 5), open(1, 2, None)];
    let outcomes = apply_from(0, &tasks, &mut accounts, &NonePending);
    assert!(settled(&outcomes[0]));
    let rest = [
        Outcome::Duplicate,
        Outcome::Conflict("amount"),
        Outcome::Conflict("credit_account"),
        Outcome::Conflict("type"),
    ];
    assert_eq!(outcomes[1..], rest);
    assert_eq!(accounts[1].posted, 5);
}

#[test]
fn the_ladder_of_rejections_has_one_precedence() {
    let mut accounts = opened(4);
    accounts[2].status = AccountStatus::Closed;
    accounts[3].status = AccountStatus::Frozen;
    accounts.push(Account::unopened(4));
    let mut foreign = transfer(9, 0, 1, 5);
    if let TaskBody::Transfer(transfer) = &mut foreign.body {
        transfer.currency = Currency::parse("EUR").expect("valid");
    }
    let mut unknown = transfer(10, 1, 1, 0);
    if let TaskBody::Transfer(transfer) = &mut unknown.body {
        transfer.currency = Currency::parse("QQQ").expect("valid");
    }
    let tasks = [
        transfer(1, 1, 1, 0),
        transfer(2, 1, 1, 5),
        transfer(3, 4, 2, 5),
        transfer(4, 1, 4, 5),
        transfer(5, 2, 4, 5),
        transfer(6, 3, 1, 5),
        transfer(7, 1, 0, 5),
        transfer(8, 0, 1, i64::MAX),
        foreign,
        unknown,
        open(11, 1, None),
        open(12, 2, None),
        open(13, 4, Some(1)),
    ];
    use Rejection::*;
    let expected = [
        AmountOutOfRange,
        SameAccount,
        AccountNotFound,
        AccountNotFound,
        AccountClosed,
        AccountFrozen,
        InsufficientFunds,
        AmountOutOfRange,
        CurrencyMismatch,
        UnknownCurrency,
        AccountExists,
        AccountClosed,
        AmountOutOfRange,
    ];
    let outcomes = apply_from(0, &tasks, &mut accounts, &NonePending);
    assert_eq!(outcomes, expected.map(Outcome::Rejected));
}

#[test]
fn a_balance_stays_within_its_bounds() {
    let mut accounts = opened(2);
    accounts[1].posted = crate::contract::MAX_BALANCE - 1;
    let outcomes = apply_from(0, &[transfer(1, 0, 1, 1), transfer(2, 0, 1, 1)], &mut accounts, &NonePending);
    assert!(settled(&outcomes[0]));
    assert_eq!(outcomes[1], Outcome::Rejected(Rejection::LimitExceeded));
}

#[test]
fn a_decline_waits_for_an_earlier_credit_and_later_debits_stand_behind_it() {
    let mut accounts = opened(3);
    accounts[2].posted = 10;
    // Arrival 0 is in another lane. 2 → 0 doesn't need it.
    let tasks = [transfer(1, 1, 0, 5), transfer(2, 1, 0, 1), transfer(3, 2, 0, 5), transfer(1, 1, 0, 5)];
    let outcomes = apply_from(1, &tasks, &mut accounts, &OneEarlier);
    assert_eq!(outcomes[0], Outcome::SetAside { waits_on: Some(name(1)) });
    assert_eq!(outcomes[1], Outcome::SetAside { waits_on: None });
    assert!(settled(&outcomes[2]));
    assert_eq!(outcomes[3], Outcome::SetAside { waits_on: None });
}

#[test]
fn a_decline_is_final_when_the_earlier_credit_was_decided_in_the_same_batch() {
    let mut accounts = opened(2);
    let outcomes = apply_from(0, &[transfer(1, 0, 1, 5), transfer(2, 1, 0, 6)], &mut accounts, &OneEarlier);
    assert_eq!(outcomes[1], Outcome::Rejected(Rejection::InsufficientFunds));
}

#[test]
fn an_altered_repetition_of_a_task_set_aside_stands_behind_it() {
    let mut accounts = opened(3);
    accounts[2].posted = 10;
    let outcomes = apply_from(1, &[transfer(1, 1, 0, 5), transfer(1, 2, 0, 5)], &mut accounts, &OneEarlier);
    assert!(outcomes.iter().all(|outcome| !outcome.is_decided()), "{outcomes:?}");
}

fn any_task() -> impl Strategy<Value = Task> {
    prop_oneof![
        8 => (0u128..60, 0usize..6, 0usize..6, -1i64..50).prop_map(|(id, debit, credit, amount)| transfer(id, debit, credit, amount)),
        1 => (0u128..60, 0usize..6, proptest::option::of(-20i64..2)).prop_map(|(id, account, limit)| open(id, account, limit)),
    ]
}

fn start() -> Vec<Account> {
    let mut accounts = opened(4);
    accounts.extend([Account::unopened(4), Account::unopened(5)]);
    accounts
}

proptest! {
    #[test]
    fn money_is_conserved_and_no_balance_falls_below_its_limit(tasks in proptest::collection::vec(any_task(), 0..80)) {
        let mut accounts = start();
        let outcomes = apply_from(0, &tasks, &mut accounts, &NonePending);
        prop_assert_eq!(accounts.iter().map(|account| account.posted).sum::<i64>(), 0);
        for account in &accounts {
            prop_assert!(account.min_balance.is_none_or(|limit| account.posted - account.held >= limit));
        }
        let entries: i64 = accounts.iter().map(|account| account.version).sum();
        prop_assert_eq!(entries, 2 * outcomes.iter().filter(|outcome| settled(outcome)).count() as i64);
    }

    #[test]
    fn a_batch_gives_what_one_by_one_gives(tasks in proptest::collection::vec(any_task(), 0..80), cut in 0usize..80) {
        let (mut whole, mut pieces) = (start(), start());
        let at_once = apply_from(0, &tasks, &mut whole, &NonePending);
        // What the first piece decided is what the second finds in the database.
        let (first, second) = tasks.split_at(cut.min(tasks.len()));
        let mut in_pieces = apply_from(0, first, &mut pieces, &NonePending);
        let mut known = HashMap::new();
        for task in first {
            known.entry(task.id).or_insert(Known { fingerprint: task.fingerprint, task: Some(task.clone()) });
        }
        let items: Vec<Item<'_>> = second.iter().enumerate().map(|(position, task)| Item {
            task,
            arrival: Arrival(position as u64),
            ordering: ix(task.body.ordering_account()),
            credited: ix(task.body.credited_account()),
        }).collect();
        in_pieces.extend(apply(&items, &mut pieces, &known, &NonePending));
        prop_assert_eq!(at_once, in_pieces);
        prop_assert_eq!(whole, pieces);
    }

    #[test]
    fn a_replay_changes_nothing(tasks in proptest::collection::vec(any_task(), 0..60)) {
        let mut accounts = start();
        apply_from(0, &tasks, &mut accounts, &NonePending);
        let after = accounts.clone();
        let mut known = HashMap::new();
        for task in &tasks {
            known.entry(task.id).or_insert(Known { fingerprint: task.fingerprint, task: Some(task.clone()) });
        }
        let items: Vec<Item<'_>> = tasks.iter().enumerate().map(|(position, task)| Item {
            task,
            arrival: Arrival(position as u64),
            ordering: ix(task.body.ordering_account()),
            credited: ix(task.body.credited_account()),
        }).collect();
        let outcomes = apply(&items, &mut accounts, &known, &NonePending);
        prop_assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Duplicate | Outcome::Conflict(_))));
        prop_assert_eq!(accounts, after);
    }
}
