//! Every check compares the plan with what was found.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use settled_core::contract::EventKind;
use settled_pipeline::labels::Outcome;

use super::{Evidence, Findings, Left, is_altered, stream};
use crate::plan::{Act, Ask, Message, Tally};
use crate::report::model::Check;
use crate::sink::Received;

const EXAMPLES: usize = 3;

/// What was found instead, if a check does not hold.
pub(super) type Finding = Result<(), String>;

/// All checks that can be made with this evidence, in the order in which they are shown.
pub(crate) fn checks(evidence: &Evidence, findings: &Findings) -> Vec<Check> {
    let Evidence { stuck, counted, books, received, left, fleet, .. } = evidence;
    let (total, published) = (findings.tally.total(), evidence.flights.sent.len() as u64);
    let sum = if total == published { Ok(()) } else { Err(format!("{total} of {published}")) };
    let lost = (findings.lost, format!("{} have no outcome in the database", findings.lost));
    let doubled = (books.doubled, format!("{} have other entries than their own", books.doubled));
    let open = [
        (books.waiting, format!("{} tasks wait for their time or for another task", books.waiting)),
        (books.held.unsigned_abs(), format!("{} minor units are held", books.held)),
    ];
    let waiting = left.map(|Left { tasks, given_up }| {
        nothing([
            (tasks.into(), format!("{tasks} tasks were not acknowledged")),
            (given_up.into(), format!("the broker gave up on {given_up} tasks")),
            (books.outbox_events.unsigned_abs(), format!("{} events were not published", books.outbox_events)),
        ])
    });
    let stopped = (!fleet.stopped.is_empty()).then(|| {
        let wrong = fleet.stopped.iter().filter(|daemon| !daemon.status.success());
        none(wrong.map(|daemon| daemon.status.to_string()).collect())
    });
    let agree = counted.map(|counted| counters_agree(evidence, &counted));
    let heard = received.as_ref().map(|received| planned_events(evidence, findings, received));
    let checks = [
        ("every step of the run came to its end", Some(stuck.clone().map_or(Ok(()), Err))),
        ("settled + rejected + canceled + duplicates + dead letters = published", Some(sum)),
        ("no message that the broker confirmed is lost", Some(nothing([lost]))),
        ("no payment is applied twice", Some(nothing([doubled]))),
        ("every payment came to what was planned for it, and there is no other", Some(planned_outcomes(evidence))),
        ("every dead letter has its reason and names its field", Some(planned_dead_letters(evidence))),
        ("the daemon's own counters say the same", agree),
        ("every outcome had its event, and there was no other", heard),
        ("every balance is what the payments make of it", Some(planned_balances(evidence))),
        ("no task waits, and nothing is held", Some(nothing(open))),
        ("nothing is left in the queues and in the outbox", waiting),
        ("settled audit passes", Some(audit_passes(evidence))),
        ("the daemon drained and ended with 0", stopped),
    ];
    let checks = checks.into_iter().chain(stream::checks(evidence));
    checks.filter_map(|(holds, finding)| Some(check(holds, finding?))).collect()
}

pub(crate) fn check(holds: &str, finding: Finding) -> Check {
    Check { holds: holds.to_owned(), found: finding.err() }
}

/// Holds if all of these are 0. Otherwise returns what is said of those that are not.
fn nothing<const N: usize>(counts: [(u64, String); N]) -> Finding {
    none(counts.into_iter().filter(|(count, _)| *count > 0).map(|(_, said)| said).collect())
}

fn planned_outcomes(evidence: &Evidence) -> Finding {
    let plan = evidence.plan();
    let other_amounts = other_amounts(evidence);
    let fates = plan.fates();
    let mut wrong = Vec::new();
    let mut planned = 0;
    for message in plan.opening.iter().chain(&plan.load).filter(|message| message.is_decided()) {
        planned += 1;
        let outcome = evidence.outcome(message);
        if outcome != Some(message.outcome) {
            wrong.push(format!("{:?}: {outcome:?}, not {:?}", evidence.lines.id(message), message.outcome));
        }
        let Some((payment, fate)) = evidence.payment(message).zip(fates[message.id]) else { continue };
        let id = || evidence.lines.id(message);
        if payment.state != fate.state {
            wrong.push(format!("{:?}: {}, not {}", id(), payment.state.name(), fate.state.name()));
        }
        let (amount, asked) = (payment.amount, fate.amount);
        let other = other_amounts.get(&message.id).copied().filter(|_| evidence.any_order);
        if amount == asked && payment.progress != fate.progress() {
            let [captured, refunded, charged_back] = payment.progress;
            let found = format!("captured {captured}, refunded {refunded}, charged back {charged_back}");
            wrong.push(format!("{:?}: {found}, not {:?}", id(), fate.progress()));
        } else if amount != asked && Some(amount) != other {
            wrong.push(format!("{:?}: amount {amount}, not {asked}", id()));
        }
    }
    if evidence.books.count != planned {
        wrong.push(format!("{} payments, {planned} planned", evidence.books.count));
    }
    none(wrong)
}

/// The amounts of messages that repeat an id with another one, by the number of the id.
fn other_amounts(evidence: &Evidence) -> HashMap<usize, i64> {
    let altered = evidence.plan().load.iter().filter(|message| is_altered(message));
    let amounts = altered.filter_map(|message| match message.ask {
        Ask::Transfer { amount, .. } => Some((message.id, amount)),
        _ => None,
    });
    amounts.collect()
}

fn planned_dead_letters(evidence: &Evidence) -> Finding {
    let mut surplus: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for letter in &evidence.books.dead_letters {
        let key = (letter.reason.as_str(), letter.field.as_deref().unwrap_or("-"));
        let messages = if evidence.any_order { 1 } else { letter.attempts };
        *surplus.entry(key).or_default() += messages.cast_signed();
    }
    for message in &evidence.plan().load {
        if let Outcome::DeadLettered(reason) = message.outcome {
            *surplus.entry((reason.name(), message.field.unwrap_or("-"))).or_default() -= 1;
        }
    }
    let wrong = surplus.into_iter().filter(|(_, count)| *count != 0);
    none(wrong.map(|((reason, field), count)| format!("{count:+} {reason} of {field}")).collect())
}

/// Where others use the servers too, their payments count as well. What waits is counted whenever
/// it does, which is a matter of time.
fn counters_agree(evidence: &Evidence, counted: &Tally) -> Finding {
    let planned = evidence.plan().expected();
    let alone = evidence.left.is_some();
    let differs = |outcome: &Outcome| {
        let (planned, counted) = (planned.get(*outcome), counted.get(*outcome));
        if alone { planned != counted } else { planned > counted }
    };
    let is_final = |outcome: &Outcome| !matches!(outcome, Outcome::Scheduled | Outcome::Parked);
    let wrong = Outcome::all().filter(is_final).filter(differs).map(|outcome| {
        let (planned, counted) = (planned.get(outcome), counted.get(outcome));
        format!("{} ({}): {counted}, not {planned}", outcome.name(), outcome.reason())
    });
    none(wrong.collect())
}

fn planned_events(evidence: &Evidence, findings: &Findings, received: &Received) -> Finding {
    let mut wrong = received.examples.clone();
    if findings.events_missing + findings.events_unexpected > 0 {
        let (missing, unexpected) = (findings.events_missing, findings.events_unexpected);
        wrong.insert(0, format!("{missing} missing, {unexpected} unexpected"));
    }
    let waits = ["scheduled", "parked"].map(|state| evidence.books.waits.get(state).copied().unwrap_or_default());
    if received.waiting != waits {
        let [scheduled, parked] = received.waiting;
        wrong.push(format!("{scheduled} events of what is scheduled and {parked} of what is parked, not {waits:?}"));
    }
    for message in evidence.plan().load.iter().filter(|message| message.is_decided()) {
        let (kind, planned) = (received.arrival(message.id).map(|(kind, _)| kind), kind_of(message));
        if kind != planned {
            let name = |kind: Option<EventKind>| kind.map_or("no event", EventKind::name);
            wrong.push(format!("{:?}: {}, not {}", evidence.lines.id(message), name(kind), name(planned)));
        }
    }
    none(wrong)
}

/// The event of what a message comes to; none of what is called off, of which the one that calls it
/// off tells.
fn kind_of(message: &Message) -> Option<EventKind> {
    if message.is_called_off() {
        return None;
    }
    Some(match (message.ask, message.outcome) {
        (Ask::Open(_), Outcome::Settled) => EventKind::AccountOpened,
        (Ask::Open(_), _) => EventKind::AccountRejected,
        (Ask::Transfer { .. } | Ask::Split { .. }, Outcome::Settled) => EventKind::PaymentSettled,
        (Ask::Authorize { .. }, Outcome::Settled) => EventKind::PaymentAuthorized,
        (Ask::FollowUp { act, .. }, Outcome::Settled) => match act {
            Act::Capture { .. } => EventKind::PaymentCaptured,
            Act::Void => EventKind::PaymentVoided,
            Act::Refund => EventKind::PaymentRefunded,
            Act::Chargeback => EventKind::PaymentChargedBack,
            Act::ChargebackReversal => EventKind::PaymentChargebackReversed,
            Act::Cancel => EventKind::PaymentCanceled,
        },
        _ => EventKind::PaymentRejected,
    })
}

fn planned_balances(evidence: &Evidence) -> Finding {
    let (plan, balances) = (evidence.plan(), &evidence.books.balances);
    let planned = balances_as_decided(evidence);
    let open = || plan.accounts.all.iter().zip(&planned).filter(|(account, _)| account.currency.is_some());
    let mut wrong: Vec<String> = open()
        .filter(|(account, planned)| balances.get(&account.name) != Some(planned))
        .map(|(account, planned)| format!("{}: {:?}, not {planned}", account.name, balances.get(&account.name)))
        .collect();
    if balances.len() != open().count() {
        wrong.push(format!("{} accounts are open, not {}", balances.len(), open().count()));
    }
    none(wrong)
}

/// The planned balances, but where an altered message may have come first and did.
fn balances_as_decided(evidence: &Evidence) -> Vec<i64> {
    let plan = evidence.plan();
    let mut balances = plan.balances.clone();
    let other_amounts = if evidence.any_order { other_amounts(evidence) } else { HashMap::new() };
    for message in plan.load.iter().filter(|message| message.outcome == Outcome::Settled) {
        let Ask::Transfer { debit, credit, amount, .. } = message.ask else { continue };
        let applied = evidence.payment(message).map(|payment| payment.amount);
        if let Some(other) = other_amounts.get(&message.id).filter(|other| applied == Some(**other)) {
            balances[debit] -= other - amount;
            balances[credit] += other - amount;
        }
    }
    balances
}

fn audit_passes(evidence: &Evidence) -> Finding {
    match &evidence.audit {
        Ok(audit) if audit["passed"] == true => Ok(()),
        // A verdict without a reason is one, too.
        Ok(audit) => none(violated(audit)).and_then(|()| Err(audit.to_string())),
        Err(error) => Err(format!("{error:#}")),
    }
}

/// The invariants that do not hold, how often, and the first example of each.
fn violated(audit: &Value) -> Vec<String> {
    let checks = audit["checks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let violated = checks.iter().filter(|check| check["violations"] != 0);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    violated
        .map(|check| {
            let (name, example) = (text(&check["name"]), text(&check["examples"][0]));
            format!("{name} does not hold {} times: {example}", check["violations"])
        })
        .collect()
}

/// The first of the differences, if there are any.
pub(crate) fn none(wrong: Vec<String>) -> Finding {
    if wrong.is_empty() {
        return Ok(());
    }
    let more = wrong.len().saturating_sub(EXAMPLES);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    Err(format!("{}{more}", wrong[..wrong.len().min(EXAMPLES)].join("; ")))
}
