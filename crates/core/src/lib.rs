//! What a payment is: the contract that crosses the wire, and the double-entry ledger.
//!
//! Both are pure. A batch of tasks and the accounts they touch go in; outcomes, entries and events come out. A decline
//! is a value, never an error.
//!
//! Must never know: tokio, lapin, SQL, a clock, files, the environment. None of them is in its `Cargo.toml`; the time
//! and the operator's rules are passed in.

pub mod contract;
pub mod ledger;
mod named;
