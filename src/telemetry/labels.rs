//! The values of metric labels: closed sets, so that the number of series is bounded and every
//! series is there, at zero, from the start.

use crate::contract::{DeadReason, PaymentState, Rejection};
use crate::store::Answer;

/// What a delivery came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Applied.
    Settled,
    /// Declined.
    Rejected(Rejection),
    /// Had its outcome already; nothing was applied.
    Duplicate,
    /// Set apart for a person.
    DeadLettered(DeadReason),
    /// Waits for its time.
    Scheduled,
    /// Waits for another task.
    Parked,
}

impl Outcome {
    /// How many there are, reasons told apart.
    pub const COUNT: usize = 4 + Rejection::ALL.len() + DeadReason::ALL.len();

    /// All of them, in the order of [`Outcome::index`].
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Settled, Self::Duplicate]
            .into_iter()
            .chain(Rejection::ALL.map(Self::Rejected))
            .chain(DeadReason::ALL.map(Self::DeadLettered))
            .chain([Self::Scheduled, Self::Parked])
    }

    /// What an answer comes to; `None` when it isn't decided.
    pub const fn of(answer: &Answer) -> Option<Self> {
        Some(match answer {
            Answer::Settled => Self::Settled,
            Answer::Rejected(rejection) => Self::Rejected(*rejection),
            Answer::Waiting(PaymentState::Scheduled) => Self::Scheduled,
            Answer::Waiting(_) => Self::Parked,
            Answer::Duplicate => Self::Duplicate,
            Answer::DeadLettered(reason) => Self::DeadLettered(*reason),
            Answer::StillWaiting | Answer::SetAside { .. } => return None,
        })
    }

    /// The value of the label `outcome`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Rejected(_) => "rejected",
            Self::Duplicate => "duplicate",
            Self::DeadLettered(_) => "dead_lettered",
            Self::Scheduled => "scheduled",
            Self::Parked => "parked",
        }
    }

    /// The value of the label `reason`.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Settled | Self::Duplicate | Self::Scheduled | Self::Parked => "none",
            Self::Rejected(rejection) => rejection.name(),
            Self::DeadLettered(reason) => reason.name(),
        }
    }

    /// Its place among [`Outcome::all`].
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

/// Declares an enum of label values with `ALL` and `name()`.
macro_rules! label {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $value:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$doc])* $variant),+
        }

        impl $name {
            /// All of them, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The label's value.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $value),+
                }
            }
        }
    };
}

label! {
    /// What the daemon needs to do its work.
    Dependency {
        /// The database.
        Postgres = "postgres",
        /// The connection that takes tasks.
        BrokerIntake = "broker_intake",
        /// The connection that publishes events.
        BrokerRelay = "broker_relay",
    }
}

label! {
    /// A connection that is made again when it is lost.
    Connection {
        /// Takes tasks.
        Intake = "intake",
        /// Publishes events.
        Relay = "relay",
        /// Takes what the broker has given up.
        DeadLetters = "dead_letters",
    }
}

label! {
    /// How deliveries are acknowledged.
    AckKind {
        /// Everything up to a delivery tag.
        Multiple = "multiple",
        /// One delivery that others hold up.
        Single = "single",
    }
}

label! {
    /// Why a batch is run again.
    RetryKind {
        /// Another transaction was in the way: a deadlock (40P01), a serialization failure (40001),
        /// or another instance that won the race for an id.
        Conflict = "conflict",
        /// PostgreSQL was away, full, read-only, too slow, or had no connection to give.
        Unavailable = "unavailable",
        /// It isn't known whether the commit took place.
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
        /// Anything else.
        Other = "other",
    }
}

label! {
    /// What is done with an event that no queue takes.
    UnroutableAction {
        /// Kept until a queue takes it.
        Held = "held",
        /// Thrown away, as the settings ask.
        Discarded = "discarded",
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
