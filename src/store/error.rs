//! What PostgreSQL's refusals mean: one table from SQLSTATE to class.

use deadpool::managed::PoolError;
use tokio_postgres::error::SqlState;

use super::session::LOST;
use super::{ConnectError, driver};

/// Why a batch was not committed, or isn't known to be.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another transaction was in the way (deadlock, serialization failure, an id that another
    /// instance committed first). The batch was rolled back; again at once.
    #[error("conflict: {0}")]
    Conflict(String),
    /// PostgreSQL is away, full, read-only, too slow or not set up. Nothing was committed;
    /// never charged to a message.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The connection was lost with the commit on its way: look the ids up again.
    #[error("outcome unknown: {0}")]
    OutcomeUnknown(String),
    /// PostgreSQL refuses what a task of this batch wants written: bisect.
    #[error("refused ({sqlstate}): {message}")]
    Refused {
        /// PostgreSQL's code.
        sqlstate: String,
        /// What it says, for people.
        message: String,
    },
    /// An invariant doesn't hold; going on could do harm.
    #[error("broken invariant: {0}")]
    Broken(String),
}

impl StoreError {
    /// Before the commit was sent.
    pub(super) fn before_commit(error: &tokio_postgres::Error) -> Self {
        classify(error)
    }

    /// With the commit sent: a lost connection leaves the outcome open.
    pub(super) fn around_commit(error: &tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            // A statement failed while the session lived: the COMMIT behind it rolled back.
            Some(db) if !ends_the_session(db.code()) => classify(error),
            _ => Self::OutcomeUnknown(describe(error)),
        }
    }

    pub(crate) fn pool(error: &PoolError<ConnectError>) -> Self {
        Self::Unavailable(match error {
            PoolError::Backend(error) => error.to_string(),
            PoolError::Timeout(kind) => format!("no connection in time ({kind:?})"),
            other => other.to_string(),
        })
    }

    /// Whether the connection is still good after a ROLLBACK.
    pub(super) const fn spares_the_connection(&self) -> bool {
        matches!(self, Self::Conflict(_) | Self::Refused { .. })
    }
}

/// tokio-postgres says only "db error"; what happened is one level down.
pub(super) fn describe(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(db), _) => format!("{} ({})", db.message(), db.code().code()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) if error.is_closed() => match driver::why_closed() {
            Some(warning) => format!("{error} after a warning of PostgreSQL's: {warning}"),
            None => error.to_string(),
        },
        (None, None) => error.to_string(),
    }
}

fn classify(error: &tokio_postgres::Error) -> StoreError {
    let Some(db) = error.as_db_error() else { return StoreError::Unavailable(describe(error)) };
    let message = match db.constraint() {
        Some(constraint) => format!("{} [{constraint}]", db.message()),
        None => db.message().to_owned(),
    };
    class_of(db.code().code(), db.constraint(), message)
}

/// The keys at which a race with another instance shows.
const RACED_KEYS: [&str; 2] = ["payment_pkey", "entry_pkey"];

fn class_of(sqlstate: &str, constraint: Option<&str>, message: String) -> StoreError {
    let refused = |message| StoreError::Refused { sqlstate: sqlstate.to_owned(), message };
    let told = |message| format!("{message} ({sqlstate})");
    match (sqlstate.get(..2).unwrap_or_default(), sqlstate) {
        (_, "40001" | "40P01") => StoreError::Conflict(told(message)),
        (_, "23505") if constraint.is_some_and(|key| RACED_KEYS.contains(&key)) => StoreError::Conflict(told(message)),
        (_, "40003" | "08007") => StoreError::OutcomeUnknown(told(message)),
        ("22" | "23" | "54", _) => refused(message),
        ("P0", _) => StoreError::Broken(told(message)),
        // A prepared statement that isn't there.
        ("26", _) => StoreError::Unavailable(format!("{}: {LOST}", told(message))),
        // 08, 25, 26, 42, 53, 55, 57, 58, XX: the server, its state, its schema or our rights on
        // it. The statements are fixed, so not even a syntax error is a message's fault.
        _ => StoreError::Unavailable(told(message)),
    }
}

fn ends_the_session(code: &SqlState) -> bool {
    matches!(code.code().get(..2), Some("08")) || code.code().starts_with("57P") || code.code() == "40003"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(sqlstate: &str, constraint: Option<&str>) -> &'static str {
        match class_of(sqlstate, constraint, String::new()) {
            StoreError::Conflict(_) => "conflict",
            StoreError::Unavailable(_) => "unavailable",
            StoreError::OutcomeUnknown(_) => "unknown",
            StoreError::Refused { .. } => "refused",
            StoreError::Broken(_) => "broken",
        }
    }

    #[test]
    fn each_sqlstate_has_its_class() {
        for (sqlstate, expected) in [
            ("40001", "conflict"),
            ("40P01", "conflict"),
            ("40003", "unknown"),
            ("08007", "unknown"),
            ("08006", "unavailable"),
            ("53100", "unavailable"),
            ("53300", "unavailable"),
            ("55P03", "unavailable"),
            ("57014", "unavailable"),
            ("57P01", "unavailable"),
            ("25006", "unavailable"),
            ("58030", "unavailable"),
            ("42P01", "unavailable"),
            ("42501", "unavailable"),
            ("22P05", "refused"),
            ("22003", "refused"),
            ("23514", "refused"),
            ("23505", "refused"),
            ("54000", "refused"),
            ("P0001", "broken"),
        ] {
            assert_eq!(class(sqlstate, None), expected, "{sqlstate}");
        }
        assert_eq!(class("23505", Some("payment_pkey")), "conflict");
        assert_eq!(class("23505", Some("dead_letter_digest_key")), "refused");
    }
}
