//! The classes of PostgreSQL's errors: one table from SQLSTATE to class.

use deadpool::managed::PoolError;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use settled_pipeline::store::StoreError;

use super::ConnectError;
use super::driver::Ending;
use super::session::LOST;

/// Returns what an error before the COMMIT means.
pub(crate) fn before_commit(error: Error) -> StoreError {
    let Some(db) = error.as_db_error() else { return StoreError::Unavailable(describe(&error)) };
    let message = match db.constraint() {
        Some(constraint) => format!("{} [{constraint}]", db.message()),
        None => db.message().to_owned(),
    };
    let place = Place { constraint: db.constraint(), table: db.table(), routine: db.routine() };
    class_of(db.code().code(), &place, message)
}

/// Returns what an error means once the COMMIT was sent: a lost connection leaves the outcome open.
pub(crate) fn around_commit(error: Error) -> StoreError {
    match error.as_db_error() {
        // A statement failed while the session lived: the COMMIT behind it rolled back.
        Some(db) if !ends_the_session(db.code()) => before_commit(error),
        _ => StoreError::OutcomeUnknown(describe(&error)),
    }
}

/// Returns what it means that the pool has no connection.
pub(crate) fn pool(error: PoolError<ConnectError>) -> StoreError {
    StoreError::Unavailable(match error {
        PoolError::Backend(error) if error.is_refused() => return StoreError::Denied(error.to_string()),
        PoolError::Backend(error) => error.to_string(),
        PoolError::Timeout(kind) => format!("no connection in time ({kind:?})"),
        other => other.to_string(),
    })
}

/// Adds the warning that ended the connection, if one did.
pub(crate) fn after(error: StoreError, ending: &Ending) -> StoreError {
    match (error, ending.warning()) {
        (StoreError::OutcomeUnknown(reason), Some(warning)) => {
            StoreError::OutcomeUnknown(format!("{reason} after a warning of PostgreSQL's: {warning}"))
        }
        (error, _) => error,
    }
}

/// Whether the connection is still good after a ROLLBACK.
pub(crate) const fn spares_the_connection(error: &StoreError) -> bool {
    matches!(error, StoreError::Conflict(_) | StoreError::Refused { .. })
}

/// Returns the message with its cause: tokio-postgres's own is only "db error".
pub(super) fn describe(error: &Error) -> String {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(db), _) => format!("{} ({})", db.message(), db.code().code()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

/// Where PostgreSQL raised an error.
#[derive(Clone, Copy, Default)]
struct Place<'a> {
    constraint: Option<&'a str>,
    table: Option<&'a str>,
    /// The function in PostgreSQL's source.
    routine: Option<&'a str>,
}

/// Keys made of a task's id or an account's version. A violation means that another daemon has committed the same
/// first.
const RACED_KEYS: [&str; 6] = ["payment_pkey", "entry_pkey", "transition_pkey", "leg_pkey", "hold_pkey", "agenda_pkey"];

/// Keys from a sequence, with their tables. No task can cause a violation.
const NUMBERED_KEYS: [(&str, &str); 4] = [
    ("account_pkey", "account"),
    ("outbox_pkey", "outbox"),
    ("stream_outbox_pkey", "stream_outbox"),
    ("dead_letter_pkey", "dead_letter"),
];

/// The constraints that a task can violate although the ledger has accepted it: on its own values, and on the account
/// or payment that it changes. A violation of any other constraint is the fault of the schema, a sequence or this
/// program.
const OF_A_TASK: [&str; 12] = [
    "account_name_valid",
    "account_above_limit",
    "account_below_limit",
    "account_closed",
    "payment_shape",
    "payment_amount",
    "payment_captured",
    "payment_progress",
    "leg_amount",
    "leg_captured",
    "hold_amount",
    "entry_amount_check",
];

/// Codes for a value that PostgreSQL cannot store, compute with or index. The statements are constant, so the value
/// came with a task.
const OF_A_VALUE: [&str; 7] = [
    "22003", // a number out of range
    "22008", // a time out of range
    "22021", // a character that is none
    "22P02", // a text that isn't what it has to be
    "22P05", // a character that the encoding doesn't have
    "54000", // too long for an index
    "54001", // too deeply nested
];

/// The function that refuses an unknown label of an enum: the schema is older than this program. A task's texts are
/// never read as an enum.
const ENUM_INPUT: &str = "enum_in";

fn class_of(sqlstate: &str, place: &Place<'_>, message: String) -> StoreError {
    let told = |message| format!("{message} ({sqlstate})");
    let is = |constraints: &[&str]| place.constraint.is_some_and(|constraint| constraints.contains(&constraint));
    let is_of_a_value = OF_A_VALUE.contains(&sqlstate) && place.routine != Some(ENUM_INPUT);
    match (sqlstate.get(..2).unwrap_or_default(), sqlstate) {
        (_, "40001" | "40P01") => StoreError::Conflict(told(message)),
        (_, "23505") if is(&RACED_KEYS) => StoreError::Conflict(told(message)),
        (_, "40003" | "08007") => StoreError::OutcomeUnknown(told(message)),
        (_, "23514") if is(&OF_A_TASK) => StoreError::Refused { sqlstate: sqlstate.to_owned(), message },
        _ if is_of_a_value => StoreError::Refused { sqlstate: sqlstate.to_owned(), message },
        ("P0", _) => StoreError::Broken(told(message)),
        // 08, 22, 23, 25, 26, 42, 53, 54, 55, 57, 58, XX: the server, its state, its schema or our
        // rights on it. The statements are fixed, so not even a syntax error is a message's fault.
        _ => StoreError::Unavailable(told(message) + &remedy(sqlstate, place)),
    }
}

/// Returns what an operator can do about it, if that is known.
fn remedy(sqlstate: &str, place: &Place<'_>) -> String {
    let numbered = NUMBERED_KEYS
        .iter()
        .find(|(key, table)| place.constraint == Some(key) && place.table.is_none_or(|violated| violated == *table));
    match (sqlstate, numbered) {
        ("23505", Some((_, table))) => format!(": {}", behind(table, "id")),
        // A prepared statement that isn't there.
        ("26000", _) => format!(": {LOST}"),
        _ => String::new(),
    }
}

/// Returns how to repair a sequence that would yield keys which exist already.
pub(super) fn behind(table: &str, column: &str) -> String {
    format!(
        "the sequence of {table}.{column} is behind the table; \
         SELECT setval(pg_get_serial_sequence('{table}', '{column}'), (SELECT max({column}) FROM {table})) mends it"
    )
}

fn ends_the_session(code: &SqlState) -> bool {
    matches!(code.code().get(..2), Some("08")) || code.code().starts_with("57P") || code.code() == "40003"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(sqlstate: &str, place: Place<'_>) -> &'static str {
        match class_of(sqlstate, &place, String::new()) {
            StoreError::Conflict(_) => "conflict",
            StoreError::Unavailable(_) | StoreError::Denied(_) => "unavailable",
            StoreError::OutcomeUnknown(_) => "unknown",
            StoreError::Refused { .. } => "refused",
            StoreError::Broken(_) => "broken",
        }
    }

    fn of(constraint: &str) -> Place<'_> {
        Place { constraint: Some(constraint), ..Place::default() }
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
            ("22P02", "refused"),
            ("54000", "refused"),
            // Of their classes only what is listed is a task's fault.
            ("22012", "unavailable"),
            ("22023", "unavailable"),
            ("23514", "unavailable"),
            ("23502", "unavailable"),
            ("23503", "unavailable"),
            ("23505", "unavailable"),
            ("54023", "unavailable"),
            ("P0001", "broken"),
        ] {
            assert_eq!(class(sqlstate, Place::default()), expected, "{sqlstate}");
        }
        assert_eq!(class("22P02", Place { routine: Some(ENUM_INPUT), ..Place::default() }), "unavailable");
    }

    #[test]
    fn only_a_constraint_on_what_a_task_asks_for_is_its_fault() {
        for raced in ["payment_pkey", "entry_pkey", "transition_pkey", "agenda_pkey"] {
            assert_eq!(class("23505", of(raced)), "conflict");
        }
        for constraint in ["payment_amount", "account_above_limit", "leg_captured"] {
            assert_eq!(class("23514", of(constraint)), "refused");
        }
        for constraint in ["account_held", "account_opened", "payment_state_reached", "somebody_elses"] {
            assert_eq!(class("23514", of(constraint)), "unavailable");
        }
        for key in [
            "account_pkey",
            "outbox_pkey",
            "stream_outbox_pkey",
            "dead_letter_pkey",
            "account_name_key",
            "dead_letter_digest_key",
        ] {
            assert_eq!(class("23505", of(key)), "unavailable");
        }
    }

    #[test]
    fn a_sequence_that_is_behind_is_named_with_the_remedy() {
        for (key, table) in NUMBERED_KEYS {
            let StoreError::Unavailable(reason) = class_of("23505", &of(key), "duplicate key".to_owned()) else {
                panic!("{key} is no task's fault");
            };
            let mends = format!("setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))");
            assert!(reason.contains(&mends), "{reason}");
        }
    }
}
