//! The variables that override the file: those of the process, and those that the service gets from systemd. A command on
//! the service's machine looks for the latter by itself, so that it uses the same servers.
//!
//! | from | |
//! |---|---|
//! | the process environment | goes first |
//! | a credential with the variable's name | in `$CREDENTIALS_DIRECTORY`; for a command on the machine, in that of the service |
//! | a credential with the name of a key, such as `broker.tls_key_file` | there, too; it is the file of that key |
//! | a line of the file of secrets | `--env-file`, or `settled.env` beside the configuration |

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::problem::{ConfigError, Origin, Problem};
use super::{Config, DEFAULT_PATH, SectionKeys, env_file};
use settled_pipeline::settings::{Field, did_you_mean};

/// The file of secrets, beside the configuration; `EnvironmentFile=` of the unit.
const ENV_FILE: &str = "settled.env";

/// Where systemd keeps the credentials of the unit while it runs.
const SERVICE_CREDENTIALS: &str = "/run/credentials/settled.service";

/// Variables with the servers. Who sets them needs nothing of the service's.
const SERVERS: [&str; 2] = ["SETTLED_AMQP_URI", "SETTLED_POSTGRES_URL"];

/// Where a configuration is looked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sources<'a> {
    /// The configuration file, instead of [`DEFAULT_PATH`].
    pub config: Option<&'a Path>,
    /// The file of secrets, instead of what the service has.
    pub env_file: Option<&'a Path>,
    /// Whether to look for what the service gets from systemd. The service itself has it.
    pub of_service: bool,
}

/// The variables that are set, and the secrets that systemd hands over as files.
#[derive(Default)]
pub(super) struct Variables {
    /// The variables, with their origins.
    pub(super) values: BTreeMap<&'static str, (OsString, Origin)>,
    /// The credentials that are the file of a key, by its name, such as `broker.tls_key_file`.
    pub(super) files: BTreeMap<String, PathBuf>,
}

/// Collects the variables.
///
/// # Errors
/// If a file that may name the servers cannot be read, or has lines that are no variables of ours.
pub(super) fn find(sources: &Sources<'_>) -> Result<Variables, ConfigError> {
    let mut found = Variables::default();
    for name in names() {
        if let Some(value) = std::env::var_os(name) {
            found.values.insert(name, (value, Origin::Env(name)));
        }
    }
    if let Some(directory) = std::env::var_os("CREDENTIALS_DIRECTORY") {
        add_credentials(&mut found, Path::new(&directory))?;
    }
    let is_needed = !SERVERS.iter().all(|name| found.values.contains_key(name));
    match sources.env_file {
        Some(path) => add_file(&mut found, path, read(path)?)?,
        None if sources.of_service && is_needed => add_those_of_the_service(&mut found, sources)?,
        None => {}
    }
    Ok(found)
}

/// Returns the names of all variables.
fn names() -> Vec<&'static str> {
    let mut config = Config::default();
    config.sections().into_iter().flat_map(|section| section.keys).filter_map(|key| key.env).collect()
}

/// Returns the names of the keys whose values are files.
fn file_keys() -> Vec<String> {
    let mut config = Config::default();
    let of_section = |section: SectionKeys<'_>| {
        let files = section.keys.into_iter().filter(|key| matches!(key.field, Field::Path(_)));
        files.map(|key| format!("{}.{}", section.name, key.name)).collect::<Vec<_>>()
    };
    config.sections().into_iter().flat_map(of_section).collect()
}

fn add_those_of_the_service(found: &mut Variables, sources: &Sources<'_>) -> Result<(), ConfigError> {
    let directory = sources.config.unwrap_or(Path::new(DEFAULT_PATH)).parent().unwrap_or(Path::new(""));
    let credentials = Path::new(SERVICE_CREDENTIALS);
    if Some(directory) == Path::new(DEFAULT_PATH).parent() && is_there(credentials)? {
        std::fs::read_dir(credentials).map_err(|reason| unreadable(credentials, reason))?;
        add_credentials(found, credentials)?;
    }
    let file = directory.join(ENV_FILE);
    if is_there(&file)? { add_file(found, &file, read(&file)?) } else { Ok(()) }
}

fn is_there(path: &Path) -> Result<bool, ConfigError> {
    std::fs::exists(path).map_err(|reason| unreadable(path, reason))
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|reason| unreadable(path, reason))
}

fn unreadable(path: &Path, reason: io::Error) -> ConfigError {
    ConfigError::Secrets { path: path.to_owned(), reason }
}

/// Adds the credentials that have the name of a variable or of a key. Others are for keys that name them by their path.
fn add_credentials(found: &mut Variables, directory: &Path) -> Result<(), ConfigError> {
    for name in names() {
        let path = directory.join(name);
        if found.values.contains_key(name) || !is_there(&path)? {
            continue;
        }
        let text = read(&path)?;
        let value = text.strip_suffix('\n').unwrap_or(&text);
        found.values.insert(name, (value.into(), Origin::Credential(path)));
    }
    for key in file_keys() {
        let path = directory.join(&key);
        if !found.files.contains_key(&key) && is_there(&path)? {
            found.files.insert(key, path);
        }
    }
    Ok(())
}

/// Adds the variables of a file of secrets. Those of other programs are left alone.
fn add_file(found: &mut Variables, path: &Path, text: String) -> Result<(), ConfigError> {
    let names = names();
    let mut of_file: BTreeMap<&'static str, (String, usize)> = BTreeMap::new();
    let mut problems = Vec::new();
    for line in env_file::parse(&text) {
        match line.content {
            Ok((name, value)) => match names.iter().find(|known| **known == name) {
                // As for systemd, the last one counts.
                Some(known) => drop(of_file.insert(known, (value, line.number))),
                None if name.starts_with("SETTLED_") => problems.push(unknown(path, line.number, &name, &names)),
                None => {}
            },
            Err(()) => problems.push(Problem {
                origin: Origin::File(path.to_owned(), line.number),
                key: String::new(),
                message: "not a variable, expected NAME=value as systemd reads it".to_owned(),
                remedy: "write SETTLED_AMQP_URI=… or SETTLED_POSTGRES_URL=…, without `export`".to_owned(),
            }),
        }
    }
    if !problems.is_empty() {
        return Err(ConfigError::Problems(problems));
    }
    for (name, (value, line)) in of_file {
        found.values.entry(name).or_insert_with(|| (value.into(), Origin::EnvFile(PathBuf::from(path), line)));
    }
    Ok(())
}

fn unknown(path: &Path, line: usize, name: &str, names: &[&'static str]) -> Problem {
    let all = names.join(", ");
    Problem {
        origin: Origin::File(path.to_owned(), line),
        key: name.to_owned(),
        message: format!("unknown variable, expected one of {all}"),
        remedy: did_you_mean(name, names.iter().copied()).unwrap_or_else(|| format!("the variables are {all}")),
    }
}
