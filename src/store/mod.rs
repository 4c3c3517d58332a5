//! All the SQL.

mod connect;
mod settings;

pub use connect::{ConnectError, connect, probe};
pub use settings::{PostgresSettings, PostgresUrl};
