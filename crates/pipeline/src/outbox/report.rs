//! What the relay reports to the sweeper.

use tokio::sync::OwnedSemaphorePermit;

use crate::store::Unrouted;

/// What became of an event batch, for the sweeper.
#[derive(Debug)]
pub struct Report {
    /// Id of the outbox row.
    pub id: i64,
    /// The routing key under which the row was held before.
    pub held_key: Option<String>,
    /// Whether the row was held because the broker had refused it.
    pub was_refused: bool,
    /// The events to hold. If there are none, the row is done and can be deleted.
    pub unrouted: Vec<Unrouted>,
    /// The bytes that stay reserved in the relay queue until the report is dropped.
    pub bytes: OwnedSemaphorePermit,
}
