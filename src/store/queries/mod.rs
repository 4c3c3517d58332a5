//! What operators ask: read-only, but for the marks on dead letters, what is held of the outbox, and the
//! ledger's incarnation. One
//! file per aggregate.
//!
//! Nothing here writes the ledger; that is the batch path's alone.

pub mod account;
pub mod audit;
pub mod dead_letter;
pub mod ledger;
pub mod outbox;
pub mod payment;

use std::time::Duration;

use tokio_postgres::GenericClient;
use uuid::Uuid;

use super::error::describe;

/// Why a question has no answer. The message is complete: there is no source to be added to it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL refused, or is away.
    #[error("PostgreSQL: {}", describe(.0))]
    Postgres(tokio_postgres::Error),
    /// A payment's row says what no task could have said.
    #[error("payment {id}: `{column}` holds {value:?}, which the contract doesn't know")]
    Unreadable {
        /// Whose row.
        id: Uuid,
        /// Where in it.
        column: &'static str,
        /// What it says.
        value: String,
    },
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl Error {
    /// Whether PostgreSQL is away, rather than the question wrong: no answer came, or the
    /// server said that it is going or has no room.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Postgres(error) => match error.code() {
                Some(state) => matches!(state.code().get(..2), Some("08" | "53" | "57" | "58")) && !self.is_timeout(),
                None => error.is_closed() || std::error::Error::source(error).is_some_and(|e| e.is::<std::io::Error>()),
            },
            Self::Unreadable { .. } => false,
        }
    }

    /// Whether the database has not the tables that are asked for.
    pub fn is_schema_missing(&self) -> bool {
        matches!(self, Self::Postgres(error) if error.code() == Some(&tokio_postgres::error::SqlState::UNDEFINED_TABLE))
    }

    /// Whether the statement took longer than it may.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Postgres(error) if error.code() == Some(&tokio_postgres::error::SqlState::QUERY_CANCELED))
    }
}

/// From now on this connection's statements end after `limit`.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn limit_statements(client: &impl GenericClient, limit: Duration) -> Result<(), Error> {
    // 0 would be no limit; PostgreSQL counts in an `int`.
    let milliseconds = limit.as_millis().clamp(1, i32::MAX.unsigned_abs().into());
    Ok(client.batch_execute(&format!("SET statement_timeout = {milliseconds}")).await?)
}
