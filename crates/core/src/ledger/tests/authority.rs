//! Who may act on a payment: whoever could have made it, and whoever has.

use super::*;
use crate::contract::{Pattern, PublisherRules};

/// Whose payments may go from these accounts to those.
fn publisher(debit: &[&str], credit: &[&str]) -> Option<PublisherRules> {
    let patterns = |names: &[&str]| names.iter().map(|name| Pattern::new(*name)).collect();
    Some(PublisherRules {
        name: "shop".to_owned(),
        debit: patterns(debit),
        credit: patterns(credit),
        ..PublisherRules::default()
    })
}

#[test]
fn a_payment_between_other_accounts_is_out_of_reach_whatever_its_state() {
    let mut world = World::funded(100);
    world.apply(&[transfer(1, 1, 2, 10), authorize(2, 1, 2, 10), authorize(3, 1, 3, 10), void(4, 3)]);
    for (rules, first) in
        [(publisher(&["a1"], &["a3"]), 10), (publisher(&["a2"], &["a2"]), 20), (publisher(&[], &[]), 30)]
    {
        world.publisher = rules;
        for task in [refund(first, 1, 5), chargeback(first + 1, 1, 5), void(first + 2, 2), refund(first + 3, 2, None)] {
            assert_eq!(world.one(task), rejected(Rejection::Forbidden), "{first}");
        }
    }
    assert_eq!((world.balance(1), world.balance(2)), ((90, 10), (10, 0)));
    world.publisher = publisher(&["a1"], &["a*"]);
    assert!(is_settled(&world.one(refund(40, 1, 5))));
    assert!(is_settled(&world.one(void(41, 2))));
}

#[test]
fn all_legs_count() {
    let mut world = World::funded(100);
    world.apply(&[split(1, vec![leg(1, 2, 10), leg(1, 3, 10)])]);
    world.publisher = publisher(&["a1"], &["a2"]);
    assert_eq!(world.one(refund(2, 1, None)), rejected(Rejection::Forbidden));
    world.publisher = publisher(&["a1"], &["a2", "a3"]);
    assert!(is_settled(&world.one(refund(3, 1, None))));
}

#[test]
fn what_one_has_published_oneself_can_be_called_off_and_refunded() {
    let mut world = World::funded(100);
    let scheduled = |number| at(50, transfer(number, 1, 2, 10));
    world.one(scheduled(1));
    world.publisher = publisher(&["none"], &["none"]);
    world.apply(&[scheduled(2), transfer(3, 1, 2, 10)]);
    assert_eq!(world.one(cancel(10, 1)), rejected(Rejection::Forbidden), "nobody knows here whose accounts it has");
    assert!(is_settled(&world.one(cancel(11, 2))));
    let in_one_batch = world.apply(&[transfer(4, 1, 2, 10), refund(12, 4, None)]);
    assert!(in_one_batch.iter().all(is_settled), "{in_one_batch:?}");
    world.publisher = publisher(&["*"], &["*"]).map(|rules| PublisherRules { accounts: rules.debit.clone(), ..rules });
    assert!(is_settled(&world.one(cancel(13, 1))), "who may do everything may do this");
}
