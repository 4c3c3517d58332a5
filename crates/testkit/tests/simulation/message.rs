//! A message of a load.

use std::time::Duration;

use jiff::Timestamp;
use settled_core::contract::{Findings, Flaw, Message, Properties};
use uuid::Uuid;

/// Start time of a simulation, in seconds since 1970.
pub(super) const EPOCH: i64 = 1_800_000_000;

/// The reference of a payment that the database refuses to store.
pub(super) const POISON: &str = "poison";

/// Prefix of the accounts that are changed while they pay and are paid.
pub(super) const SHOP: &str = "shop:";

/// The kind of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A valid task, or a repetition of one.
    Task,
    /// A task that the database refuses.
    Poison,
    /// A task with the id of an earlier one and other content.
    Altered,
    /// A body that is not a task.
    Malformed,
    /// A task with a property that can't be read.
    Unreadable,
}

/// A message and the time at which it is published.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) kind: Kind,
    pub(super) body: String,
    /// Time of publication, since the start of the run.
    pub(super) at: Duration,
}

impl Sent {
    /// Returns the message as a daemon receives it.
    pub(super) fn message(&self, now: Timestamp) -> Message {
        let mut findings = Findings::default();
        if self.kind == Kind::Unreadable {
            findings.flaws.push(Flaw::not_utf8("correlation_id", "", b"\xff"));
        }
        Message::read_with(&findings, self.body.clone().into_bytes(), Properties::default(), now)
    }
}

/// Returns the last part of an id, which is unique in a run.
pub(super) fn short(id: Uuid) -> String {
    id.simple().to_string().split_off(26)
}
