//! Seeded defects: daemons with one known bug, for testing that the checks find it. A check that has never failed
//! proves nothing.
//!
//! The defects in this module are wrappers around the interfaces between the pipeline and its servers, so that no
//! crate of the product knows of them: [`seed`] wraps both servers. A defect inside the ledger, the store or the
//! pipeline is a patch in `crates/testkit/defects/`, which `make defects` applies to a copy of the sources.
//!
//! To add a defect, add a variant of [`Defect`] and implement it in the wrapper of its interface, or write a patch.
//! Then add a test that finds it.

mod outbox;
mod sink;
mod source;
mod store;

use std::fmt;

use settled_pipeline::machine::Outside;
use settled_pipeline::store::Proof;

pub use self::outbox::DefectiveOutbox;
pub use self::sink::{DefectiveChannel, DefectiveConfirm, DefectivePublishing, DefectiveSink};
pub use self::source::{DefectiveAcks, DefectiveSession, DefectiveSource};
pub use self::store::DefectiveStore;

/// Some defects affect only one payment in this many.
pub const INTERVAL: u64 = 100;

/// The bug of a defective daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Deliveries are acknowledged when they arrive, and committed later.
    AckBeforeCommit,
    /// An acknowledgement that could not be sent is taken to be sent.
    AckFailureIgnored,
    /// A multiple acknowledgement covers deliveries that are not settled.
    AckAcrossGap,
    /// Two messages count as the same task only if their bytes are equal.
    DedupedByBytes,
    /// A payment is acknowledged as settled but never applied.
    LostMessage,
    /// A commit with an unknown outcome is taken to be committed.
    CommitErrorSwallowed,
    /// A sweep starts at the last id of the sweep before, so it misses rows that are committed late.
    OutboxCursor,
    /// The event of a payment is taken to be confirmed but never sent.
    DroppedEvent,
    /// An event that no queue took is taken to be published.
    ReturnedEventCounted,
    /// An event is taken to be published as soon as it is sent.
    ConfirmNotAwaited,
}

impl Defect {
    pub const ALL: [Self; 10] = [
        Self::AckBeforeCommit,
        Self::AckFailureIgnored,
        Self::AckAcrossGap,
        Self::DedupedByBytes,
        Self::LostMessage,
        Self::CommitErrorSwallowed,
        Self::OutboxCursor,
        Self::DroppedEvent,
        Self::ReturnedEventCounted,
        Self::ConfirmNotAwaited,
    ];

    /// Name of the defect, for the command line and the documentation.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AckBeforeCommit => "ack_before_commit",
            Self::AckFailureIgnored => "ack_failure_ignored",
            Self::AckAcrossGap => "ack_across_gap",
            Self::DedupedByBytes => "deduped_by_bytes",
            Self::LostMessage => "lost_message",
            Self::CommitErrorSwallowed => "commit_error_swallowed",
            Self::OutboxCursor => "outbox_cursor",
            Self::DroppedEvent => "dropped_event",
            Self::ReturnedEventCounted => "returned_event_counted",
            Self::ConfirmNotAwaited => "confirm_not_awaited",
        }
    }

    /// Returns the defect with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|defect| defect.name() == name)
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The servers of a pipeline, with a defect between them and the pipeline.
pub type Defective<S, O, I, E> = Outside<DefectiveStore<S>, DefectiveOutbox<O>, DefectiveSource<I>, DefectiveSink<E>>;

/// Wraps `outside` with `defect`. Without a defect, everything is passed on unchanged.
pub fn seed<S, O, I, E>(defect: Option<Defect>, outside: Outside<S, O, I, E>) -> Defective<S, O, I, E> {
    let Outside { store, outbox, source, sink } = outside;
    Outside {
        store: DefectiveStore::new(store, defect),
        outbox: DefectiveOutbox::new(outbox, defect),
        source: DefectiveSource::new(source, defect),
        sink: DefectiveSink::new(sink, defect),
    }
}

#[expect(clippy::disallowed_methods, reason = "that nothing is committed is the defect")]
const fn forged() -> Proof {
    Proof::without_evidence()
}
