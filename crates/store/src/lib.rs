//! The ledger's tables in PostgreSQL: all of the SQL, the migrations, the pool.
//!
//! A batch is one transaction in two round trips: begin, lock, read; write, commit. A
//! [`Proof`](settled_pipeline::store::Proof) is made by the commit of such a transaction and by nothing else.
//!
//! A function that returns PostgreSQL's error does so if the server is unreachable, refuses a statement or takes too
//! long; other reasons are documented where they occur.
//!
//! Must never know: lapin, HTTP.

#![allow(missing_docs, reason = "fields are named as the columns they are read from")]

pub(crate) mod agenda;
mod batch;
mod connect;
mod driver;
mod durable;
mod error;
mod hosts;
mod migrate;
mod names;
pub mod outbox;
mod pool;
pub mod queries;
mod server;
mod session;
mod settings;
mod sql;
mod tls;

pub use tokio_postgres::Client;

pub use batch::{PostgresStore, decision};
pub use connect::{ConnectError, connect, connect_to_read};
pub use durable::durable;
pub use migrate::{MigrateError, migrate, migrate_each, migrate_to, missing};
pub use pool::{Object, Pool, PoolSetUpError, pool};
pub use server::{Probed, probe, warnings};
pub use settings::{PostgresSettings, PostgresUrl};
