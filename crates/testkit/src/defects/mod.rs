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
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use clap::ValueEnum;
use settled_pipeline::machine::Outside;
use settled_pipeline::store::Proof;

pub use self::sink::{ChannelOf, DefectivePublishing};

/// Some defects affect only one payment in this many.
pub const INTERVAL: u64 = 100;

/// The bug of a defective daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
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

impl fmt::Display for Defect {
    /// Writes the name of the defect, as in the command line and the documentation.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().expect("no defect is skipped").get_name())
    }
}

/// Passes everything on between the pipeline and `T`, except for the defect.
#[derive(Clone, Debug)]
pub struct Defective<T> {
    inner: T,
    defect: Option<Defect>,
    seen: Arc<Seen>,
}

/// What has passed so far.
#[derive(Debug, Default)]
struct Seen {
    /// Highest row id that a sweep has returned.
    swept: AtomicI64,
    /// Number of events of plain payments.
    payments: AtomicU64,
    /// The last delivered tag of a session, and the last acknowledged one.
    delivered: AtomicU64,
    covered: AtomicU64,
}

impl<T> Defective<T> {
    fn new(inner: T, defect: Option<Defect>) -> Self {
        Self { inner, defect, seen: Arc::default() }
    }

    /// Wraps a part of `T`.
    fn part<U>(&self, inner: U) -> Defective<U> {
        Defective { inner, defect: self.defect, seen: Arc::clone(&self.seen) }
    }
}

/// The servers of a pipeline, with a defect between them and the pipeline.
pub type DefectiveOutside<S, O, I, E> = Outside<Defective<S>, Defective<O>, Defective<I>, Defective<E>>;

/// Wraps `outside` with `defect`. Without a defect, everything is passed on unchanged.
pub fn seed<S, O, I, E>(defect: Option<Defect>, outside: Outside<S, O, I, E>) -> DefectiveOutside<S, O, I, E> {
    let Outside { store, outbox, source, sink } = outside;
    Outside {
        store: Defective::new(store, defect),
        outbox: Defective::new(outbox, defect),
        source: Defective::new(source, defect),
        sink: Defective::new(sink, defect),
    }
}

#[expect(clippy::disallowed_methods, reason = "that nothing is committed is the defect")]
const fn forged() -> Proof {
    Proof::without_evidence()
}
