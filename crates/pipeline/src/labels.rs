//! The values of metric labels.
//!
//! They are closed sets, so that the number of series is bounded, and each series exists from the start, at zero.

use settled_core::contract::{DeadReason, PaymentState, Rejection};

use crate::store::Answer;

/// The outcome of a delivery, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The task was applied to the ledger.
    Settled,
    /// The task was declined.
    Rejected(Rejection),
    /// An earlier delivery holds the outcome; nothing was applied.
    Duplicate,
    /// The message was stored as a dead letter.
    DeadLettered(DeadReason),
    /// The task waits for its `execute_at`.
    Scheduled,
    /// The task waits for another task.
    Parked,
}

impl Outcome {
    /// Number of outcomes, with each reason counted separately.
    pub const COUNT: usize = 4 + Rejection::ALL.len() + DeadReason::ALL.len();

    /// Returns all outcomes, in the order of [`Outcome::index`].
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Settled, Self::Duplicate]
            .into_iter()
            .chain(Rejection::ALL.map(Self::Rejected))
            .chain(DeadReason::ALL.map(Self::DeadLettered))
            .chain([Self::Scheduled, Self::Parked])
    }

    /// Returns the outcome that an answer is counted as, or `None` if the task is not decided yet.
    pub const fn of(answer: &Answer) -> Option<Self> {
        Some(match answer {
            Answer::Settled => Self::Settled,
            Answer::Rejected(rejection) => Self::Rejected(*rejection),
            Answer::Waiting(PaymentState::Scheduled) => Self::Scheduled,
            Answer::Waiting(_) => Self::Parked,
            Answer::Duplicate => Self::Duplicate,
            Answer::DeadLettered(reason) => Self::DeadLettered(*reason),
            Answer::StillWaiting | Answer::Deferred { .. } => return None,
        })
    }

    /// All values of the label `outcome`.
    pub const NAMES: [&'static str; 6] = ["settled", "rejected", "duplicate", "dead_lettered", "scheduled", "parked"];

    /// Returns the value of the label `outcome`.
    pub const fn name(self) -> &'static str {
        Self::NAMES[self.name_index()]
    }

    /// Returns the position of the name in [`Outcome::NAMES`].
    pub const fn name_index(self) -> usize {
        match self {
            Self::Settled => 0,
            Self::Rejected(_) => 1,
            Self::Duplicate => 2,
            Self::DeadLettered(_) => 3,
            Self::Scheduled => 4,
            Self::Parked => 5,
        }
    }

    /// Returns the value of the label `reason`.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Settled | Self::Duplicate | Self::Scheduled | Self::Parked => "none",
            Self::Rejected(rejection) => rejection.name(),
            Self::DeadLettered(reason) => reason.name(),
        }
    }

    /// Returns the position in [`Outcome::all`].
    pub const fn index(self) -> usize {
        match self {
            Self::Settled => 0,
            Self::Duplicate => 1,
            Self::Rejected(rejection) => 2 + rejection as usize,
            Self::DeadLettered(reason) => 2 + Rejection::ALL.len() + reason as usize,
            Self::Scheduled => 2 + Rejection::ALL.len() + DeadReason::ALL.len(),
            Self::Parked => 3 + Rejection::ALL.len() + DeadReason::ALL.len(),
        }
    }
}

/// Declares an enum whose values have names, with `ALL` and `name()`.
macro_rules! label {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $value:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$doc])* $variant),+
        }

        impl $name {
            /// All values, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the name, as metrics and `/readyz` show it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $value),+
                }
            }
        }
    };
}

pub(crate) use label;

label! {
    /// A table whose rows may be kept for a limited time.
    Kept {
        /// Those that are resolved.
        DeadLetter = "dead_letter",
        /// All of them.
        OutboxDiscarded = "outbox_discarded",
    }
}

label! {
    /// A server connection without which the daemon is not ready.
    Dependency {
        /// The PostgreSQL database.
        Postgres = "postgres",
        /// The RabbitMQ connection that consumes tasks.
        BrokerIntake = "broker_intake",
        /// The RabbitMQ connection that publishes events.
        BrokerRelay = "broker_relay",
        /// The RabbitMQ connection that appends events to a stream, if there is one.
        BrokerStream = "broker_stream",
    }
}

label! {
    /// A connection to RabbitMQ, which is opened again when it is lost.
    Connection {
        /// The connection that consumes tasks.
        Intake = "intake",
        /// The connection that publishes events.
        Relay = "relay",
        /// The connection that consumes the broker's dead-letter queue.
        DeadLetters = "dead_letters",
        /// The connection that appends events to a stream.
        Stream = "stream",
    }
}

label! {
    /// A kind of acknowledgement.
    AckKind {
        /// `basic.ack` with `multiple`: all deliveries up to a tag.
        Multiple = "multiple",
        /// `basic.ack` of one delivery, because an earlier one is not settled yet.
        Single = "single",
    }
}

label! {
    /// Why a batch is committed again.
    RetryKind {
        /// Another transaction was in the way: a deadlock (40P01), a serialization failure (40001), or another process
        /// that committed the same id first.
        Conflict = "conflict",
        /// PostgreSQL was unavailable, full, read-only or too slow, or the pool had no free connection.
        Unavailable = "unavailable",
        /// The connection was lost during COMMIT, so that it is not known whether the batch is committed.
        UnknownCommit = "unknown_commit",
    }
}

label! {
    /// Why the broker refuses an event, by closing the channel that it was published on.
    RefusalReason {
        /// The user may not write to the exchange (403).
        AccessRefused = "access_refused",
        /// There is no such exchange (404).
        NotFound = "not_found",
        /// The message is larger than the broker takes (406, 311).
        PreconditionFailed = "precondition_failed",
        /// Any other reply code.
        Other = "other",
    }
}

label! {
    /// What is done with an event that no queue takes.
    UnroutableAction {
        /// It stays in the outbox until a queue takes it.
        Held = "held",
        /// It is deleted from the outbox without having been published.
        Discarded = "discarded",
    }
}

label! {
    /// Something that the daemon does by itself.
    #[derive(PartialOrd, Ord)]
    Reflex {
        /// Pauses intake while the ledger and PostgreSQL disagree.
        Invariant = "invariant",
        /// Pauses intake while a clock is behind.
        Clock = "clock",
        /// Pauses intake before a disk is full.
        Disk = "disk",
        /// Sets the messages of a publisher aside that sends too many dead letters.
        Publisher = "publisher",
    }
}

label! {
    /// What a reflex did.
    ReflexAction {
        /// Nothing: it is set to observe.
        Observed = "observed",
        /// It acted.
        Acted = "acted",
        /// Nothing: it has acted too often.
        Suppressed = "suppressed",
        /// It undid what it did.
        Undone = "undone",
    }
}

label! {
    /// What became of spans.
    SpanResult {
        /// The collector has taken them.
        Exported = "exported",
        /// There was no room for them while the collector was slow or away.
        Dropped = "dropped",
        /// They were sent, and the collector did not take them.
        Failed = "failed",
    }
}

label! {
    /// A clock that ought to go forward.
    Clock {
        /// The clock of the machine that the daemon runs on.
        Daemon = "daemon",
        /// The clock of the PostgreSQL server.
        Database = "database",
    }
}

label! {
    /// How a reload of the configuration ended.
    ReloadResult {
        /// The configuration is valid: what can change at run time has changed.
        Success = "success",
        /// The configuration is not valid: everything stays as it was.
        Failure = "failure",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_indexed_in_their_own_order() {
        let outcomes: Vec<_> = Outcome::all().collect();
        assert_eq!(outcomes.len(), Outcome::COUNT);
        for (index, outcome) in outcomes.into_iter().enumerate() {
            assert_eq!(outcome.index(), index, "{outcome:?}");
        }
    }

    #[test]
    fn label_values_are_distinct() {
        let names: std::collections::HashSet<_> = RetryKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), RetryKind::ALL.len());
    }
}
