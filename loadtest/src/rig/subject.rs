//! What is under load: the program that consumes tasks.

use std::ffi::OsString;
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

    /// Whether it publishes an event for every outcome and, alone, applies messages in the order in which they came.
    pub(crate) const fn keeps_the_contract(self) -> bool {
        matches!(self, Self::Settled)
    }
}
