//! The ledger: a pure, synchronous function from a batch of tasks and the accounts they touch
//! to what becomes of each.
//!
//! No clock, no I/O, no error: a decline is a value. Tasks are evaluated one after another in
//! the order of their arrival, so that a batch gives what one by one would have given.

mod account;
mod apply;
#[cfg(test)]
mod tests;

pub use account::{Account, AccountIx, AccountStatus};
pub use apply::{Item, Known, NonePending, Outcome, Pending, Posting, apply};

/// The position of a task in the order in which this daemon took them from the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arrival(pub u64);
