//! Checks the files that a configuration names.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use settled_pipeline::settings::Field;
use settled_tls::{Certificate, FileError, Files};

use super::Config;
use super::problem::{ConfigError, Problem};

/// How long before its end a certificate is warned of.
const SOON: SignedDuration = SignedDuration::from_hours(30 * 24);

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
        let of_both = [("broker", self.broker.tls_files()), ("postgres", self.postgres.tls_files())];
        if problems.is_empty() {
            problems.extend(of_both.iter().filter_map(|(section, files)| self.check_pair(section, files)));
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError::Problems(problems)) }
    }

    /// Checks that certificate and key belong together, which each of them may be without.
    fn check_pair(&self, section: &str, files: &Files) -> Option<Problem> {
        let key = format!("{section}.{}", settled_tls::KEY);
        files.key.as_ref()?;
        let error = files.client_config().err()?;
        Some(Problem {
            origin: self.origin(&key),
            message: format!("expected the key of the certificate: {error}"),
            remedy: "write the certificate first in its file, and its own key into the other one".to_owned(),
            key,
        })
    }

    /// Returns a sentence for each certificate of ours that has expired or will soon.
    pub fn certificate_warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (section, files) in [("broker", self.broker.tls_files()), ("postgres", self.postgres.tls_files())] {
            let Some(path) = files.certificate else { continue };
            let Some(certificate) = Certificate::read(&path) else { continue };
            if let Some(complaint) = certificate.complaint(Timestamp::now(), SOON) {
                let (key, path) = (settled_tls::CERTIFICATE, path.display());
                warnings
                    .push(format!("{section}.{key}: the certificate in {path} ({}) {complaint}", certificate.subject));
            }
        }
        warnings
    }
}

/// Checks the file of a key. Returns what is wrong with it, and the remedy.
fn check(key: &str, path: &Path) -> Result<(), (String, &'static str)> {
    let content = std::fs::read(path).map_err(|error| {
        (format!("which cannot be read: {error}"), "correct the path, or let the user of the daemon read the file")
    })?;
    match key {
        "password_file" if content.split(|byte| *byte == b'\n').next().is_none_or(<[u8]>::is_empty) => {
            Err(("expected a password in its first line".to_owned(), "write the password into the first line"))
        }
        "password_file" if std::str::from_utf8(&content).is_err() => {
            Err(("expected text in UTF-8".to_owned(), "write the password into the first line, in UTF-8"))
        }
        _ => Files::check(key, path).map_err(|error| {
            let remedy = match (key, &error) {
                (settled_tls::KEY, FileError::Empty { .. }) => {
                    "write the private key into it, in PEM and without a passphrase: openssl pkey -in OLD -out NEW"
                }
                (settled_tls::KEY, _) => "write the private key into it, in PEM: -----BEGIN PRIVATE KEY-----",
                _ => "write certificates into it, in PEM: -----BEGIN CERTIFICATE-----",
            };
            (format!("expected {}: {error}", what(key)), remedy)
        }),
    }
}

/// What the file of a key has to hold.
fn what(key: &str) -> &'static str {
    if key == settled_tls::KEY { "a private key" } else { "certificates" }
}
