//! Problems of a configuration, each with its origin and a remedy.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    Default,
    /// A file and its line, counted from 1.
    File(PathBuf, usize),
    /// The name of an environment variable.
    Env(&'static str),
    /// A file of environment variables and its line.
    EnvFile(PathBuf, usize),
    /// The file of a systemd credential.
    Credential(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Env(variable) => write!(f, "env {variable}"),
            Self::EnvFile(path, line) => write!(f, "env file {}:{line}", path.display()),
            Self::Credential(path) => write!(f, "credential {}", path.display()),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub origin: Origin,
    /// The key, such as `broker.prefetch`; empty if the text is not TOML.
    pub key: String,
    /// What was found and what was expected.
    pub message: String,
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.key.is_empty() { "" } else { ": " };
        write!(f, "{}: {}{separator}{}\n    remedy: {}", self.origin, self.key, self.message, self.remedy)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// `reason` is part of the message, so it is not the error's source.
    #[error("cannot read the configuration {}: {reason}\n    remedy: {}", .path.display(), unreadable_remedy(.path))]
    Unreadable { path: PathBuf, reason: std::io::Error },
    /// A file that the service gets its secrets from.
    #[error("cannot read {}, from which the service gets the URLs of its servers: {reason}\n    remedy: {SECRETS_REMEDY}", .path.display())]
    Secrets { path: PathBuf, reason: std::io::Error },
    /// All problems of the file and the environment, in the order of the file.
    #[error("{}", list(.0))]
    Problems(Vec<Problem>),
}

impl ConfigError {
    /// Returns all problems; a file that cannot be read is one.
    pub fn problems(&self) -> Vec<Problem> {
        match self {
            Self::Problems(problems) => problems.clone(),
            Self::Unreadable { path, reason } => vec![Problem {
                origin: Origin::File(path.clone(), 1),
                key: String::new(),
                message: format!("cannot be read: {reason}"),
                remedy: unreadable_remedy(path),
            }],
            Self::Secrets { path, reason } => vec![Problem {
                origin: Origin::File(path.clone(), 1),
                key: String::new(),
                message: format!("cannot be read, and the service gets the URLs of its servers from it: {reason}"),
                remedy: SECRETS_REMEDY.to_owned(),
            }],
        }
    }
}

/// What to do about secrets of the service that the user may not read.
const SECRETS_REMEDY: &str = "run the command with sudo, or let your group read the file (chgrp and chmod 640), or set \
     SETTLED_AMQP_URI and SETTLED_POSTGRES_URL yourself; `--env-file /dev/null` does without";

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
