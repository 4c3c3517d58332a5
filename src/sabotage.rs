//! Deliberate defects, one at a time, for testing what has to find them: the verdict of the load
//! test, and whatever else judges the daemon from outside. A checker that was never seen to refuse
//! anything proves nothing.
//!
//! To add one: a variant of [`Defect`], and a question, `strikes` or `has`, at the line that
//! then does the wrong thing. Without the feature `sabotage` the answer is a constant "no", and
//! nothing is left of the question. With it, only the binary `settled-sabotaged` chooses a defect:
//! any other stays honest.

use crate::contract::Task;
use crate::ledger::{Arrival, Balance, Posting};

#[cfg(feature = "sabotage")]
pub(crate) use broken::{ack, choose, confess, has, late, strikes};
#[cfg(all(test, feature = "sabotage"))]
pub(crate) use broken::{name, with};
#[cfg(not(feature = "sabotage"))]
pub(crate) use honest::{has, strikes};

/// What can be wrong with a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "sabotage", derive(clap::ValueEnum), value(rename_all = "snake_case"))]
pub(crate) enum Defect {
    /// A batch is acknowledged before its transaction is begun. That takes a forged proof: no other
    /// build has even the question.
    #[cfg(feature = "sabotage")]
    AckBeforeCommit,
    /// The event of a payment is not written to the outbox.
    DroppedEvent,
    /// A payment is posted twice.
    DoubledEntry,
    /// A payment is acknowledged as settled, and nothing is applied.
    LostMessage,
    /// An acknowledgement that could not be sent counts as sent.
    AckFailureIgnored,
    /// What is settled after the end of its epoch is acknowledged in the next one.
    #[cfg(feature = "sabotage")]
    StaleEpochAcked,
    /// A multiple acknowledgement covers deliveries that are not settled.
    AckAcrossGap,
    /// A task with a known id and other content is applied.
    AlteredReplayApplied,
    /// The outbox is swept from where the last sweep ended, not row by row.
    #[cfg(feature = "sabotage")]
    OutboxCursor,
    /// An event that came back counts as published.
    ReturnedEventCounted,
    /// A repetition is known by its bytes, not by what they say.
    DedupedByBytes,
    /// A task that finds its lane full is dropped.
    DroppedOnFullLane,
    /// An event counts as published once it is sent.
    ConfirmNotAwaited,
    /// A commit whose answer is lost, or that is lost itself, is taken for one that happened.
    #[cfg(feature = "sabotage")]
    CommitErrorSwallowed,
    /// Accounts are locked in any order.
    UnorderedLocks,
    /// An outcome that is found counts as durable.
    #[cfg(any(test, feature = "sabotage"))]
    LookupTakenForDurable,
}

/// The posting that follows if the same is posted again.
pub(crate) const fn once_more(posting: &Posting) -> Posting {
    let Posting { amount, after } = *posting;
    Posting { amount, after: Balance { posted: after.posted + amount, version: after.version + 1, ..after } }
}

#[cfg(not(feature = "sabotage"))]
mod honest {
    use super::{Arrival, Defect, Task};

    /// Whether this daemon has the defect.
    pub(crate) const fn has(_: Defect) -> bool {
        false
    }

    /// Whether the defect shows in this task.
    pub(crate) const fn strikes(defect: Defect, _: Arrival, _: &Task) -> bool {
        has(defect)
    }
}

#[cfg(feature = "sabotage")]
mod broken {
    use std::ffi::OsStr;
    use std::sync::OnceLock;
    use std::time::Duration;

    use clap::ValueEnum;
    use parking_lot::Mutex;

    use super::{Arrival, Defect, Task};
    use crate::config::{Origin, Problem};
    use crate::contract::TaskBody;
    use crate::store::Proof;
    use crate::worker::{Delivery, Job};

    static CHOSEN: OnceLock<Defect> = OnceLock::new();

    /// Tags of epochs that are over.
    #[cfg(not(test))]
    static LATE: Mutex<Vec<u64>> = Mutex::new(Vec::new());

    #[cfg(test)]
    thread_local! {
        static LATE: Mutex<Vec<u64>> = const { Mutex::new(Vec::new()) };

        /// What is tried on this thread.
        static TRIED: std::cell::Cell<Option<Defect>> = const { std::cell::Cell::new(None) };
    }

    /// Of so many arrivals one is struck, if it is a payment.
    const INTERVAL: u64 = 100;

    /// From the acknowledgement to the transaction: longer than all else that is done for a batch,
    /// so that a daemon that is killed is killed in between.
    const GAP: Duration = Duration::from_millis(100);

    impl Defect {
        /// The environment variable that names one.
        pub(crate) const VARIABLE: &'static str = "SETTLED_SABOTAGE";

        /// The defect of that name.
        ///
        /// # Errors
        /// With the names that there are.
        pub(crate) fn named(name: Option<&OsStr>) -> Result<Self, Problem> {
            let text = name.map(OsStr::to_string_lossy);
            if let Some(Ok(defect)) = text.as_deref().map(|name| Self::from_str(name, false)) {
                return Ok(defect);
            }
            let names = Self::value_variants().iter().filter_map(Self::to_possible_value);
            let names: Vec<String> = names.map(|value| value.get_name().to_owned()).collect();
            let found = text.map_or("nothing".to_owned(), |name| format!("`{name}`"));
            Err(Problem {
                origin: Origin::Env(Self::VARIABLE),
                key: String::new(),
                message: format!("found {found}, expected one of {}", names.join(", ")),
                remedy: "name what is to be wrong, or use `settled`: this is a build for tests".to_owned(),
            })
        }
    }

    /// Has this process get it wrong from here on. The first choice counts.
    pub(crate) fn choose(defect: Defect) {
        CHOSEN.get_or_init(|| defect);
    }

    /// Whether this daemon has the defect.
    pub(crate) fn has(defect: Defect) -> bool {
        #[cfg(test)]
        if TRIED.get().is_some() {
            return TRIED.get() == Some(defect);
        }
        CHOSEN.get() == Some(&defect)
    }

    /// Has whatever `work` does on this thread get it wrong.
    #[cfg(test)]
    pub(crate) fn with<T>(defect: Option<Defect>, work: impl FnOnce() -> T) -> T {
        TRIED.set(defect);
        late(None);
        let done = work();
        TRIED.set(None);
        done
    }

    /// The name of a defect.
    #[cfg(test)]
    pub(crate) fn name(defect: Defect) -> String {
        defect.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Keeps a tag for an epoch that it is not of; answers all that are kept.
    pub(crate) fn late(tag: Option<u64>) -> Vec<u64> {
        let keep = |late: &Mutex<Vec<u64>>| match tag {
            Some(tag) => {
                late.lock().push(tag);
                Vec::new()
            }
            None => std::mem::take(&mut *late.lock()),
        };
        #[cfg(test)]
        return LATE.with(keep);
        #[cfg(not(test))]
        keep(&LATE)
    }

    /// Whether the defect shows in this task: in every 100th to arrive, if it is a payment. Accounts
    /// are spared, without which there is no load.
    pub(crate) fn strikes(defect: Defect, arrival: Arrival, task: &Task) -> bool {
        let is_payment = matches!(task.body, TaskBody::Transfer(_));
        has(defect) && is_payment && (arrival.0 + 1).is_multiple_of(INTERVAL)
    }

    /// Tells the log what is wrong with this daemon.
    pub(crate) fn confess() {
        if let Some(defect) = CHOSEN.get() {
            tracing::error!(?defect, "THIS DAEMON IS BROKEN ON PURPOSE, to test what has to find out");
        }
    }

    /// Acknowledges a batch of which nothing is committed.
    pub(crate) async fn ack<D: Delivery>(jobs: &[Job<D>]) {
        let proof = Proof::forged();
        jobs.iter().for_each(|job| job.delivery.settle_early(&proof));
        tokio::time::sleep(GAP).await;
    }
}
