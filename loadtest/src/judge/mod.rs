//! Was everything as it had to be?

pub(crate) mod books;
pub(crate) mod slo;
mod stream;
pub(crate) mod verdict;

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;
use serde_json::Value;
use settled_core::contract::{DeadReason, PaymentState};
use settled_pipeline::labels::Outcome;

use crate::load::{Flights, Lines};
use crate::plan::{Message, Plan, Tally, outcome_named};
use crate::rig::FleetEnd;
use crate::sink::Received;
use books::{Books, Payment};

#[derive(Debug)]
pub(crate) struct Evidence {
    pub(crate) lines: Lines,
    pub(crate) flights: Flights,
    /// What the daemons say came of the load; `None` where they cannot know.
    pub(crate) counted: Option<Tally>,
    pub(crate) books: Books,
    /// What the subscriber got; `None` if there was none.
    pub(crate) received: Option<Received>,
    /// What `settled audit` says, or why it says nothing.
    pub(crate) audit: Result<Value>,
    pub(crate) fleet: FleetEnd,
    /// What waits on the servers; `None` where others use them too.
    pub(crate) left: Option<Left>,
    /// Whether which of two messages with one id came first is up to the servers: several daemons
    /// or publishers take turns, a daemon that was killed gave its tasks back, or the subject keeps
    /// no order.
    pub(crate) any_order: bool,
    /// What went on for so long without any progress that it was given up.
    pub(crate) stuck: Option<String>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Left {
    pub(crate) tasks: u32,
    pub(crate) given_up: u32,
}

#[derive(Debug)]
pub(crate) struct Findings {
    /// Outcomes, as the database has them; what was called off before it was applied counts as
    /// scheduled.
    pub(crate) tally: Tally,
    /// How many tasks of each type came to each outcome.
    pub(crate) by_type: BTreeMap<String, BTreeMap<String, u64>>,
    pub(crate) lost: u64,
    pub(crate) events_missing: u64,
    pub(crate) events_unexpected: u64,
}

impl Evidence {
    /// What is published, and what has to come of it.
    pub(crate) fn plan(&self) -> &Plan {
        &self.lines.plan
    }

    pub(crate) fn payment(&self, message: &Message) -> Option<&Payment> {
        self.books.payments.get(message.id)?.as_ref()
    }

    /// What came of a message that has to have a payment of its own; nothing yet, while it waits.
    fn outcome(&self, message: &Message) -> Option<Outcome> {
        let payment = self.payment(message)?;
        match (payment.state, &payment.rejection) {
            (state, _) if state.is_pending() => None,
            (PaymentState::Canceled, _) => Some(Outcome::Scheduled),
            (_, Some(reason)) => outcome_named("rejected", reason),
            _ => Some(Outcome::Settled),
        }
    }

    pub(crate) fn find(&self) -> Findings {
        let load = &self.plan().load;
        let mut tally = Tally::default();
        let mut by_type: BTreeMap<_, BTreeMap<_, u64>> = BTreeMap::new();
        for message in load.iter().filter(|message| message.is_decided()) {
            if let Some(outcome) = self.outcome(message) {
                tally.add(outcome, 1);
                let name = if outcome == Outcome::Scheduled { "canceled" } else { outcome.name() };
                *by_type.entry(message.ask.task_type().name()).or_default().entry(name).or_default() += 1;
            }
        }
        let mut dead: HashMap<usize, u64> = HashMap::new();
        for letter in &self.books.dead_letters {
            // A task that a killed daemon gave back is another attempt.
            let messages = if self.any_order { 1 } else { letter.attempts };
            if let Some(reason) = outcome_named("dead_lettered", &letter.reason) {
                tally.add(reason, messages);
            }
            if let Some(number) = letter.number {
                *dead.entry(number).or_default() += messages;
            }
        }
        let has_outcome = |message: &Message| match message.outcome {
            Outcome::DeadLettered(_) => dead.contains_key(&message.id),
            _ => self.payment(message).is_some_and(|payment| !payment.state.is_pending()),
        };
        let confirmed = self.flights.confirmed.iter().filter_map(|confirmed| load.get(confirmed.index));
        let lost = confirmed.filter(|message| !has_outcome(message)).count() as u64;
        // A duplicate leaves nothing in the database, which is its point: the daemon's counter knows
        // of it, or else that it is neither lost nor in the queue.
        let repeated = load.iter().filter(|message| message.outcome == Outcome::Duplicate);
        let duplicates = match self.counted {
            Some(counted) => counted.get(Outcome::Duplicate),
            None => repeated.filter(|message| has_outcome(message)).count() as u64,
        };
        tally.add(Outcome::Duplicate, duplicates);
        let (events_missing, events_unexpected) = self.events();
        let owned = |counts: BTreeMap<&str, u64>| counts.into_iter().map(|(name, n)| (name.to_owned(), n)).collect();
        let by_type = by_type.into_iter().map(|(name, counts)| (name.to_owned(), owned(counts))).collect();
        Findings { tally, by_type, lost, events_missing, events_unexpected }
    }

    /// Events that did not come, and events that should not have. Of a task there is one event for
    /// each state in which it waited, and one for what it came to, in this order: its last version is
    /// that of the final one.
    fn events(&self) -> (u64, u64) {
        let Some(received) = &self.received else { return (0, 0) };
        let (mut missing, mut unexpected) = (0, 0);
        for message in self.plan().load.iter().filter(|message| message.is_decided()) {
            let Some(payment) = self.payment(message) else { continue };
            let (due, came) = (due(payment), received.heard(message.id).versions());
            missing += u64::from((due & !came).count_ones());
            unexpected += u64::from((came & !due).count_ones());
        }
        let without_payment = |number: &usize| self.books.payments.get(*number).is_none_or(Option::is_none);
        let unexplained = received.numbers().filter(without_payment);
        let unexplained: u64 =
            unexplained.map(|number| u64::from(received.heard(number).versions().count_ones())).sum();
        let foreign = if self.left.is_some() { received.foreign } else { 0 };
        (missing, unexpected + unexplained + foreign + received.wrong)
    }

    /// When the first and the last payment of the load were committed, in microseconds since 1970.
    pub(crate) fn committed(&self) -> Option<(i64, i64)> {
        let times = self.plan().load.iter().filter(|message| message.is_decided());
        let times = times.filter_map(|message| Some(self.payment(message)?.committed_at));
        times.fold(None, |span, at| span.map_or(Some((at, at)), |(first, last)| Some((at.min(first), at.max(last)))))
    }
}

/// The versions of a payment that have an event of its own, one bit each from the lowest on: those
/// in which it waited and the one in which it was decided. Of one that was called off, the task that
/// did it tells.
fn due(payment: &Payment) -> u16 {
    let waited = (1 << payment.waits.min(15)) - 1;
    match payment.state {
        PaymentState::Canceled => waited,
        // One that still waits has not left its last state.
        _ => waited << 1 | 1,
    }
}

/// Whether a message repeats another one's id with other content.
fn is_altered(message: &Message) -> bool {
    message.outcome == Outcome::DeadLettered(DeadReason::IdempotencyConflict)
}
