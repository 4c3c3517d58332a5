//! What holds of every batch of transfers.

use proptest::prelude::*;

use super::*;

fn any_task() -> impl Strategy<Value = Task> {
    prop_oneof![
        8 => (0u128..60, 0usize..6, 0usize..6, -1i64..50)
            .prop_map(|(id, debit, credit, amount)| transfer(id, debit, credit, amount)),
        1 => (0u128..60, 0usize..6, proptest::option::of(-20i64..2))
            .prop_map(|(id, account, limit)| open(id, account, limit)),
    ]
}

fn start() -> World {
    let mut accounts = World::with(4).accounts;
    accounts.extend([Account::unopened(4), Account::unopened(5)]);
    World::of(accounts)
}

proptest! {
    #[test]
    fn money_is_conserved_and_no_balance_falls_below_its_limit(tasks in proptest::collection::vec(any_task(), 0..80)) {
        let mut world = start();
        let outcomes = world.apply(&tasks);
        prop_assert_eq!(world.accounts.iter().map(|account| account.posted).sum::<i64>(), 0);
        for account in &world.accounts {
            prop_assert!(account.min_balance.is_none_or(|limit| account.posted - account.held >= limit));
        }
        let entries: i64 = world.accounts.iter().map(|account| account.version).sum();
        let settled = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Settled { .. })).count();
        prop_assert_eq!(entries, 2 * settled as i64);
    }

    #[test]
    fn a_batch_gives_what_one_by_one_gives(tasks in proptest::collection::vec(any_task(), 0..80), cut in 0usize..80) {
        let (mut whole, mut pieces) = (start(), start());
        let at_once = whole.apply(&tasks);
        let (first, second) = tasks.split_at(cut.min(tasks.len()));
        let in_pieces = [pieces.apply(first), pieces.apply(second)].concat();
        prop_assert_eq!(at_once, in_pieces);
        prop_assert_eq!(whole.accounts, pieces.accounts);
    }

    #[test]
    fn a_replay_changes_nothing(tasks in proptest::collection::vec(any_task(), 0..60)) {
        let mut world = start();
        world.apply(&tasks);
        let after = world.accounts.clone();
        let outcomes = world.apply(&tasks);
        prop_assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Duplicate | Outcome::Conflict(_))));
        prop_assert_eq!(world.accounts, after);
    }
}
