//! `settled`: takes payment tasks from RabbitMQ, posts each of them exactly once to a
//! double-entry ledger in PostgreSQL, acknowledges only after the commit, and publishes
//! what happened.

pub mod admin;
pub mod cli;
pub mod config;
pub mod contract;
pub mod intake;
pub mod outbox;
pub mod retry;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod worker;
