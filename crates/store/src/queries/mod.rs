//! The queries of the command line, one file per aggregate. They only read, except that dead letters are marked, held
//! events are retried or discarded, the ledger gets a new incarnation, and daemons are drained and resumed.
//!
//! Invariant: nothing here writes accounts, payments or entries.

pub mod account;
pub mod audit;
pub mod dead_letter;
pub mod instance;
pub mod ledger;
pub mod outbox;
pub mod payment;
pub mod reflex;

use std::time::Duration;

use tokio_postgres::GenericClient;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::error::describe;

/// Why a query failed. The message is complete; no source has to be appended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL is unavailable or refused the statement.
    #[error("PostgreSQL: {}", describe(.0))]
    Postgres(tokio_postgres::Error),
    /// A column of a payment holds a value that is not in the contract.
    #[error("payment {id}: `{column}` holds {value:?}, which the contract doesn't know")]
    Unreadable { id: Uuid, column: &'static str, value: String },
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl Error {
    /// Returns true if PostgreSQL is unavailable: there was no response, or the server is stopping or out of resources.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Postgres(error) => match error.code() {
                Some(state) => matches!(state.code().get(..2), Some("08" | "53" | "57" | "58")) && !self.is_timeout(),
                None => error.is_closed() || std::error::Error::source(error).is_some_and(|e| e.is::<std::io::Error>()),
            },
            Self::Unreadable { .. } => false,
        }
    }

    /// Returns true if a table is missing.
    pub fn is_schema_missing(&self) -> bool {
        matches!(self, Self::Postgres(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE))
    }

    /// Returns true if a standby has ended the transaction, because it was in the way of the primary's changes.
    pub fn is_recovery_conflict(&self) -> bool {
        // A transaction that only reads has no other conflict.
        matches!(self, Self::Postgres(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE))
    }

    /// Returns true if the statement took longer than it may.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Postgres(error) if error.code() == Some(&SqlState::QUERY_CANCELED))
    }
}

/// The shortest time limit of a statement. A busy server may take some of it before it begins.
const LEAST_LIMIT_MILLIS: u128 = 20;

/// Sets the time limit of this connection's statements.
pub async fn limit_statements(client: &impl GenericClient, limit: Duration) -> Result<(), Error> {
    // 0 would be no limit; PostgreSQL counts in an `int`.
    let milliseconds = limit.as_millis().clamp(LEAST_LIMIT_MILLIS, i32::MAX.unsigned_abs().into());
    let set = format!("SET statement_timeout = {milliseconds}");
    // The limit before applies to this statement, too, and may be short.
    let mut repetitions = 100;
    loop {
        match client.batch_execute(&set).await.map_err(Error::from) {
            Err(error) if error.is_timeout() && repetitions > 0 => repetitions -= 1,
            done => return done,
        }
    }
}
