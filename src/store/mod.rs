//! All the SQL: nothing outside this directory speaks to PostgreSQL.

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
pub mod seed;
mod server;
mod session;
mod settings;

pub use tokio_postgres::Client;

pub use agenda::{Due, Waiting};
pub use batch::{Answer, BatchStore, Committed, MAX_BATCH_BYTES, Parcel, PostgresStore, Prepared, Proof, Submission};
#[cfg(test)]
pub(crate) use batch::{Memory, Stored, event_ids};
pub use connect::{ConnectError, Probed, connect, probe};
pub use durable::durable;
pub use error::StoreError;
pub use migrate::{MigrateError, migrate, migrate_to, missing};
pub use pool::{Pool, PoolSetUpError, pool};
pub use server::warnings;
pub use settings::{PostgresSettings, PostgresUrl};
