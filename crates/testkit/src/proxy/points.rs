//! The points at which connections can be cut, and counters of pending and completed cuts.

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use super::Protocol;

/// Where a connection is cut. All bytes before the point are forwarded, then both sides are closed.
///
/// Only the COMMIT of a batch counts: since its BEGIN, a Bind must have used a statement whose text contains `INSERT
/// INTO payment`. So the commits of the sweeper's deletions pass, and so do batches that contain only dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CutPoint {
    /// PostgreSQL: the COMMIT of a batch is not forwarded.
    BeforeCommit,
    /// PostgreSQL: the COMMIT of a batch is forwarded and executed, but the reply isn't forwarded. A COMMIT that the
    /// server turned into a ROLLBACK doesn't count.
    AfterCommit,
    /// AMQP: a `basic.ack` of the client, which is an acknowledgement, is not forwarded.
    BeforeAck,
    /// AMQP: a `basic.ack` of the client is forwarded, and nothing after it.
    AfterAck,
    /// AMQP: a `basic.ack` of the server, which is a confirm, is not forwarded.
    BeforeConfirm,
    /// Streams: a `PublishConfirm` of the server is not forwarded.
    BeforeStreamConfirm,
    /// Streams: a `PublishConfirm` of the server is forwarded, and nothing after it.
    AfterStreamConfirm,
}

impl CutPoint {
    pub const ALL: [Self; 7] = [
        Self::BeforeCommit,
        Self::AfterCommit,
        Self::BeforeAck,
        Self::AfterAck,
        Self::BeforeConfirm,
        Self::BeforeStreamConfirm,
        Self::AfterStreamConfirm,
    ];

    /// Returns the protocol in which the point exists.
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::BeforeCommit | Self::AfterCommit => Protocol::Postgres,
            Self::BeforeAck | Self::AfterAck | Self::BeforeConfirm => Protocol::Amqp,
            Self::BeforeStreamConfirm | Self::AfterStreamConfirm => Protocol::Stream,
        }
    }
}

/// Pending and completed cuts for each point.
#[derive(Debug, Default)]
pub(super) struct Points(Mutex<[Count; CutPoint::ALL.len()]>);

#[derive(Debug, Default)]
pub(super) struct Count {
    pub(super) reached: u64,
    pub(super) armed: u64,
    pub(super) cuts: u64,
}

impl Points {
    pub(super) fn at(&self, point: CutPoint) -> MappedMutexGuard<'_, Count> {
        // Valid as an index because `ALL` has the order of the declaration.
        MutexGuard::map(self.0.lock(), |counts| &mut counts[point as usize])
    }

    /// Returns true exactly once for each pending cut: the connection must then be cut at `point`.
    pub(super) fn take(&self, point: CutPoint) -> bool {
        let mut count = self.at(point);
        count.reached += 1;
        let is_cut = count.armed > 0;
        count.armed -= u64::from(is_cut);
        is_cut
    }
}
