//! What is under load: the program that consumes tasks.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Subject {
    /// The daemon.
    #[default]
    Settled,
    /// A consumer as it is usually written, for comparison: it publishes no events.
    Baseline,
}

/// A program that is started with `run --config FILE` behind these arguments.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    /// What selects it, where a file holds more than one.
    pub(crate) args: Vec<OsString>,
}

impl Subject {
    /// The program; `settled` is where the daemon is.
    pub(crate) fn program(self, settled: &Path) -> io::Result<Program> {
        Ok(match self {
            Self::Settled => Program { path: settled.to_owned(), args: Vec::new() },
            Self::Baseline => Program { path: std::env::current_exe()?, args: vec!["baseline-consumer".into()] },
        })
    }

    /// Whether, alone, it applies messages in the order in which they came.
    pub(crate) const fn keeps_order(self) -> bool {
        matches!(self, Self::Settled)
    }

    /// Whether it publishes an event for every outcome.
    pub(crate) const fn publishes_events(self) -> bool {
        matches!(self, Self::Settled)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Settled => "settled",
            Self::Baseline => "baseline",
        })
    }
}
