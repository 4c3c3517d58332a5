//! Judges a run: checks its invariants and its final state.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use settled_core::contract::{DeadLetter, DeadReason, Message, PaymentState, Rejection, Task, TaskType};
use settled_core::ledger::{NonePending, Rules};
use settled_pipeline::store::Submission;
use settled_testkit::memory::{Memory, Stored};

use super::message::{Kind, SHOP, short};
use super::weather::Fault;
use super::world::World;
use super::{books, settings};

/// Final result of a task: its type, its state, and why it was declined.
pub(super) type Outcome = (TaskType, PaymentState, Option<Rejection>);

fn outcome(stored: &Stored) -> Outcome {
    (stored.task.body.task_type(), stored.payment.state(), stored.rejection)
}

/// Result of a run.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) violations: Vec<String>,
    pub(super) lines: Vec<String>,
    pub(super) faults: Vec<Fault>,
    /// The kind of each message.
    pub(super) kinds: Vec<Kind>,
    /// The result of each task.
    pub(super) outcomes: Vec<Outcome>,
    /// Whether the results were compared with those of processing in order, although there were several lanes.
    pub(super) is_compared_in_lanes: bool,
    /// Whether a chargeback has left an account below its limit.
    pub(super) has_shortfall: bool,
}

/// Returns true if a committed row records the outcome of a message.
fn has_outcome(tables: &Memory, message: &Message) -> bool {
    match &message.content {
        Ok(task) => {
            let stored = tables.stored.get(&task.id);
            stored.is_some_and(|stored| stored.task.body == task.body)
                || [DeadReason::IdempotencyConflict, DeadReason::Unprocessable]
                    .into_iter()
                    .any(|reason| tables.dead_letters.contains_key(&digest(message, reason)))
        }
        Err(letter) => tables.dead_letters.contains_key(&letter.digest(&message.body, &message.properties)),
    }
}

fn digest(message: &Message, reason: DeadReason) -> [u8; 32] {
    let letter = DeadLetter { reason, field: None, detail: String::new(), task_id: None };
    letter.digest(&message.body, &message.properties)
}

/// Checks that an acknowledged message, which the broker has now removed, has a durable outcome.
pub(super) fn acknowledged(world: &World, number: usize) {
    let message = world.load.messages[number].message(world.now());
    if !world.durable(|tables| has_outcome(tables, &message)) {
        world
            .journal
            .violation(format!("message {number} is acknowledged, and nothing durable says what became of it"));
    }
}

/// Returns true if nothing is left to do.
pub(super) fn is_done(world: &World) -> bool {
    let tables = world.tables.lock();
    world.queue.lock().left() == 0 && tables.outbox.is_empty() && tables.waiting() == 0 && run_out(world, &tables) == 0
}

/// Returns the number of holds that expire within the run. Ordinary holds last for days.
fn run_out(world: &World, tables: &Memory) -> usize {
    let soon = world.now() + Duration::from_secs(3600);
    tables.holds().filter(|(_, until)| *until < soon).count()
}

/// Describes the remaining work of a run that got stuck.
pub(super) fn what_is_left(world: &World) -> String {
    let tables = world.tables.lock();
    let (messages, rows, waiting) = (world.queue.lock().left(), tables.outbox.len(), tables.waiting());
    let holds = run_out(world, &tables);
    format!("{messages} messages, {rows} rows of the outbox, {waiting} tasks that wait, {holds} holds that run out")
}

/// Judges a finished run.
pub(super) fn report(world: &World) -> Report {
    let tables = world.tables.lock();
    let wrong = |what: String| world.journal.violation(what);
    let mut is_compared = false;
    // A run with a violation may have stopped early, so its final state isn't checked.
    if !world.journal.has_violations() {
        outcomes(world, &tables, &wrong);
        dead_letters(world, &tables, &wrong);
        books::entries(&tables, &wrong);
        books::limits(&tables, &wrong);
        events(world, &tables, &wrong);
        is_compared = world.load.is_orderly && in_order(world, &tables, &wrong);
    }
    let journal = &world.journal;
    Report {
        violations: journal.violations.lock().clone(),
        lines: journal.lines.lock().clone(),
        faults: journal.faults.lock().clone(),
        kinds: world.load.messages.iter().map(|sent| sent.kind).collect(),
        outcomes: tables.stored.values().map(outcome).collect(),
        is_compared_in_lanes: is_compared && settings::configure(world.seed, 0).pipeline.lanes > 1,
        has_shortfall: tables.accounts.iter().any(|account| account.shortfall > 0),
    }
}

fn outcomes(world: &World, tables: &Memory, wrong: &impl Fn(String)) {
    let dead = &world.queue.lock().dead;
    let mut ids = BTreeSet::new();
    for (number, sent) in world.load.messages.iter().enumerate() {
        let message = sent.message(world.now());
        ids.extend(message.content.as_ref().ok().map(|task| task.id));
        let given_up = dead.iter().filter(|dead| **dead == number).count();
        if given_up > 0 {
            wrong(format!("message {number} ({:?}) was given up {given_up} times by the broker", sent.kind));
        }
        if !has_outcome(tables, &message) {
            wrong(format!("message {number} ({:?}) is lost", sent.kind));
        }
    }
    for (id, stored) in &tables.stored {
        if stored.written != 1 {
            wrong(format!("task {} was applied {} times", short(*id), stored.written));
        }
        if !ids.contains(id) {
            wrong(format!("task {} was never published", short(*id)));
        }
    }
}

/// Checks that each dead letter comes from a message that had to become one.
fn dead_letters(world: &World, tables: &Memory, wrong: &impl Fn(String)) {
    let mut allowed = BTreeSet::new();
    for sent in &world.load.messages {
        let message = sent.message(world.now());
        match &message.content {
            Err(letter) => drop(allowed.insert(letter.digest(&message.body, &message.properties))),
            Ok(task) if sent.kind == Kind::Poison => {
                allowed.insert(digest(&message, DeadReason::Unprocessable));
                if tables.stored.contains_key(&task.id) {
                    wrong(format!("task {} can't have been stored", short(task.id)));
                }
            }
            // With several daemons, either of two tasks with the same id may be first.
            Ok(task) if tables.stored.get(&task.id).is_some_and(|first| first.task.body != task.body) => {
                allowed.insert(digest(&message, DeadReason::IdempotencyConflict));
            }
            Ok(_) => {}
        }
    }
    for (digest, (id, reason)) in &tables.dead_letters {
        if !allowed.contains(digest) {
            wrong(format!("a dead letter for {reason} that nothing explains, of {:?}", id.map(short)));
        }
    }
}

fn events(world: &World, tables: &Memory, wrong: &impl Fn(String)) {
    let received = &world.exchange.lock().received;
    for event in tables.told.iter().filter(|event| !received.contains_key(*event)) {
        wrong(format!("event {event} was never received"));
    }
    for event in received.keys().filter(|event| !tables.told.contains(*event)) {
        wrong(format!("event {event} was received, and never written"));
    }
    for (id, Stored { payment, .. }) in &tables.stored {
        // Follow-ups have events of their own. An expiry makes an additional version, which must have an event.
        let expiry = (payment.state() == PaymentState::Expired).then_some(payment.version());
        for version in [Some(1), expiry].into_iter().flatten() {
            if !tables.told.contains(&format!("{id}/{version}")) {
                wrong(format!("version {version} of task {} has no event", short(*id)));
            }
        }
    }
}

/// Compares the results with those of processing the tasks one by one in the order of publication. Returns whether
/// they were compared.
///
/// With several lanes, order isn't guaranteed between accounts: a credit can come before an earlier debit of the same
/// account, which then succeeds. Follow-ups are in the lane of their payment, and later legs are in the lane of the
/// first, so they can overtake tasks of their account or be overtaken. The order is irrelevant only if no account
/// ever lacks money. If the load ensures that, a decline for lack of money is an error by itself; other loads with
/// such a decline aren't compared. Shop accounts aren't compared with several lanes, because their changes and
/// credits are in different lanes.
fn in_order(world: &World, tables: &Memory, wrong: &impl Fn(String)) -> bool {
    let mut expected = Memory::new(Rules::default());
    for sent in world.load.messages.iter().filter(|sent| sent.kind != Kind::Poison) {
        let message = sent.message(world.now());
        let submission = Submission::of(settled_core::ledger::Arrival(0), &message);
        expected.commit(&[submission], &[], &NonePending, Duration::ZERO, world.now());
    }
    let has_lanes = settings::configure(world.seed, 0).pipeline.lanes > 1;
    if has_lanes && (is_short(&expected) || !world.load.is_ample && is_short(tables)) {
        return false;
    }
    for (id, stored) in &expected.stored {
        let state = tables.stored.get(id).map(|stored| stored.payment.state());
        if state != Some(stored.payment.state()) && !(has_lanes && is_of_shop(&expected, stored)) {
            wrong(format!("task {} is {state:?}, in its order it is {:?}", short(*id), stored.payment.state()));
        }
    }
    let balances = |tables: &Memory| -> BTreeMap<String, (i64, i64)> {
        let all = tables.balances().into_iter();
        let compared = all.filter(|(name, _)| !has_lanes || *name != "world" && !name.starts_with(SHOP));
        compared.map(|(name, balance)| (name.to_owned(), balance)).collect()
    };
    let (ours, theirs) = (balances(tables), balances(&expected));
    if ours != theirs {
        wrong(format!("balances are {ours:?}, in order they are {theirs:?}"));
    }
    true
}

/// Returns true if a task was declined for lack of money, apart from those of shops.
fn is_short(tables: &Memory) -> bool {
    let mut declined = tables.stored.values().filter(|stored| stored.rejection == Some(Rejection::InsufficientFunds));
    declined.any(|stored| !is_of_shop(tables, stored))
}

fn is_of_shop(tables: &Memory, stored: &Stored) -> bool {
    let is_named = |task: &Task| {
        task.body
            .account_pairs()
            .any(|(debit, credit)| [debit, credit].iter().any(|name| name.as_str().starts_with(SHOP)))
    };
    let parent = stored.task.body.payment_id().and_then(|parent| tables.stored.get(&parent));
    is_named(&stored.task) || parent.is_some_and(|parent| is_named(&parent.task))
}
