//! All the SQL: nothing outside this directory speaks to PostgreSQL.

mod batch;
mod error;
mod migrate;
mod names;
pub mod outbox;
mod pool;
pub mod queries;
mod settings;

pub use batch::{Answer, BatchStore, Committed, Parcel, PostgresStore, Proof, Submission};
pub use error::StoreError;
pub use migrate::{MigrateError, migrate, missing};
pub use pool::{SetUpError, connection_config, pool, tls};
pub use settings::PostgresSettings;
