//! What is wrong with a configuration: everything at once, each with its place and its remedy.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of the file, counted from 1.
    File(PathBuf, usize),
    /// An environment variable.
    Env(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Env(variable) => write!(f, "env {variable}"),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where the wrong value is.
    pub origin: Origin,
    /// The key it is about: `broker.prefetch`; empty when the text is not TOML.
    pub key: String,
    /// What was found and what was expected.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.key.is_empty() { "" } else { ": " };
        write!(f, "{}: {}{separator}{}\n    remedy: {}", self.origin, self.key, self.message, self.remedy)
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there, or is not ours to read.
    #[error("cannot read the configuration {}: {reason}\n    remedy: {}", .path.display(), unreadable_remedy(.path))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said. Part of the message, so not also its source.
        reason: std::io::Error,
    },
    /// The file or the environment is wrong: every problem, in the order of the file.
    #[error("{}", list(.0))]
    Problems(Vec<Problem>),
}

impl ConfigError {
    /// Every problem found; a file that cannot be read is one as well.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        match self {
            Self::Problems(problems) => problems.clone(),
            Self::Unreadable { path, reason } => vec![Problem {
                origin: Origin::File(path.clone(), 1),
                key: String::new(),
                message: format!("cannot be read: {reason}"),
                remedy: unreadable_remedy(path),
            }],
        }
    }
}

/// What to do about a configuration file that cannot be read.
fn unreadable_remedy(path: &Path) -> String {
    format!("check the path and its permissions, or print a sample: settled config --sample > {}", path.display())
}

fn list(problems: &[Problem]) -> String {
    let count = match problems.len() {
        1 => "1 problem".to_owned(),
        n => format!("{n} problems"),
    };
    let lines: Vec<String> = problems.iter().map(|problem| format!("  {problem}")).collect();
    format!("the configuration has {count}\n{}", lines.join("\n"))
}
