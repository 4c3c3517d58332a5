//! What the daemon may do with each table, function and type of the schema: one list for `settled migrate --grant`,
//! which gives it, and for the start and `settled check --connect`, which ask for it.
//!
//! A new table, function or type belongs into it, which a test asks for.

/// Who needs a privilege.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum User {
    /// The daemon's statements: without it no daemon starts.
    Daemon,
    /// Commands that an operator runs as the daemon's role.
    Commands,
}

/// Tables and views, who uses them, and what the daemon's role may do. `entry` and `transition` are append-only.
pub(super) const TABLES: &[(&str, User, &[&str])] = &[
    ("account", User::Daemon, &["SELECT", "INSERT", "UPDATE"]),
    ("payment", User::Daemon, &["SELECT", "INSERT", "UPDATE"]),
    ("payment_named", User::Commands, &["SELECT"]),
    ("entry", User::Daemon, &["SELECT", "INSERT"]),
    ("transition", User::Daemon, &["SELECT", "INSERT"]),
    ("leg", User::Daemon, &["SELECT", "INSERT", "UPDATE"]),
    ("hold", User::Daemon, &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("agenda", User::Daemon, &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("waiting_count", User::Daemon, &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("outbox", User::Daemon, &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("stream_outbox", User::Daemon, &["SELECT", "INSERT", "DELETE"]),
    ("stream_producer", User::Daemon, &["SELECT", "UPDATE"]),
    ("outbox_discarded", User::Daemon, &["SELECT", "INSERT", "DELETE"]),
    ("dead_letter", User::Daemon, &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("ledger", User::Daemon, &["SELECT"]),
    ("reflex_action", User::Daemon, &["SELECT", "INSERT"]),
    ("instance", User::Daemon, &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("schema_compatibility", User::Daemon, &["SELECT"]),
    ("refinery_schema_history", User::Daemon, &["SELECT"]),
];

/// Sequences of the keys. An identity column takes its value without a privilege; reading them shows that one is behind
/// its table.
pub(super) const SEQUENCES: &[&str] =
    &["account_id_seq", "outbox_id_seq", "stream_outbox_id_seq", "dead_letter_id_seq", "instance_id_seq"];

/// The function that the daemon calls.
pub(super) const CALLED: &str = "expect_rows(text, bigint, bigint)";

/// A function of PostgreSQL that the daemon calls, which everybody may unless that was revoked.
pub(super) const CALLED_OF_SERVER: &str = "pg_logical_emit_message(boolean, text, text)";

/// Functions of triggers. Whoever changes a table needs no privilege for those.
pub(super) const OF_TRIGGERS: &[&str] = &[
    "entry_is_append_only()",
    "account_name_is_valid()",
    "hold_is_kept_in_account()",
    "payment_state_is_reached()",
    "transition_is_made()",
    "hold_is_counted()",
    "agenda_is_counted()",
];

pub(super) const TYPES: &[&str] = &["account_status", "task_type", "payment_state"];

/// Returns the names of all tables and views.
pub(super) fn tables() -> Vec<&'static str> {
    TABLES.iter().map(|(table, ..)| *table).collect()
}

/// Returns the tables that the daemon's role has this privilege on.
pub(super) fn tables_with(privilege: &str) -> Vec<&'static str> {
    TABLES.iter().filter(|(.., has)| has.contains(&privilege)).map(|(table, ..)| *table).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_append_only_is_neither_updated_nor_deleted() {
        for table in ["entry", "transition", "reflex_action", "ledger"] {
            assert!(!tables_with("UPDATE").contains(&table) && !tables_with("DELETE").contains(&table), "{table}");
        }
        assert_eq!(tables_with("SELECT"), tables());
    }
}
