//! Was everything as it had to be?

pub(crate) mod books;
pub(crate) mod slo;
pub(crate) mod verdict;

use std::collections::HashMap;

use anyhow::Result;
use serde_json::Value;
use settled::contract::DeadReason;
use settled::telemetry::labels::Outcome;

use crate::load::{Flights, Lines};
use crate::plan::{Message, Plan, Tally};
use crate::rig::FleetEnd;
use crate::sink::Received;
use books::{Books, Payment};

/// Everything that a run is judged by.
#[derive(Debug)]
pub(crate) struct Evidence {
    /// What was to be published.
    pub(crate) lines: Lines,
    /// What was.
    pub(crate) flights: Flights,
    /// What the daemons say came of the load; `None` where they cannot know.
    pub(crate) counted: Option<Tally>,
    /// What the database says.
    pub(crate) books: Books,
    /// What the subscriber got; `None` if there was none.
    pub(crate) received: Option<Received>,
    /// What `settled audit` says, or why it says nothing.
    pub(crate) audit: Result<Value>,
    /// How the daemons ended.
    pub(crate) fleet: FleetEnd,
    /// What waits on the servers; `None` where others use them too.
    pub(crate) left: Option<Left>,
    /// Whether which of two messages with one id came first is up to the servers: several daemons
    /// or publishers take turns, or a daemon that was killed gave its tasks back.
    pub(crate) any_order: bool,
    /// What went on for so long without any progress that it was given up.
    pub(crate) stuck: Option<String>,
}

/// What waits when all is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left {
    /// Tasks in the queue.
    pub(crate) tasks: u32,
    /// Tasks that the broker gave up on.
    pub(crate) given_up: u32,
}

/// What came of the load.
#[derive(Debug)]
pub(crate) struct Findings {
    /// Outcomes, as the database has them.
    pub(crate) tally: Tally,
    /// Confirmed messages without an outcome.
    pub(crate) lost: u64,
    /// Outcomes whose event did not come.
    pub(crate) events_missing: u64,
    /// Different events that no outcome explains.
    pub(crate) events_unexpected: u64,
}

impl Evidence {
    /// What is published, and what has to come of it.
    pub(crate) fn plan(&self) -> &Plan {
        &self.lines.plan
    }

    /// The payment with a message's id.
    pub(crate) fn payment(&self, message: &Message) -> Option<&Payment> {
        self.books.payments.get(message.id)?.as_ref()
    }

    /// What came of a message that has to have a payment of its own.
    fn outcome(&self, message: &Message) -> Option<Outcome> {
        match &self.payment(message)?.rejection {
            None => Some(Outcome::Settled),
            Some(reason) => named("rejected", reason),
        }
    }

    /// Draws up what came of the load.
    pub(crate) fn find(&self) -> Findings {
        let load = &self.plan().load;
        let mut tally = Tally::default();
        for message in load.iter().filter(|message| message.is_decided()) {
            if let Some(outcome) = self.outcome(message) {
                tally.add(outcome, 1);
            }
        }
        let mut dead: HashMap<usize, u64> = HashMap::new();
        for letter in &self.books.dead_letters {
            // A task that a killed daemon gave back is another attempt.
            let messages = if self.any_order { 1 } else { letter.attempts };
            if let Some(reason) = named("dead_lettered", &letter.reason) {
                tally.add(reason, messages);
            }
            if let Some(number) = letter.number {
                *dead.entry(number).or_default() += messages;
            }
        }
        let has_outcome = |message: &Message| match message.outcome {
            Outcome::DeadLettered(_) => dead.contains_key(&message.id),
            _ => self.payment(message).is_some(),
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
        Findings { tally, lost, events_missing, events_unexpected }
    }

    /// Events that did not come, and events that should not have.
    fn events(&self) -> (u64, u64) {
        let Some(received) = &self.received else { return (0, 0) };
        let decided = self.plan().load.iter().filter(|message| message.is_decided());
        let of_payments = decided.filter(|message| self.payment(message).is_some());
        let missing = of_payments.filter(|message| received.arrival(message.id).is_none()).count() as u64;
        let without_payment = |number: &usize| self.books.payments.get(*number).is_none_or(Option::is_none);
        let unexplained = received.numbers().filter(without_payment).count() as u64;
        let foreign = if self.left.is_some() { received.foreign } else { 0 };
        (missing, unexplained + foreign + received.wrong)
    }

    /// When the first and the last payment of the load were committed, in microseconds since 1970.
    pub(crate) fn committed(&self) -> Option<(i64, i64)> {
        let times = self.plan().load.iter().filter(|message| message.is_decided());
        let times = times.filter_map(|message| Some(self.payment(message)?.committed_at));
        times.fold(None, |span, at| span.map_or(Some((at, at)), |(first, last)| Some((at.min(first), at.max(last)))))
    }
}

/// Whether a message repeats another one's id with other content.
fn is_altered(message: &Message) -> bool {
    message.outcome == Outcome::DeadLettered(DeadReason::IdempotencyConflict)
}

fn named(name: &str, reason: &str) -> Option<Outcome> {
    Outcome::all().find(|outcome| outcome.name() == name && outcome.reason() == reason)
}
