//! Test support for the daemon: models, servers, proxies and defects. No daemon contains it.
//!
//! The product never depends on this crate: its tests, benchmarks and load test do.
#![cfg_attr(rustfmt, rustfmt::skip)]

// In-memory tables that implement the store's interface.
pub mod memory;

// A second ledger, written from the contract, and the replay of a database through it.
pub mod model;
pub mod replay;

// Proxies that cut connections at a given point of the protocol.
pub mod proxy;

// Ledgers with a history, and batches that are decided before PostgreSQL is measured.
pub mod prepared;
pub mod seed;

// Daemons with one known bug each.
pub mod defects;

// Private PostgreSQL and RabbitMQ servers that tests can break.
pub mod servers;

// Databases and broker names per test, real daemons, publishers and consumers.
pub mod harness;


use settled_core::contract;

