//! Was everything as it had to be? Every check compares the plan with what was found.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use settled::contract::EventKind;
use settled::telemetry::labels::Outcome;

use crate::plan::{Ask, Message, Plan, Tally};
use crate::scenario::Evidence;
use crate::sink::EventId;

/// How many of the differences are named.
const EXAMPLES: usize = 3;

/// Something that has to hold, and whether it does.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    /// What has to hold.
    pub(crate) holds: &'static str,
    /// What was found instead.
    pub(crate) found: Option<String>,
}

/// What was found instead, if a check does not hold.
type Finding = Result<(), String>;
type Verify = fn(&Plan, &Evidence) -> Finding;

const CHECKS: [(&str, Verify); 9] = [
    ("settled + rejected + duplicates + dead letters = published", one_outcome_each),
    ("every payment came to what was planned for it, and there is no other", planned_outcomes),
    ("every dead letter has its reason and names its field", planned_dead_letters),
    ("the daemon's own counters say the same", counters_agree),
    ("every outcome had its event, and there was no other", planned_events),
    ("every balance is what the payments make of it", planned_balances),
    ("nothing is left in the queues and in the outbox", nothing_waits),
    ("settled audit passes", audit_passes),
    ("the daemon drained and ended with 0", stopped_in_order),
];

/// All checks of a run, in the order in which they are shown.
pub(crate) fn checks(plan: &Plan, evidence: &Evidence) -> Vec<Check> {
    CHECKS.iter().map(|(holds, check)| Check { holds, found: check(plan, evidence).err() }).collect()
}

/// What came of the load: payments and dead letters as the database has them. A duplicate
/// leaves nothing there, which is its point: only the daemon's counter knows of it.
pub(crate) fn found(plan: &Plan, evidence: &Evidence) -> Tally {
    let mut tally = Tally::default();
    for message in plan.load.iter().filter(|message| message.is_decided()) {
        if let Some(outcome) = outcome_of(evidence, message) {
            tally.add(outcome, 1);
        }
    }
    for letter in &evidence.books.dead_letters {
        if let Some(reason) = named("dead_lettered", &letter.reason) {
            tally.add(reason, letter.attempts);
        }
    }
    tally.add(Outcome::Duplicate, evidence.counted.get(Outcome::Duplicate));
    tally
}

fn outcome_of(evidence: &Evidence, message: &Message) -> Option<Outcome> {
    let payment = evidence.books.payments.get(&evidence.sent.id(message)?)?;
    match &payment.rejection {
        None => Some(Outcome::Settled),
        Some(reason) => named("rejected", reason),
    }
}

fn named(name: &str, reason: &str) -> Option<Outcome> {
    Outcome::all().find(|outcome| outcome.name() == name && outcome.reason() == reason)
}

fn one_outcome_each(plan: &Plan, evidence: &Evidence) -> Finding {
    let total = found(plan, evidence).total();
    if total == plan.load.len() as u64 { Ok(()) } else { Err(format!("{total} of {}", plan.load.len())) }
}

fn planned_outcomes(plan: &Plan, evidence: &Evidence) -> Finding {
    let mut wrong = Vec::new();
    let mut planned = 0;
    for message in plan.messages().filter(|message| message.is_decided()) {
        planned += 1;
        let outcome = outcome_of(evidence, message);
        if outcome != Some(message.outcome) {
            wrong.push(format!("{:?}: {outcome:?}, not {:?}", evidence.sent.id(message), message.outcome));
        }
    }
    let stored = evidence.books.payments.len();
    if stored != planned {
        wrong.push(format!("{stored} payments, {planned} planned"));
    }
    none(wrong)
}

fn planned_dead_letters(plan: &Plan, evidence: &Evidence) -> Finding {
    let mut surplus: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for letter in &evidence.books.dead_letters {
        let key = (letter.reason.as_str(), letter.field.as_deref().unwrap_or("-"));
        *surplus.entry(key).or_default() += letter.attempts.cast_signed();
    }
    for message in &plan.load {
        if let Outcome::DeadLettered(reason) = message.outcome {
            *surplus.entry((reason.name(), message.field.unwrap_or("-"))).or_default() -= 1;
        }
    }
    let wrong = surplus.into_iter().filter(|(_, count)| *count != 0);
    none(wrong.map(|((reason, field), count)| format!("{count:+} {reason} of {field}")).collect())
}

fn counters_agree(plan: &Plan, evidence: &Evidence) -> Finding {
    let (planned, counted) = (plan.expected(), evidence.counted);
    let wrong = Outcome::all().filter(|outcome| planned.get(*outcome) != counted.get(*outcome));
    let wrong = wrong.map(|outcome| {
        let (planned, counted) = (planned.get(outcome), counted.get(outcome));
        format!("{} ({}): {counted}, not {planned}", outcome.name(), outcome.reason())
    });
    none(wrong.collect())
}

fn planned_events(plan: &Plan, evidence: &Evidence) -> Finding {
    let received = &evidence.received;
    let mut wrong = received.wrong.clone();
    let mut planned = HashMap::with_capacity(received.kinds.len());
    for message in plan.messages().filter(|message| message.is_decided()) {
        let Some(task) = evidence.sent.id(message) else { continue };
        let id = EventId { task, version: 1 };
        let kind = kind_of(message);
        if received.kinds.get(&id) != Some(&kind) {
            wrong.push(format!("{task}: {:?}, not {}", received.kinds.get(&id), kind.name()));
        }
        planned.insert(id, kind);
    }
    let other = received.kinds.keys().filter(|id| !planned.contains_key(id));
    wrong.extend(other.map(|id| format!("{id:?}, of no payment")));
    none(wrong)
}

fn kind_of(message: &Message) -> EventKind {
    match (message.ask, message.outcome) {
        (Ask::Open(_), Outcome::Settled) => EventKind::AccountOpened,
        (Ask::Open(_), _) => EventKind::AccountRejected,
        (Ask::Transfer { .. }, Outcome::Settled) => EventKind::PaymentSettled,
        (Ask::Transfer { .. }, _) => EventKind::PaymentRejected,
    }
}

fn planned_balances(plan: &Plan, evidence: &Evidence) -> Finding {
    let balances = &evidence.books.balances;
    let open = || plan.accounts.iter().filter(|account| account.currency.is_some());
    let mut wrong: Vec<String> = open()
        .filter(|account| balances.get(&account.name) != Some(&account.final_balance))
        .map(|account| format!("{}: {:?}, not {}", account.name, balances.get(&account.name), account.final_balance))
        .collect();
    if balances.len() != open().count() {
        wrong.push(format!("{} accounts are open, not {}", balances.len(), open().count()));
    }
    none(wrong)
}

fn nothing_waits(_: &Plan, evidence: &Evidence) -> Finding {
    let mut wrong = Vec::new();
    if evidence.waiting > 0 {
        wrong.push(format!("{} tasks were not acknowledged", evidence.waiting));
    }
    if evidence.given_up > 0 {
        wrong.push(format!("the broker gave up on {} tasks", evidence.given_up));
    }
    if evidence.books.outbox_events > 0 {
        wrong.push(format!("{} events were not published", evidence.books.outbox_events));
    }
    none(wrong)
}

fn audit_passes(_: &Plan, evidence: &Evidence) -> Finding {
    match &evidence.audit {
        Ok(audit) if audit["passed"] == true => Ok(()),
        Ok(audit) => Err(audit["checks"].to_string()),
        Err(error) => Err(format!("{error:#}")),
    }
}

fn stopped_in_order(_: &Plan, evidence: &Evidence) -> Finding {
    let wrong = evidence.daemons.iter().filter(|daemon| !daemon.status.success());
    none(wrong.map(|daemon| daemon.status.to_string()).collect())
}

/// The first of the differences, if there are any.
fn none(wrong: Vec<String>) -> Finding {
    if wrong.is_empty() {
        return Ok(());
    }
    let more = wrong.len().saturating_sub(EXAMPLES);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    Err(format!("{}{more}", wrong[..wrong.len().min(EXAMPLES)].join("; ")))
}
