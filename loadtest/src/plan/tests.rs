use std::collections::{BTreeSet, HashMap};

use settled::contract::{DeadLetter, Properties, TaskBody, decode};
use uuid::Uuid;

use super::*;

fn shape(mix: Mix) -> Shape {
    Shape { count: 20_000, customers: 50, skew: Skew::Uniform, mix, seed: 7 }
}

fn decoded(plan: &Plan, message: &Message) -> Result<TaskBody, DeadLetter> {
    let id = Uuid::from_u128(message.id as u128 + 1);
    let properties = Properties {
        content_type: (message.broken == Some(Broken::OtherContentType)).then(|| "text/plain".into()),
        message_id: (message.broken == Some(Broken::OtherMessageId)).then(|| Uuid::nil().into()),
        ..Properties::default()
    };
    let body = Body::new(plan, message, id).bytes(message).expect("plain values");
    decode(&body, &properties).map(|task| task.body)
}

#[test]
fn a_plan_has_the_shares_that_were_asked_for() {
    let tally = Plan::generate(&shape(Mix::Faulty)).expected();
    assert_eq!(tally.total(), 20_000);
    assert_eq!(tally.get(Outcome::Duplicate), 200);
    assert_eq!(tally.named("dead_lettered"), 80);
    assert_eq!(tally.named("rejected"), 140);
    let plain = Plan::generate(&shape(Mix::Plain)).expected();
    assert_eq!(plain.get(Outcome::Settled), 20_000);
}

#[test]
fn a_seed_gives_the_same_plan_and_another_gives_another() {
    let asks = |seed| -> Vec<Ask> {
        let plan = Plan::generate(&Shape { seed, ..shape(Mix::Faulty) });
        plan.messages().map(|message| message.ask).collect()
    };
    assert_eq!(asks(1), asks(1));
    assert_ne!(asks(1), asks(2));
}

#[test]
fn the_daemon_refuses_just_the_broken_messages_and_names_the_planned_field() {
    let plan = Plan::generate(&shape(Mix::Faulty));
    let mut seen = BTreeSet::new();
    for message in plan.messages() {
        match (decoded(&plan, message), message.broken) {
            (Ok(_), None) => {}
            (Err(letter), Some(broken)) => {
                assert_eq!(letter.reason, broken.reason(), "{broken:?}");
                assert_eq!(letter.field.as_deref(), broken.field(), "{broken:?}");
                seen.insert(format!("{broken:?}"));
            }
            (result, broken) => panic!("{broken:?}: {result:?}"),
        }
    }
    assert_eq!(seen.len(), Broken::ALL.len());
}

#[test]
fn a_repetition_follows_its_first_and_only_an_altered_one_asks_for_something_else() {
    let plan = Plan::generate(&shape(Mix::Faulty));
    let mut firsts: HashMap<usize, &Message> = HashMap::new();
    for message in plan.messages() {
        match firsts.get(&message.id) {
            None => drop(firsts.insert(message.id, message)),
            Some(first) => {
                assert!(first.is_decided() && !message.is_decided());
                assert_eq!(first.ask == message.ask, message.outcome == Outcome::Duplicate);
            }
        }
    }
    assert_eq!(firsts.len(), plan.ids);
}

#[test]
fn no_order_of_the_load_can_overdraw_an_account() {
    let plan = Plan::generate(&shape(Mix::Faulty));
    let total: i64 = plan.accounts.iter().map(|account| account.final_balance).sum();
    assert_eq!(total, 0);
    for account in plan.accounts.iter().filter(|account| !account.unlimited) {
        // Customers are only debited after their funding, so the last balance is the lowest.
        assert!(account.final_balance >= 0, "{}", account.name);
    }
}

#[test]
fn a_hot_load_is_between_two_accounts() {
    let plan = Plan::generate(&Shape { skew: Skew::Hot, ..shape(Mix::Plain) });
    let pairs: BTreeSet<String> = plan
        .load
        .iter()
        .map(|message| match message.ask {
            Ask::Transfer { debit, credit, .. } => format!("{debit} {credit}"),
            Ask::Open(_) => "open".to_owned(),
        })
        .collect();
    assert_eq!(pairs.len(), 1);
}
