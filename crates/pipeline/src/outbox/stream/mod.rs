//! Appends events to a stream, each exactly once, if `events.transport` is `"stream"`.
//!
//! The events of a batch are a row, written in the batch's transaction. Whichever daemon holds the lease of the ledger's
//! one producer takes committed rows in the order of their ids, commits which rows get which publishing ids, and only
//! then appends. Whoever takes the lease over appends the same rows with the same ids, and the stream drops those that it
//! has. No id is given to what isn't committed yet, so nothing becomes visible behind an id that was published.
//!
//! Rows are given ids in an order that keeps cause before effect: who has seen what a row tells wrote a later row.

mod handover;
mod messages;
mod position;
mod relay;
mod session;
mod store;
#[cfg(test)]
mod tests;

pub use self::handover::Handover;
pub use self::position::Kept;
pub use self::relay::StreamRelay;
pub use self::store::{Advance, Given, Held, StreamStore};
