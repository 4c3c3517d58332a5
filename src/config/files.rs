//! Checks the files that a configuration names.

use std::path::Path;

use settled_pipeline::settings::Field;

use super::Config;
use super::problem::{ConfigError, Problem};

impl Config {
    /// Checks that every file named in the configuration can be read, and holds what it is for.
    /// [`load`](Self::load) does not, because a user who prints the configuration may lack access to the daemon's
    /// secrets.
    ///
    /// # Errors
    ///
    /// With one problem per file that cannot be used.
    pub fn check_files(&self) -> Result<(), ConfigError> {
        let mut copy = self.clone();
        let mut problems = Vec::new();
        for section in copy.sections() {
            for key in section.keys {
                let Field::Path(Some(path)) = &key.field else { continue };
                // The daemon makes it.
                if key.name == "profile_socket" {
                    continue;
                }
                let Err((found, remedy)) = check(key.name, path) else { continue };
                let full = format!("{}.{}", section.name, key.name);
                problems.push(Problem {
                    origin: self.origin(&full),
                    key: full,
                    message: format!("found {}, {found}", path.display()),
                    remedy: remedy.to_owned(),
                });
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError::Problems(problems)) }
    }
}

/// Checks the file of a key. Returns what is wrong with it, and the remedy.
fn check(key: &str, path: &Path) -> Result<(), (String, &'static str)> {
    let content = std::fs::read(path).map_err(|error| {
        (format!("which cannot be read: {error}"), "correct the path, or let the user of the daemon read the file")
    })?;
    match key {
        "tls_ca_file" => settled_store::check_authorities(path).map_err(|error| {
            let remedy = "write the certificates of the authorities into it, in PEM: -----BEGIN CERTIFICATE-----";
            (format!("expected certificates: {error}"), remedy)
        }),
        "password_file" if content.split(|byte| *byte == b'\n').next().is_none_or(<[u8]>::is_empty) => {
            Err(("expected a password in its first line".to_owned(), "write the password into the first line"))
        }
        "password_file" if std::str::from_utf8(&content).is_err() => {
            Err(("expected text in UTF-8".to_owned(), "write the password into the first line, in UTF-8"))
        }
        _ => Ok(()),
    }
}
