use std::collections::{BTreeSet, HashMap, HashSet};

use clap::ValueEnum;
use settled_core::contract::{DeadLetter, Properties, TaskBody, decode};
use uuid::Uuid;

use super::*;

fn shape() -> Shape {
    Shape { accounts: 50, skew: Skew::Uniform, mix: Mix::FAULTY, life: Life::default(), payload_bytes: 0, seed: 7 }
}

fn plan(shape: &Shape) -> Plan {
    let mut plan = Plan::new(shape, "test");
    plan.grow(20_000);
    plan
}

fn messages(plan: &Plan) -> impl Iterator<Item = &Message> {
    plan.opening.iter().chain(&plan.load)
}

fn body_of(plan: &Plan, message: &Message) -> Vec<u8> {
    let id = |number: usize| Uuid::from_u128(number as u128 + 1);
    let parent = if let Ask::FollowUp { parent, .. } = message.ask { Some(id(parent)) } else { None };
    let ids = Ids { own: id(message.id), parent, due: 1_790_000_000_000_000 };
    body(&plan.accounts, message, ids).expect("plain values")
}

fn decoded(plan: &Plan, message: &Message) -> Result<TaskBody, DeadLetter> {
    let properties = Properties {
        content_type: (message.broken == Some(Broken::OtherContentType)).then(|| "text/plain".into()),
        message_id: (message.broken == Some(Broken::OtherMessageId)).then(|| Uuid::nil().into()),
        ..Properties::default()
    };
    decode(&body_of(plan, message), &properties).map(|task| task.body)
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
    assert_eq!(seen.len(), Broken::value_variants().len());
}

#[test]
fn a_repetition_follows_its_first_and_only_an_altered_one_asks_for_something_else() {
    let mix = Mix { duplicate: Some(0.3), altered: Some(0.3), ..Mix::default() };
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
    let pairs: HashSet<_> = plan
        .load
        .iter()
        .map(|message| match message.ask {
            Ask::Transfer { debit, credit, .. } => (debit, credit),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(pairs.len(), 1);
}

#[test]
fn a_payload_has_about_the_size_that_was_asked_for_and_is_a_task_even_at_the_limit() {
    for payload_bytes in [400, 1000, 4096, MAX_PAYLOAD_BYTES] {
        let plan = plan(&Shape { payload_bytes, mix: Mix::default(), ..shape() });
        let message = &plan.load[7];
        let length = body_of(&plan, message).len();
        assert!(length.abs_diff(payload_bytes) <= 20, "{length}, not {payload_bytes}");
        assert!(decoded(&plan, message).is_ok());
    }
}

/// Some of every kind, and of everything that can be wrong.
fn whole_life() -> Shape {
    let kinds = "transfer:20,authorize-capture:20,authorize-capture-parts:10,authorize-void:10,refund:20,chargeback:10,\
                 cancel:5,legs:4:5";
    let kinds = kinds.parse().expect("a mix");
    let scheduled = "10%:5s".parse().expect("a share");
    Shape { life: Life { kinds, out_of_order: 0.2, scheduled }, ..shape() }
}

fn share(count: usize, of: usize) -> f64 {
    count as f64 / of as f64
}

#[test]
fn messages_are_counted_and_cases_have_their_weights() {
    let kinds = "transfer:60,authorize-capture:20,authorize-void:5,refund:10,legs:4:5".parse().expect("a mix");
    let plan = plan(&Shape { life: Life { kinds, ..Life::default() }, mix: Mix::default(), ..shape() });
    assert_eq!(plan.load.len(), 20_000);
    let count = |suits: fn(&Ask) -> bool| plan.load.iter().filter(|message| suits(&message.ask)).count();
    let cases = plan.load.len() - count(|ask| matches!(ask, Ask::FollowUp { .. }));
    assert!((share(count(|ask| matches!(ask, Ask::Split { legs: 4, .. })), cases) - 0.05).abs() < 0.002);
    assert!((share(count(|ask| matches!(ask, Ask::FollowUp { act: Act::Void, .. })), cases) - 0.05).abs() < 0.002);
    assert!((share(count(|ask| matches!(ask, Ask::FollowUp { act: Act::Refund, .. })), cases) - 0.1).abs() < 0.002);
    // Half of the refunds are of captures.
    assert!((share(count(|ask| matches!(ask, Ask::Authorize { .. })), cases) - 0.3).abs() < 0.02);
}

#[test]
fn whatever_is_asked_for_is_a_task_of_its_type() {
    let plan = plan(&Shape { mix: Mix::default(), ..whole_life() });
    let mut types = BTreeSet::new();
    for message in messages(&plan) {
        let task = decoded(&plan, message).expect("a task");
        assert_eq!(task.task_type(), message.ask.task_type());
        types.insert(task.task_type().name());
    }
    assert_eq!(types.len(), 9, "{types:?}");
}

#[test]
fn a_case_ends_with_the_load_and_is_in_order_unless_it_is_to_be_reversed() {
    for out_of_order in [0.0, 0.2, 0.9] {
        let life = Life { out_of_order, ..whole_life().life };
        // However often it grows, and also for the last few messages.
        let mut plan = Plan::new(&Shape { life, ..shape() }, "test");
        while plan.load.len() < 5_003 {
            plan.reach(plan.load.len() + 100, Some(5_003));
        }
        assert_eq!(plan.load.len(), 5_003);
        let decided = || plan.load.iter().filter(|message| message.is_decided());
        let places: HashMap<usize, usize> = decided().enumerate().map(|(place, message)| (message.id, place)).collect();
        let (mut early, mut all) = (0, 0);
        for message in decided() {
            let Ask::FollowUp { parent, needs, .. } = message.ask else { continue };
            let (own, parent, needs) = (places[&message.id], places[&parent], places[&needs]);
            assert_eq!(own < parent, own < needs, "whole cases are reversed");
            early += usize::from(own < parent);
            all += 1;
        }
        assert!((share(early, all) - out_of_order).abs() < 0.05, "{early} of {all}");
    }
}

#[test]
fn a_share_of_the_payments_is_scheduled_within_the_time() {
    let plan = plan(&Shape { mix: Mix::default(), ..whole_life() });
    let payments = || {
        let is_payment = |message: &&Message| !matches!(message.ask, Ask::FollowUp { .. }) && !message.is_called_off();
        plan.load.iter().filter(is_payment)
    };
    let scheduled: Vec<u32> = payments().filter_map(|message| message.execute_in).collect();
    assert!((share(scheduled.len(), payments().count()) - 0.1).abs() < 0.01, "{}", scheduled.len());
    assert!(scheduled.iter().all(|millis| (1..=5000).contains(millis)));
    assert!(
        plan.load.iter().all(|message| message.execute_in.is_none() || !matches!(message.ask, Ask::FollowUp { .. }))
    );
    assert_eq!(
        plan.called_off(),
        plan.load.iter().filter(|message| message.ask.task_type().name() == "cancel").count()
    );
}

#[test]
fn the_fates_of_the_payments_add_up_to_the_balances() {
    let plan = plan(&whole_life());
    let fates = plan.fates();
    let (mut balances, mut states) = (vec![0; plan.balances.len()], BTreeSet::new());
    for message in plan.load.iter().filter(|message| message.is_decided()) {
        let fate = fates[message.id].expect("a fate");
        let [captured, refunded, charged_back] = fate.progress();
        assert!(refunded >= 0 && charged_back >= 0 && refunded + charged_back <= captured && captured <= fate.amount);
        states.insert(fate.state);
        let kept = captured - refunded - charged_back;
        match message.ask {
            Ask::Transfer { debit, credit, .. } | Ask::Authorize { debit, credit, .. } => {
                balances[debit] -= kept;
                balances[credit] += kept;
            }
            Ask::Split { debit, credit, amount, legs } => {
                let parts: Vec<_> = legs_of(&plan.accounts, debit, credit, amount, legs).collect();
                assert_eq!((parts.len(), parts.iter().map(|(.., part)| part).sum::<i64>()), (legs.into(), amount));
                for (debit, credit, part) in parts {
                    assert!(part > 0 && plan.accounts.merchants.contains(&credit));
                    balances[debit] -= part;
                    balances[credit] += part;
                }
            }
            _ => {}
        }
    }
    assert_eq!(balances, plan.balances);
    use settled_core::contract::PaymentState as State;
    let ends = [
        State::Settled,
        State::PartiallyRefunded,
        State::Refunded,
        State::ChargedBack,
        State::Voided,
        State::Canceled,
        State::Rejected,
    ];
    assert_eq!(states, ends.into());
}
