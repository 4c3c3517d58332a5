//! The exit codes, and the error a verb ends with: one place for both.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | failed, or the answer is no: not found, rejected, an audit with findings, a drain that took too long |
//! | 2 | the command line was not understood |
//! | 69 | the broker or the database cannot be reached; the same command may work later |
//! | 78 | the configuration is wrong, or a connection pooler is in a mode that cannot be used |
//! | 130 | interrupted; the message says how far it came, and how to go on |

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::config::ConfigError;
use crate::printable::printable;
use settled_amqp::PublishError;
use settled_store::{ConnectError, MigrateError, queries};

/// How a command ends, as the shell sees it. 69 and 78 are those of `sysexits.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    Failure = 1,
    /// With this code clap ends the process itself.
    Usage = 2,
    Unavailable = 69,
    BadConfig = 78,
    /// As shells report a program that SIGINT has ended.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a verb failed, with what its user can do about it.
///
/// Not a `std::error::Error`, so that `?` turns every error into one; see [`Failure::from`].
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    error: anyhow::Error,
    hint: Option<String>,
}

impl Failure {
    /// A failure that ends with `exit`.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into(), hint: None }
    }

    /// Adds what the user can do about it, as a sentence.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Tells the user on standard error. Where that is closed there is nobody to tell.
    pub fn report(&self) {
        let _ = writeln!(io::stderr(), "{self}");
    }

    /// How the process ends.
    pub fn exit(&self) -> Exit {
        self.exit
    }
}

/// The one place that gives an error its exit code when the verb did not.
impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        let migrate = error.downcast_ref().is_some_and(queries::Error::is_schema_missing);
        let failure = Self::new(exit(&error), error);
        if migrate { failure.hint("`settled migrate` makes the tables") } else { failure }
    }
}

fn exit(error: &anyhow::Error) -> Exit {
    let unavailable = match error.downcast_ref::<ConnectError>() {
        Some(error) if error.is_configuration() => return Exit::BadConfig,
        Some(_) => true,
        None => {
            error.downcast_ref().is_some_and(queries::Error::is_unavailable)
                || error.downcast_ref().is_some_and(MigrateError::is_unavailable)
                || error.downcast_ref().is_some_and(PublishError::is_unavailable)
        }
    };
    match unavailable {
        true => Exit::Unavailable,
        false if error.is::<ConfigError>() => Exit::BadConfig,
        false => Exit::Failure,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An error can have several lines, and quote what somebody else has written: none of them begins
        // where the program's own lines do.
        for (place, line) in format!("settled: error: {:#}", self.error).split('\n').enumerate() {
            let margin = if place == 0 { "" } else { "\n" };
            let indent = if place == 0 || line.starts_with("  ") { "" } else { "  " };
            write!(f, "{margin}{indent}{}", printable(line))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {}", printable(hint))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_happened_and_what_to_do() {
        let failure =
            Failure::new(Exit::Unavailable, anyhow::anyhow!("refused").context("PostgreSQL")).hint("start it");
        assert_eq!(failure.exit(), Exit::Unavailable);
        assert_eq!(failure.to_string(), "settled: error: PostgreSQL: refused\n  hint: start it");
    }

    #[test]
    fn what_a_failure_quotes_begins_no_line_of_its_own() {
        let quoted = "a\u{1b}[2J\nsettled: all is well";
        let failure = Failure::new(Exit::Failure, anyhow::anyhow!("refused: {quoted}")).hint(quoted);
        let shown = "settled: error: refused: a\\u{1b}[2J\n  settled: all is well\n  \
                     hint: a\\u{1b}[2J\\nsettled: all is well";
        assert_eq!(failure.to_string(), shown);
    }

    #[test]
    fn any_error_becomes_a_failure_by_question_mark() {
        fn verb() -> Result<Exit, Failure> {
            "x".parse::<u8>()?;
            Ok(Exit::Ok)
        }
        assert_eq!(verb().unwrap_err().exit(), Exit::Failure);
    }
}
