//! Counts per publisher: those that the settings name, and one for all others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, counter};
use settled_core::contract::{DeadReason, Properties};

use super::{FORBIDDEN, PUBLISHER_OUTCOMES};
use crate::labels::Outcome;

/// Whom tasks are counted for.
pub(super) struct Publishers {
    known: Vec<Arc<Publisher>>,
    other: Arc<Publisher>,
    /// Whether messages are attributed by their `user_id` only, which the broker verifies.
    verified: bool,
}

/// The counts of one publisher of the settings, or of all others.
pub struct Publisher {
    /// The name that the settings give it, or `other`.
    pub name: String,
    /// Tasks that it may not publish.
    pub forbidden: Counter,
    outcomes: [Counter; Outcome::NAMES.len()],
    /// Messages, and those of them that it should not have sent.
    seen: AtomicU64,
    rubbish: AtomicU64,
}

impl Publisher {
    fn register(name: &str) -> Arc<Self> {
        let counter = |outcome| counter!(PUBLISHER_OUTCOMES, "publisher" => name.to_owned(), "outcome" => outcome);
        Arc::new(Self {
            name: name.to_owned(),
            forbidden: counter!(FORBIDDEN, "publisher" => name.to_owned()),
            outcomes: Outcome::NAMES.map(counter),
            seen: AtomicU64::new(0),
            rubbish: AtomicU64::new(0),
        })
    }

    /// Counts the outcome of one of its messages.
    pub fn count(&self, outcome: Outcome) {
        self.outcomes[outcome.name_index()].increment(1);
        if outcome == Outcome::DeadLettered(DeadReason::Quarantined) {
            return;
        }
        self.seen.fetch_add(1, Ordering::Relaxed);
        if let Outcome::DeadLettered(
            DeadReason::Malformed | DeadReason::Oversize | DeadReason::IdempotencyConflict | DeadReason::Forbidden,
        ) = outcome
        {
            self.rubbish.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The label of publishers that the settings don't name.
const OTHER: &str = "other";

impl Publishers {
    /// Begins with the one for all.
    pub(super) fn none() -> Self {
        Self { known: Vec::new(), other: Publisher::register(OTHER), verified: false }
    }

    /// Returns those with these names. Whoever is known keeps its counts.
    pub(super) fn of<'p>(&self, names: impl Iterator<Item = &'p String>, verified: bool) -> Self {
        let known = |name: &String| self.known.iter().find(|own| own.name == *name).map(Arc::clone);
        let known = names.map(|name| known(name).unwrap_or_else(|| Publisher::register(name))).collect();
        Self { known, other: Arc::clone(&self.other), verified }
    }

    /// Returns whom a message with these properties is counted for.
    pub(super) fn publisher(&self, properties: &Properties) -> Arc<Publisher> {
        let name = if self.verified { &properties.user_id } else { &properties.publisher };
        let own = self.known.iter().find(|own| Some(own.name.as_str()) == name.as_deref());
        Arc::clone(own.unwrap_or(&self.other))
    }

    /// Returns how many messages each one that is known has sent, and how many of them were its dead letters.
    pub(super) fn traffic(&self) -> Vec<(String, (u64, u64))> {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let of =
            |publisher: &Arc<Publisher>| (publisher.name.clone(), (load(&publisher.seen), load(&publisher.rubbish)));
        self.known.iter().map(of).collect()
    }
}
