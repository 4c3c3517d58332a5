//! The configuration: the file overrides the defaults, three variables override both. They are found in the environment,
//! in systemd's credentials, and in the file of secrets ([`Sources`]). A credential can also be the file of a key.
//!
//! The keys of a section are declared beside their user, by [`section!`](settled_pipeline::section). Checks across keys
//! are in `checks.rs`. All problems are reported at once.

mod checks;
mod env_file;
mod field;
mod files;
mod problem;
mod read;
mod reload;
mod sample;
mod span;
mod stream_checks;
#[cfg(test)]
mod tests;
mod variables;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use settled_amqp::{BrokerSettings, EventStream, Outlet, StreamSettings};
use settled_core::contract::Authority;
use settled_pipeline::intake::{AuthoritySettings, Consumption, PublisherSettings};
use settled_pipeline::machine::MachineSettings;
use settled_pipeline::maintenance::Maintenance;
use settled_pipeline::outbox::{EventSettings, Transport};
use settled_pipeline::reflex::ReflexSettings;
use settled_pipeline::retention::RetentionSettings;
use settled_pipeline::retry::RetrySettings;
use settled_pipeline::scheduler::PaymentSettings;
use settled_pipeline::settings::{Key, Section};
use settled_pipeline::traces::Traces;
use settled_pipeline::worker::PipelineSettings;
use settled_store::PostgresSettings;

pub use self::problem::{ConfigError, Origin, Problem};
pub use self::reload::Changes;
pub use self::sample::sample;
pub use self::variables::Sources;
use crate::admin::AdminSettings;
use crate::telemetry::{LogSettings, TraceSettings};

/// The file that is read by default, if it exists.
pub const DEFAULT_PATH: &str = "/etc/settled/settled.toml";

/// The keys that name the servers.
pub const BROKER: &str = "broker.uris";
pub const DATABASE: &str = "postgres.url";

/// The keys that decide which servers are used, and how.
const CONNECTIONS: [&str; 11] = [
    BROKER,
    "broker.password_file",
    "broker.tls_ca_file",
    "broker.tls_cert_file",
    "broker.tls_key_file",
    DATABASE,
    "postgres.password_file",
    "postgres.tls_ca_file",
    "postgres.tls_cert_file",
    "postgres.tls_key_file",
    "admin.listen",
];

/// All settings. A field is the section of its name; `publishers` are the `[[publisher]]` tables.
#[derive(Debug, Clone, Default)]
pub struct Config {
    pub broker: BrokerSettings,
    pub authority: AuthoritySettings,
    pub publishers: Vec<PublisherSettings>,
    pub postgres: PostgresSettings,
    pub pipeline: PipelineSettings,
    pub payments: PaymentSettings,
    pub retry: RetrySettings,
    pub events: EventSettings,
    pub stream: StreamSettings,
    pub retention: RetentionSettings,
    pub reflexes: ReflexSettings,
    pub admin: AdminSettings,
    pub log: LogSettings,
    pub traces: TraceSettings,
    file: Option<PathBuf>,
    /// The file of secrets that was asked for.
    env_file: Option<PathBuf>,
    /// The origin of each value that is not a default, by its key.
    origins: BTreeMap<String, Origin>,
}

/// One effective value, as `settled config` prints it.
#[derive(Debug, Clone, Serialize)]
pub struct Described {
    /// Section and key, such as `broker.prefetch`.
    pub key: String,
    /// The value, with passwords hidden; null for an optional one that is not set.
    pub value: serde_json::Value,
    pub origin: Origin,
    /// Whether a reload can change it; otherwise a change needs a restart.
    pub reloads: bool,
}

/// The table of a section's keys, bound to the fields of its settings.
struct SectionKeys<'a> {
    name: &'static str,
    about: &'static str,
    keys: Vec<Key<'a>>,
}

fn section<S: Section>(settings: &mut S) -> SectionKeys<'_> {
    SectionKeys { name: S::NAME, about: S::ABOUT, keys: settings.keys() }
}

/// What overrides the file.
struct Overrides<'a> {
    /// Finds the value of a variable, and where it comes from.
    variable: &'a dyn Fn(&'static str) -> Option<(OsString, Origin)>,
    /// Finds the credential for a key whose value is a file, such as `broker.tls_key_file`.
    credential: &'a dyn Fn(&str) -> Option<PathBuf>,
}

impl<'a> Overrides<'a> {
    fn variables(variable: &'a dyn Fn(&'static str) -> Option<(OsString, Origin)>) -> Self {
        Self { variable, credential: &|_| None }
    }
}

impl Config {
    /// Loads the configuration from its file, which is [`DEFAULT_PATH`] unless another one is given and may be absent
    /// then, and from the variables.
    pub fn load(sources: &Sources<'_>) -> Result<Self, ConfigError> {
        let default = Path::new(DEFAULT_PATH);
        let path = match (sources.config, std::fs::exists(default)) {
            (Some(path), _) => Some(path),
            (None, Ok(false)) => None,
            // Also if it is unknown whether it exists: running on the defaults by accident would be worse.
            (None, _) => Some(default),
        };
        let variables = variables::find(sources)?;
        let overrides = Overrides {
            variable: &|name| variables.values.get(name).cloned(),
            credential: &|key| variables.files.get(key).cloned(),
        };
        let config = Self::load_found(path, &overrides)?;
        Ok(Self { env_file: sources.env_file.map(Path::to_owned), ..config })
    }

    /// Loads it again, from the same files and variables.
    pub fn load_again(&self) -> Result<Self, ConfigError> {
        Self::load(&Sources { config: self.file(), env_file: self.env_file.as_deref(), of_service: false })
    }

    /// Like [`load`](Self::load), with another environment and without a default file.
    pub fn load_with(path: Option<&Path>, lookup: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        Self::load_found(path, &Overrides::variables(&|name| Some((lookup(name)?, Origin::Env(name)))))
    }

    fn load_found(path: Option<&Path>, overrides: &Overrides<'_>) -> Result<Self, ConfigError> {
        let unreadable = |path: &Path, reason: io::Error| ConfigError::Unreadable { path: path.to_owned(), reason };
        let text =
            path.map(|path| std::fs::read_to_string(path).map_err(|error| unreadable(path, error))).transpose()?;
        Self::compose_found(path.zip(text.as_deref()), overrides)
    }

    /// Composes the defaults, the text of a file (with its path, for messages) and the environment.
    pub fn compose(
        file: Option<(&Path, &str)>,
        lookup: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        Self::compose_found(file, &Overrides::variables(&|name| Some((lookup(name)?, Origin::Env(name)))))
    }

    fn compose_found(file: Option<(&Path, &str)>, overrides: &Overrides<'_>) -> Result<Self, ConfigError> {
        let mut config = Self { file: file.map(|(path, _)| path.to_owned()), ..Self::default() };
        let mut reader = read::Reader::default();
        if let Some((path, text)) = file {
            reader.file(&mut config, path, text);
        }
        reader.environment(&mut config, overrides);
        checks::run(&config, &mut reader);
        if !reader.problems.is_empty() {
            reader.problems.sort_by(|a, b| a.origin.cmp(&b.origin));
            return Err(ConfigError::Problems(reader.problems));
        }
        config.origins = reader.origins;
        Ok(config)
    }

    /// Returns the path of the file that was read, if any.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Returns every effective value with its origin, in the order of the sample, with passwords hidden.
    pub fn describe(&self) -> Vec<Described> {
        // The key tables need mutable fields, so they are bound to a copy.
        let mut copy = self.clone();
        let publishers = self.publishers.clone();
        let mut described = Vec::new();
        let mut describe = |path: &str, keys: Vec<Key<'_>>| {
            for Key { name, field, reloads, .. } in keys {
                let key = format!("{path}.{name}");
                let origin = self.origin(&key);
                described.push(Described { key, value: field::show(&field), origin, reloads: reloads.is_some() });
            }
        };
        for section in copy.sections() {
            describe(section.name, section.keys);
        }
        for (index, mut publisher) in publishers.into_iter().enumerate() {
            describe(&read::publisher_path(index), publisher.keys());
        }
        described
    }

    /// Returns the settings that say which servers are used, with their origins and without passwords.
    pub fn connections(&self) -> Vec<Described> {
        let is_connection = |described: &Described| CONNECTIONS.contains(&described.key.as_str());
        self.describe().into_iter().filter(is_connection).collect()
    }

    /// Returns a sentence for each server that nobody has configured.
    pub fn never_configured(&self) -> Vec<String> {
        let sentence = |Described { key, value, .. }: &Described| {
            format!("{key} is the default, {value}: no file, credential or variable sets it")
        };
        let is_default = |described: &&Described| {
            described.origin == Origin::Default && [BROKER, DATABASE].contains(&described.key.as_str())
        };
        self.connections().iter().filter(is_default).map(sentence).collect()
    }

    /// Returns where the value of a key comes from.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// Returns whether the daemon rejects tasks without a `user_id`.
    pub fn needs_user_id(&self) -> bool {
        self.authority.verified && !self.publishers.is_empty()
    }

    /// Returns what decides whether a publisher may publish a task.
    pub fn authority(&self) -> Authority {
        let own_queues = vec![self.broker.queue.clone(), self.broker.dead_letter_queue.clone()];
        self.authority.authority(&self.publishers, self.broker.exchange.clone(), own_queues)
    }

    /// Returns where events go.
    pub fn outlet(&self) -> Outlet {
        let is_stream = self.events.transport == Transport::Stream;
        let stream = || EventStream { settings: self.stream.clone(), partitions: self.events.partitions };
        Outlet { exchange: self.events.exchange.clone(), stream: is_stream.then(stream) }
    }

    pub fn machine(&self) -> MachineSettings {
        MachineSettings {
            pipeline: self.pipeline.clone(),
            payments: self.payments.clone(),
            events: self.events.clone(),
            retry: self.retry.clone().into(),
            authority: self.authority().into(),
            maintenance: Maintenance::default(),
            traces: Traces::default(),
            consumption: Consumption { queue: self.broker.queue.clone(), prefetch: self.broker.prefetch },
        }
    }

    /// Returns the key tables of all sections, in the order of the sample.
    fn sections(&mut self) -> [SectionKeys<'_>; 13] {
        [
            section(&mut self.broker),
            section(&mut self.authority),
            section(&mut self.postgres),
            section(&mut self.pipeline),
            section(&mut self.payments),
            section(&mut self.retry),
            section(&mut self.events),
            section(&mut self.stream),
            section(&mut self.retention),
            section(&mut self.reflexes),
            section(&mut self.admin),
            section(&mut self.log),
            section(&mut self.traces),
        ]
    }
}
