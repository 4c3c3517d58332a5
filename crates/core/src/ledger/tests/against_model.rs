//! Random tasks of all types: the ledger and an independent model come to the same states, balances
//! and entries, and whatever happens the invariants hold.

mod kept;
// The second ledger's home is the test kit, whose other users need more of it. It knows of the contract only, and
// is compiled with it here, so that these tests wait for nothing else.
#[allow(dead_code, unused_imports, unreachable_pub, reason = "a module of another crate, of which this is a part")]
#[path = "../../../../testkit/src/model/mod.rs"]
mod model;

use std::collections::BTreeSet;

use self::kept::Kept;
use self::model::{Arrived, Model, Row, Settings, Step};
use super::*;
use crate::contract;
use crate::ledger::state::transitions;

const SEQUENCES: u64 = 200;
const TASKS: usize = 500;

/// Everything that the sequences are to come by.
#[derive(Default)]
struct Seen {
    transitions: BTreeSet<(PaymentState, PaymentState)>,
    reasons: BTreeSet<&'static str>,
}

#[test]
fn random_tasks_come_to_what_an_independent_model_says() {
    let mut seen = Seen::default();
    for seed in 0..SEQUENCES {
        let steps = model::steps(seed, TASKS, second(0));
        if let Err(difference) = run(seed, &steps, &mut seen) {
            let shortest = shorten(seed, steps);
            panic!("seed {seed}: {difference}\nas short as it gets: {shortest:#?}");
        }
    }
    let all: BTreeSet<_> = transitions().into_iter().collect();
    assert_eq!(seen.transitions, all, "every legal transition happens");
    // The tasks are nobody's, so that everything is allowed.
    let happens = |rejection: &Rejection| *rejection != Rejection::Forbidden;
    let reasons = Rejection::ALL.into_iter().filter(happens).map(Rejection::name).collect();
    assert_eq!(seen.reasons, reasons, "every rejection happens");
}

#[test]
fn tasks_without_a_clock_come_to_the_same_one_by_one() {
    let one_by_one = model::tasks(7, 5000, "a").into_iter().map(|task| Step::Arrive(vec![task]));
    let steps: Vec<Step> = one_by_one.collect();
    assert_eq!(run(7, &steps, &mut Seen::default()), Ok(()));
}

#[test]
fn the_random_tasks_can_be_published() {
    let with_times = model::steps(3, 2000, second(0)).into_iter().flat_map(|step| match step {
        Step::Arrive(tasks) => tasks,
        _ => Vec::new(),
    });
    for task in model::tasks(3, 2000, "account:").into_iter().chain(with_times) {
        let body = task.to_json();
        let decoded = contract::decode(body.as_bytes(), &contract::Properties::default());
        assert_eq!(decoded.as_ref(), Ok(&task), "{body}");
    }
}

/// Both, one step after the other.
fn run(seed: u64, steps: &[Step], seen: &mut Seen) -> Result<(), String> {
    let settings = Settings {
        hold: SignedDuration::from_secs(100),
        longest_hold: SignedDuration::from_secs(150),
        parking: SignedDuration::from_secs(60),
        frozen_takes_credits: !seed.is_multiple_of(4),
    };
    let mut model = Model::new(settings, second(0));
    let mut ledger = Kept::new(&settings);
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Arrive(tasks) => {
                // Some daemons have tasks on their way in other lanes.
                let in_order =
                    if seed % 3 == 1 { ledger.arrive_beside_others(tasks)? } else { ledger.arrive(tasks)? };
                let (tasks, found): (Vec<Task>, Vec<Arrived>) = in_order.into_iter().unzip();
                same(&format!("what became of the messages of step {number}"), &model.arrive(&tasks), &found)?;
            }
            Step::Pass(seconds) => {
                model.now += SignedDuration::from_secs(*seconds);
                ledger.world.now = model.now;
            }
            Step::Expire => {
                model.expire();
                ledger.expire()?;
            }
            Step::Due => {
                model.due();
                ledger.due()?;
            }
        }
        let is_checked = number.is_multiple_of(steps.len() / 1000 + 1) || number + 1 == steps.len();
        if is_checked {
            compare(&model, &ledger)
                .and_then(|()| ledger.check())
                .map_err(|found| format!("step {number}: {found}"))?;
        }
    }
    seen.transitions.append(&mut ledger.transitions);
    seen.reasons.extend(model.rows.iter().filter_map(|row| row.reason).map(Rejection::name));
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, expected: &T, found: &T) -> Result<(), String> {
    if expected == found { Ok(()) } else { Err(format!("{what}: expected {expected:?}, found {found:?}")) }
}

fn compare(model: &Model, ledger: &Kept) -> Result<(), String> {
    for (ix, found) in ledger.world.accounts.iter().enumerate() {
        let name = &ledger.names[ix];
        let expected = match model.accounts.get(name) {
            None => Account::unopened(found.id),
            Some(account) => Account {
                id: found.id,
                status: match (account.is_closed, account.is_frozen) {
                    (true, _) => AccountStatus::Closed,
                    (false, true) => AccountStatus::Frozen,
                    (false, false) => AccountStatus::Open,
                },
                currency: Some(currency(&account.currency)),
                min_balance: account.min_balance,
                max_balance: account.max_balance,
                posted: account.posted,
                held: account.held,
                version: account.version,
                shortfall: account.shortfall(),
            },
        };
        same(name, &expected, found)?;
    }
    let new = ledger.entries.len().max(ENTRIES_AT_ONCE) - ENTRIES_AT_ONCE;
    same("how many entries there are", &model.entries.len(), &ledger.entries.len())?;
    for (expected, found) in model.entries.iter().zip(&ledger.entries).skip(new) {
        same("an entry", expected, found)?;
    }
    model.rows.iter().try_for_each(|row| compare_row(row, ledger))
}

/// More than a step makes.
const ENTRIES_AT_ONCE: usize = 2000;

fn compare_row(row: &Row, ledger: &Kept) -> Result<(), String> {
    let id = row.task.id;
    let found = ledger.world.payments.get(&id).ok_or_else(|| format!("{id} is unknown"))?;
    let differs = |what: &str| format!("{what} of {row:?}, found {found:?}");
    let legs_agree = row.legs.len() == found.legs.len()
        && row.legs.iter().zip(&found.legs).all(|(expected, found)| {
            let amounts = (found.amount, found.captured, found.refunded, found.charged_back);
            ledger.names[found.debit.0] == expected.debit
                && ledger.names[found.credit.0] == expected.credit
                && found.currency.as_str() == expected.currency
                && amounts == (expected.amount, expected.captured, expected.refunded, expected.charged_back)
        });
    let checks = [
        ("the state", row.state == Some(found.state())),
        ("the version", row.version == found.version()),
        ("the reason", row.reason == ledger.reasons.get(&id).copied()),
        ("the deadline", row.waits_until == found.deadline),
        ("what it waits for", row.waits_for == ledger.waits_for.get(&id).copied()),
        ("the expiry", row.hold_until == found.expires_at),
        ("the legs", legs_agree),
    ];
    checks.iter().try_for_each(|(what, agrees)| if *agrees { Ok(()) } else { Err(differs(what)) })
}

/// The steps without those that the difference doesn't need, and then without the tasks.
fn shorten(seed: u64, mut steps: Vec<Step>) -> Vec<Step> {
    let fails = |steps: &[Step]| run(seed, steps, &mut Seen::default()).is_err();
    let single = |step: Step| match step {
        Step::Arrive(tasks) => tasks.into_iter().map(|task| Step::Arrive(vec![task])).collect(),
        other => vec![other],
    };
    let singles: Vec<Step> = steps.iter().cloned().flat_map(single).collect();
    if fails(&singles) {
        steps = singles;
    }
    let mut chunk = steps.len();
    while chunk > 0 {
        let mut start = 0;
        while start < steps.len() {
            let end = (start + chunk).min(steps.len());
            let without = [&steps[..start], &steps[end..]].concat();
            if fails(&without) {
                steps = without;
            } else {
                start = end;
            }
        }
        chunk /= 2;
    }
    steps
}
