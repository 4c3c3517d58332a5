//! `settled`: takes payment tasks from RabbitMQ, posts each of them exactly once to a double-entry ledger in PostgreSQL,
//! acknowledges only after the commit, and publishes what happened.
//!
//! No task is acknowledged without a committed row that says what became of it, and no committed row is applied twice.
//!
//! This crate is the program: command line, configuration, wiring. `settled-pipeline` moves tasks through the process,
//! `settled-core` decides what a payment means, `settled-store` holds the SQL and `settled-amqp` the AMQP.

// The library exists for the binary and its tests. Comments stand where they say more than the name.
#![allow(missing_docs)]

pub mod admin;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod dev;
mod http;
pub mod lifecycle;
mod printable;
pub mod profile;
pub mod telemetry;

pub use settled_pipeline::VERSION;
