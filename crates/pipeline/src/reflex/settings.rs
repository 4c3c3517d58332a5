//! `[reflexes]`: what the daemon may do by itself.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::Reflex;
use crate::section;
use crate::settings::{Choice, Element, always};

section! {
    /// What the daemon does by itself when something is wrong.
    pub struct ReflexSettings in "reflexes",
        "What the daemon may do by itself when something is wrong. \"off\": nothing. \"observe\": the log and \
         settled_reflex_cause tell what it would do. \"act\": it does it, at most three times an hour, and undoes it when \
         the cause is gone or another mode is reloaded.";

    /// An open dead letter is unprocessable, so the ledger and PostgreSQL disagree: take no more tasks until it is
    /// replayed or discarded.
    pub invariant: Mode = Mode::Observe => Parsed(), reloads(always);
    /// The clock of the daemon or of PostgreSQL has gone back by more than a second: take no more tasks until it has
    /// caught up.
    pub clock: Mode = Mode::Observe => Parsed(), reloads(always);
    /// A disk of disk_paths is nearly full: take no more tasks until twice disk_free_min is free.
    pub disk: Mode = Mode::Observe => Parsed(), reloads(always);
    /// Directories on the disks that are watched: PostgreSQL's data and its log of changes, if they are on this machine.
    pub disk_paths: Vec<DiskPath> = Vec::new() => List(), reloads(always);
    /// The part of a disk that has to be free.
    pub disk_free_min: f64 = 0.05 => Number(0.001..=0.5), reloads(always);
    /// A [[publisher]] sends too many dead letters: set its messages aside unread, as dead letters quarantined, for as
    /// long as quarantine says.
    pub publisher: Mode = Mode::Observe => Parsed(), reloads(always);
    /// The part of a publisher's messages that may be dead letters.
    pub publisher_dead_letters: f64 = 0.2 => Number(0.01..=1.0), reloads(always);
    /// How many of a publisher's messages are looked at before it is judged.
    pub publisher_messages: u32 = 100 => Whole(10..=100_000), reloads(always);
    /// How long a quarantine lasts.
    pub quarantine: Duration = Duration::from_secs(600) => Span(Duration::from_secs(1)..=Duration::from_secs(86_400)), reloads(always);
}

/// What a reflex does when it finds its cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    Off,
    /// It tells what it would do.
    #[default]
    Observe,
    /// It acts.
    Act,
}

impl Choice for Mode {
    const NAMES: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("observe", Self::Observe), ("act", Self::Act)];
}

impl ReflexSettings {
    /// Returns the mode of a reflex.
    pub const fn mode(&self, reflex: Reflex) -> Mode {
        match reflex {
            Reflex::Invariant => self.invariant,
            Reflex::Clock => self.clock,
            Reflex::Disk => self.disk,
            Reflex::Publisher => self.publisher,
        }
    }
}

/// A directory, by its absolute path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskPath(PathBuf);

impl DiskPath {
    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Element for DiskPath {
    const EXPECTED: &'static str = "absolute paths of directories, such as \"/var/lib/postgresql\"";
    const MAY_BE_NONE: bool = true;
}

impl FromStr for DiskPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match Path::new(text) {
            path if path.is_absolute() => Ok(Self(path.to_owned())),
            _ => Err(format!("{text:?} does not begin with /")),
        }
    }
}

impl fmt::Display for DiskPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}
