//! `settled`: takes payment tasks from RabbitMQ, posts each of them exactly once to a
//! double-entry ledger in PostgreSQL, acknowledges only after the commit, and publishes
//! what happened.
//!
//! No task is acknowledged without a committed row that says what became of it, and no
//! committed row is applied twice.
//!
//! The modules, first those that a payment passes, in its order:
#![cfg_attr(rustfmt, rustfmt::skip)]

pub mod intake;
pub mod contract;
pub mod lanes;
pub mod worker;
pub mod ledger;
pub mod store;
pub mod disposition;
pub mod retry;
pub mod outbox;
pub mod agenda;

// What surrounds the way of a payment.
pub mod daemon;
pub mod lifecycle;
pub mod health;
pub mod admin;
pub mod telemetry;
pub mod broker;
pub mod tls;
pub mod config;
pub mod cli;
pub mod dev;
mod printable;

// The pipeline between a simulated broker and a simulated store.
#[cfg(test)]
mod simulation;

// Deliberate defects, in builds that ask for them.
mod sabotage;

/// The version, as it is told everywhere. A build that can be broken on purpose says so.
pub const VERSION: &str = if cfg!(feature = "sabotage") {
    concat!(env!("CARGO_PKG_VERSION"), "+sabotage")
} else {
    env!("CARGO_PKG_VERSION")
};
