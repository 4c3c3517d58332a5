//! Configuration: load → compose → validate.
//!
//! Defaults, the file over them, three environment variables over both. The struct of a
//! section lives beside its user and says in one line per key what the key may be
//! ([`Section::keys`]); a default is written once, in the `Default` of that struct. What can
//! only be judged across keys is in `checks.rs`. All problems are reported at once.
//!
//! The environment is read here and nowhere else.

mod checks;
mod field;
mod key;
mod problem;
mod read;
mod redact;
mod sample;
mod span;
mod suggest;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use self::key::{Choice, Element, Field, Key, List, Parsed, Rule, Section, Whole};
pub use self::problem::{ConfigError, Origin, Problem};
pub use self::redact::redact;
pub use self::sample::sample;
pub(crate) use self::suggest::closest;
use crate::admin::AdminSettings;
use crate::agenda::PaymentSettings;
use crate::contract::Authority;
use crate::intake::{AuthoritySettings, BrokerSettings, PublisherSettings};
use crate::outbox::EventSettings;
use crate::retry::RetrySettings;
use crate::store::PostgresSettings;
use crate::telemetry::LogSettings;
use crate::worker::PipelineSettings;

/// The file that is read when none is named, if it exists.
pub const DEFAULT_PATH: &str = "/etc/settled/settled.toml";

/// Everything that can be set.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// `[broker]`: where the tasks come from.
    pub broker: BrokerSettings,
    /// `[authority]`: who may do what.
    pub authority: AuthoritySettings,
    /// `[[publisher]]`: what each publisher may do.
    pub publishers: Vec<PublisherSettings>,
    /// `[postgres]`: where the ledger is kept.
    pub postgres: PostgresSettings,
    /// `[pipeline]`: how much is done at once.
    pub pipeline: PipelineSettings,
    /// `[payments]`: how long things may wait.
    pub payments: PaymentSettings,
    /// `[retry]`: how long to wait before trying again.
    pub retry: RetrySettings,
    /// `[events]`: what the world is told.
    pub events: EventSettings,
    /// `[admin]`: where health and metrics are served.
    pub admin: AdminSettings,
    /// `[log]`: what is logged, and how.
    pub log: LogSettings,
    /// The file that was read.
    file: Option<PathBuf>,
    /// Where each value comes from that is not a default.
    origins: BTreeMap<String, Origin>,
}

/// One effective value, as `settled config` prints it.
#[derive(Debug, Clone, Serialize)]
pub struct Described {
    /// Section and key: `broker.prefetch`.
    pub key: String,
    /// The value, passwords hidden; null for an optional one that is not set.
    pub value: serde_json::Value,
    /// Where it comes from.
    pub origin: Origin,
}

/// Gives this process the defect that the environment names.
///
/// # Errors
/// If it names none that there is.
#[cfg(feature = "sabotage")]
pub fn sabotage() -> Result<(), ConfigError> {
    use crate::sabotage::{Defect, choose};
    let name = std::env::var_os(Defect::VARIABLE);
    Defect::named(name.as_deref()).map(choose).map_err(|problem| ConfigError::Problems(vec![problem]))
}

/// A section with its name, for whatever goes through all of them.
struct SectionKeys<'a> {
    name: &'static str,
    about: &'static str,
    keys: Vec<Key<'a>>,
}

fn section<S: Section>(settings: &mut S) -> SectionKeys<'_> {
    SectionKeys { name: S::NAME, about: S::ABOUT, keys: settings.keys() }
}

impl Config {
    /// The effective configuration: from `path`, else from [`DEFAULT_PATH`] if that exists,
    /// else the defaults; then the environment.
    ///
    /// # Errors
    /// With every problem there is.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let lookup = |variable: &str| std::env::var_os(variable);
        match path {
            Some(path) => Self::load_with(Some(path), &lookup),
            None => match std::fs::exists(DEFAULT_PATH) {
                Ok(false) => Self::load_with(None, &lookup),
                // Including "we may not look": silently running on the defaults would be worse.
                _ => Self::load_with(Some(Path::new(DEFAULT_PATH)), &lookup),
            },
        }
    }

    /// [`load`](Self::load) with another environment, and without a default file.
    ///
    /// # Errors
    /// With every problem there is.
    pub fn load_with(path: Option<&Path>, lookup: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let unreadable = |path: &Path, reason: io::Error| ConfigError::Unreadable { path: path.to_owned(), reason };
        let text =
            path.map(|path| std::fs::read_to_string(path).map_err(|error| unreadable(path, error))).transpose()?;
        Self::compose(path.zip(text.as_deref()), lookup)
    }

    /// The defaults, the text of a file (with its path, for the messages), the environment.
    ///
    /// # Errors
    /// With every problem there is.
    pub fn compose(
        file: Option<(&Path, &str)>,
        lookup: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let mut config = Self { file: file.map(|(path, _)| path.to_owned()), ..Self::default() };
        let mut reader = read::Reader::default();
        if let Some((path, text)) = file {
            reader.file(&mut config, path, text);
        }
        reader.environment(&mut config, lookup);
        checks::run(&config, &mut reader);
        if !reader.problems.is_empty() {
            reader.problems.sort_by(|a, b| a.origin.cmp(&b.origin));
            return Err(ConfigError::Problems(reader.problems));
        }
        config.origins = reader.origins;
        Ok(config)
    }

    /// The file that was read, if any.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Every effective value with its origin, in the order of the sample, passwords hidden.
    #[must_use]
    pub fn describe(&self) -> Vec<Described> {
        // The key table is bound to fields it can fill; a copy is there to be shown.
        let mut copy = self.clone();
        let mut described = Vec::new();
        for section in copy.sections() {
            for key in section.keys {
                let path = format!("{}.{}", section.name, key.name);
                let origin = self.origins.get(&path).cloned().unwrap_or(Origin::Default);
                described.push(Described { key: path, value: key.field.show(), origin });
            }
        }
        for (place, publisher) in copy.publishers.iter_mut().enumerate() {
            for key in publisher.keys() {
                let path = format!("{}.{}", read::publisher_path(place), key.name);
                let origin = self.origins.get(&path).cloned().unwrap_or(Origin::Default);
                described.push(Described { key: path, value: key.field.show(), origin });
            }
        }
        described
    }

    /// Whether a task needs a `user_id` to be allowed.
    #[must_use]
    pub fn needs_user_id(&self) -> bool {
        self.authority.verified && !self.publishers.is_empty()
    }

    /// What tasks are judged by.
    #[must_use]
    pub fn authority(&self) -> Authority {
        self.authority.authority(&self.publishers, &self.broker)
    }

    /// Opens every file that the configuration names and says which cannot be read. Apart from
    /// [`load`](Self::load), because not everyone who prints a configuration may read the
    /// daemon's secrets.
    ///
    /// # Errors
    /// With one problem per file.
    pub fn check_files(&self) -> Result<(), ConfigError> {
        let mut copy = self.clone();
        let mut problems = Vec::new();
        for section in copy.sections() {
            for key in section.keys {
                let Field::Path(Some(path)) = &key.field else { continue };
                let Err(error) = std::fs::read(path) else { continue };
                let full = format!("{}.{}", section.name, key.name);
                problems.push(Problem {
                    origin: self.origins.get(&full).cloned().unwrap_or(Origin::Default),
                    key: full,
                    message: format!("found {}, which cannot be read: {error}", path.display()),
                    remedy: "correct the path, or let the user of the daemon read the file".to_owned(),
                });
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError::Problems(problems)) }
    }

    /// All sections, in the order in which a payment passes.
    fn sections(&mut self) -> [SectionKeys<'_>; 9] {
        [
            section(&mut self.broker),
            section(&mut self.authority),
            section(&mut self.postgres),
            section(&mut self.pipeline),
            section(&mut self.payments),
            section(&mut self.retry),
            section(&mut self.events),
            section(&mut self.admin),
            section(&mut self.log),
        ]
    }
}
