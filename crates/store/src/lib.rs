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
mod gauges;
mod grants;
mod hosts;
mod instances;
mod journal;
mod migrate;
mod names;
pub mod outbox;
mod pool;
mod preconditions;
mod privileges;
pub mod queries;
mod retention;
mod schema;
mod server;
mod session;
mod settings;
mod sql;
mod stream;
mod tls;

pub use tokio_postgres::Client;

pub use batch::{PostgresStore, decision};
pub use connect::{ConnectError, connect, connect_to_read};
pub use durable::durable;
pub use gauges::PostgresGauges;
pub use grants::{Granted, Roles, grant, plan_grants};
pub use instances::{Activity, PostgresInstances, Registration};
pub use journal::PostgresJournal;
pub use migrate::{MigrateError, migrate, migrate_each, migrate_to};
pub use pool::{Object, Pool, PoolSetUpError, live_pool, pool};
pub use preconditions::unmet;
pub use retention::PostgresRetention;
pub use schema::{Schema, SchemaProblem, schema, usable_schema};
pub use server::{Probed, probe, warnings};
pub use settings::{PostgresSettings, PostgresUrl};
pub use stream::PostgresStream;
