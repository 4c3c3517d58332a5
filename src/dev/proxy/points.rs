//! The points at which connections can be cut, and the count of the cuts to come and done.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Protocol;

/// Where a connection is cut: what has come before on it is forwarded, then both sides are
/// closed.
///
/// A COMMIT is that of a batch, and counts, if since its BEGIN a Bind named a statement in whose
/// text `INSERT INTO payment` stands. So the keeper's deletions, which end with a COMMIT as well,
/// go through, and so does a batch of nothing but dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CutPoint {
    /// PostgreSQL: the COMMIT of a batch is not forwarded.
    BeforeCommit,
    /// PostgreSQL: the COMMIT of a batch is forwarded and done, which the client does not hear.
    /// One that the server turned into a ROLLBACK doesn't count.
    AfterCommit,
    /// AMQP: an acknowledgement of the client, `basic.ack`, is not forwarded.
    BeforeAck,
    /// AMQP: an acknowledgement of the client is forwarded; nothing after it is.
    AfterAck,
    /// AMQP: a confirm of the server, `basic.ack` too, is not forwarded.
    BeforeConfirm,
}

impl CutPoint {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::BeforeCommit, Self::AfterCommit, Self::BeforeAck, Self::AfterAck, Self::BeforeConfirm];

    /// In which protocol it exists.
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::BeforeCommit | Self::AfterCommit => Protocol::Postgres,
            Self::BeforeAck | Self::AfterAck | Self::BeforeConfirm => Protocol::Amqp,
        }
    }
}

/// For each point the cuts to come and the cuts done.
#[derive(Debug, Default)]
pub(super) struct Points([Count; CutPoint::ALL.len()]);

#[derive(Debug, Default)]
struct Count {
    reached: AtomicU64,
    armed: AtomicU64,
    cuts: AtomicU64,
}

impl Points {
    pub(super) fn arm(&self, point: CutPoint) {
        self.of(point).armed.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn armed(&self, point: CutPoint) -> u64 {
        self.of(point).armed.load(Ordering::Acquire)
    }

    /// Whether whoever has reached `point` is to be cut, which nobody else is told then.
    pub(super) fn take(&self, point: CutPoint) -> bool {
        let Count { reached, armed, .. } = self.of(point);
        reached.fetch_add(1, Ordering::AcqRel);
        armed.fetch_update(Ordering::AcqRel, Ordering::Acquire, |armed| armed.checked_sub(1)).is_ok()
    }

    pub(super) fn reached(&self, point: CutPoint) -> u64 {
        self.of(point).reached.load(Ordering::Acquire)
    }

    pub(super) fn has_cut(&self, point: CutPoint) {
        self.of(point).cuts.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn cuts(&self, point: CutPoint) -> u64 {
        self.of(point).cuts.load(Ordering::Acquire)
    }

    const fn of(&self, point: CutPoint) -> &Count {
        // In the order of `ALL`, which is that of the declaration.
        &self.0[point as usize]
    }
}
