//! `settled`: takes payment tasks from RabbitMQ, posts each of them exactly once to a
//! double-entry ledger in PostgreSQL, acknowledges only after the commit, and publishes
//! what happened.

pub mod contract;
pub mod ledger;
pub mod dev;
