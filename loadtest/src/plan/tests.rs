use std::collections::{BTreeSet, HashMap};

use settled::contract::{DeadLetter, Properties, TaskBody, decode};
use uuid::Uuid;

use super::*;

fn shape() -> Shape {
    Shape {
        customers: 50,
        skew: Skew::Uniform,
        mix: Mix::FAULTY,
        payload_bytes: 0,
        seed: 7,
        prefix: Mark::random().to_string(),
    }
}

fn plan(shape: &Shape) -> Plan {
    let mut plan = Plan::new(shape);
    plan.grow(20_000);
    plan
}

fn messages(plan: &Plan) -> impl Iterator<Item = &Message> {
    plan.opening.iter().chain(&plan.load)
}

fn body(plan: &Plan, message: &Message) -> Vec<u8> {
    let id = Uuid::from_u128(message.id as u128 + 1);
    Body::new(&plan.accounts, message, id).bytes(message).expect("plain values")
}

fn decoded(plan: &Plan, message: &Message) -> Result<TaskBody, DeadLetter> {
    let properties = Properties {
        content_type: (message.broken == Some(Broken::OtherContentType)).then(|| "text/plain".into()),
        message_id: (message.broken == Some(Broken::OtherMessageId)).then(|| Uuid::nil().to_string().into()),
        ..Properties::default()
    };
    decode(&body(plan, message), &properties).map(|task| task.body)
}

#[test]
fn a_plan_has_the_shares_that_were_asked_for() {
    let tally = plan(&shape()).expected();
    assert_eq!(tally.total(), 20_000);
    assert_eq!(tally.get(Outcome::Duplicate), 200);
    assert_eq!(tally.named("dead_lettered"), 80);
    assert_eq!(tally.named("rejected"), 140);
    let plain = plan(&Shape { mix: Mix::default(), ..shape() }).expected();
    assert_eq!(plain.get(Outcome::Settled), 20_000);
}

#[test]
fn a_seed_gives_the_same_plan_and_another_gives_another() {
    let asks = |seed| -> Vec<Ask> {
        let plan = plan(&Shape { seed, ..shape() });
        messages(&plan).map(|message| message.ask).collect()
    };
    assert_eq!(asks(1), asks(1));
    assert_ne!(asks(1), asks(2));
}

#[test]
fn the_daemon_refuses_just_the_broken_messages_and_names_the_planned_field() {
    let plan = plan(&Shape { payload_bytes: 2000, ..shape() });
    let mut seen = BTreeSet::new();
    for message in messages(&plan) {
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
    let mix = Mix { duplicate: 0.3, altered: 0.3, ..Mix::default() };
    let plan = plan(&Shape { mix, ..shape() });
    let mut firsts: HashMap<usize, &Message> = HashMap::new();
    let mut repeated: HashMap<usize, Outcome> = HashMap::new();
    for message in messages(&plan) {
        match firsts.get(&message.id) {
            None => drop(firsts.insert(message.id, message)),
            Some(first) => {
                assert!(first.is_decided() && !message.is_decided());
                assert_eq!(first.ask == message.ask, message.outcome == Outcome::Duplicate);
                // Else which of them is a conflict would depend on their order.
                assert_eq!(*repeated.entry(message.id).or_insert(message.outcome), message.outcome);
            }
        }
    }
    assert_eq!(firsts.len(), plan.ids);
}

#[test]
fn no_order_of_the_load_can_overdraw_an_account() {
    let plan = plan(&Shape { skew: Skew::Zipf(1.1), ..shape() });
    assert_eq!(plan.balances.iter().sum::<i64>(), 0);
    for (account, balance) in plan.accounts.all.iter().zip(&plan.balances) {
        // Customers are only debited and merchants only credited, so the last balance of a
        // customer is its lowest.
        assert!(*balance >= account.min_balance, "{}", account.name);
    }
}

#[test]
fn a_hot_load_is_between_two_accounts() {
    let plan = plan(&Shape { skew: Skew::Hot, mix: Mix::default(), ..shape() });
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

#[test]
fn a_payload_has_about_the_size_that_was_asked_for_and_is_a_task_even_at_the_limit() {
    for payload_bytes in [400, 1000, 4096, MAX_PAYLOAD_BYTES] {
        let plan = plan(&Shape { payload_bytes, mix: Mix::default(), ..shape() });
        let message = &plan.load[7];
        let length = body(&plan, message).len();
        assert!(length.abs_diff(payload_bytes) <= 20, "{length}, not {payload_bytes}");
        assert!(decoded(&plan, message).is_ok());
    }
}
