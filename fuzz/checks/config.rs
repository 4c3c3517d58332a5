//! A configuration file, and what the environment says over it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use serde_json::Value;
use settled::config::{Config, ConfigError};

const VARIABLES: [&str; 3] = ["SETTLED_AMQP_URI", "SETTLED_POSTGRES_URL", "SETTLED_ADMIN_LISTEN"];

/// The text of a file, and behind it, each after a NUL, the variables.
pub fn check(data: &[u8]) {
    let mut parts = data.split(|byte| *byte == 0);
    // A file that isn't UTF-8 is not read at all.
    let Ok(text) = std::str::from_utf8(parts.next().unwrap_or_default()) else { return };
    let environment: Vec<OsString> = parts.map(|part| OsString::from_vec(part.to_vec())).collect();
    let lookup = |name: &str| {
        let place = VARIABLES.iter().position(|variable| *variable == name)?;
        environment.get(place).filter(|value| **value != *"-").cloned()
    };
    match Config::compose(Some((Path::new("settled.toml"), text)), &lookup) {
        Ok(config) => is_usable(&config),
        Err(error) => is_told(&error),
    }
}

/// Everything can be made of it that the daemon makes, and it is shown as it could be written.
fn is_usable(config: &Config) {
    assert!(!config.broker.endpoints().is_empty());
    if config.postgres.password_file.is_none() {
        config.postgres.connection().expect("only a password file can be missing");
    }
    assert!(!config.postgres.target().is_empty());
    let _ = config.payments.rules();
    let described = config.describe();
    let shown =
        described.iter().map(|each| (&*each.key, &each.value)).filter(|(key, value)| can_be_written(key, value));
    let shown: Vec<_> = shown.collect();
    let text: String = shown.iter().map(|(key, value)| format!("{key} = {}\n", toml(value))).collect();
    let again = Config::compose(Some((Path::new("again.toml"), &text)), &|_| None);
    let again = again.unwrap_or_else(|error| panic!("{error}\n{text}")).describe();
    for (key, value) in shown {
        assert!(again.iter().any(|each| each.key == key && each.value == *value), "{key} = {value} was {again:?}");
    }
}

/// Passwords are not shown, so what has one can't be written again; nor what depends on it.
fn can_be_written(key: &str, value: &Value) -> bool {
    !value.is_null() && !["broker.uris", "postgres.url", "broker.tls_ca_file", "postgres.password_file"].contains(&key)
}

fn toml(value: &Value) -> String {
    match value {
        Value::String(text) => toml::Value::from(text.as_str()).to_string(),
        Value::Number(number) if number.is_f64() => format!("{:?}", number.as_f64().unwrap_or_default()),
        other => other.to_string(),
    }
}

/// Every problem says where, what, and what to do.
fn is_told(error: &ConfigError) {
    assert!(!error.to_string().is_empty());
    let ConfigError::Problems(problems) = error else { panic!("there is no file to be read: {error}") };
    assert!(!problems.is_empty());
    for problem in problems {
        assert!(!problem.message.is_empty() && !problem.remedy.is_empty(), "{problem:?}");
    }
}
