//! The section `[postgres]` of the configuration.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use settled_pipeline::section;
use settled_pipeline::settings::{Parameters, Parsed, always, redact};
use settled_tls::Files;

/// From so many milliseconds to so many seconds.
const fn range(from: u64, to: u64) -> RangeInclusive<Duration> {
    Duration::from_millis(from)..=Duration::from_secs(to)
}

section! {
    /// The connection to the database and its time limits.
    pub struct PostgresSettings in "postgres", "PostgreSQL: where the ledger is kept.";

    /// The database; several hosts separated by commas, of which the one that takes writes is used. A reload takes a new
    /// password; connections that are open stay.
    pub url: PostgresUrl = PostgresUrl("postgresql://settled@127.0.0.1:5432/settled".to_owned().into())
        => Parsed(), reloads(password_only), env "SETTLED_POSTGRES_URL";
    /// A file whose first line is the password, for a URL without one.
    pub password_file: Option<PathBuf> = None => Path(), reloads(always);
    /// A PEM file with the certificate authorities to trust, instead of the system's. TLS is used, and the server
    /// verified, when one of these files is set or the URL says sslmode=verify-full or sslmode=require.
    pub tls_ca_file: Option<PathBuf> = None => Path(), reloads(always);
    /// A PEM file with the client's certificate, and those between it and its authority, for a server that asks for one
    /// (`cert` in pg_hba.conf).
    pub tls_cert_file: Option<PathBuf> = None => Path(), reloads(always);
    /// A PEM file with the private key of tls_cert_file, without a passphrase.
    pub tls_key_file: Option<PathBuf> = None => Path(), reloads(always);
    /// Connections kept open; at least pipeline.max_transactions + 2, for the relay and the probes, and at least
    /// pipeline.workers. The gauges are measured, and the daemon's lease renewed, on one more.
    pub pool_size: usize = 8 => Whole(1..=500);
    /// The limit for one connection attempt to one host.
    pub connect_timeout: Duration = Duration::from_secs(3) => Span(range(100, 60));
    /// The limit for waiting until a connection of the pool is free.
    pub wait_timeout: Duration = Duration::from_secs(5) => Span(range(100, 60));
    /// The limit for checking a connection that comes back to the pool.
    pub recycle_timeout: Duration = Duration::from_secs(3) => Span(range(100, 60));
    /// The limit for one statement, set on the server; more than lock_timeout.
    pub statement_timeout: Duration = Duration::from_secs(10) => Span(range(100, 300));
    /// The limit for waiting for a row lock, set on the server.
    pub lock_timeout: Duration = Duration::from_secs(5) => Span(range(50, 300));
    /// After this silence within a transaction the server gives it up, and its locks with it.
    pub idle_in_transaction_timeout: Duration = Duration::from_secs(15) => Span(range(1000, 600));
    /// How long sent data may stay unacknowledged before the connection counts as dead.
    pub tcp_user_timeout: Duration = Duration::from_secs(10) => Span(range(1000, 300));
    /// TCP keepalive, in whole seconds: idle time before the first probe, and time between probes.
    pub keepalive: Duration = Duration::from_secs(5) => Span(range(1000, 600));
    /// Bring the schema up to date when the daemon starts. When false, run `settled migrate` before it.
    pub migrate: bool = true => Flag();
}

/// Whether these are the same hosts, database, user and parameters.
fn password_only(before: &PostgresUrl, after: &PostgresUrl) -> bool {
    let without_password = |url: &PostgresUrl| {
        let mut parts = url.parts();
        parts.password("");
        parts
    };
    without_password(before) == without_password(after)
}

impl PostgresSettings {
    /// Returns the configuration of a connection. The server's own limits are not in it, since poolers refuse them as
    /// startup options; they are set when the session begins.
    ///
    /// # Errors
    /// If the password file cannot be read.
    pub fn connection(&self) -> std::io::Result<tokio_postgres::Config> {
        let mut config = self.url.parts();
        if let Some(path) = &self.password_file {
            let content = SecretString::from(std::fs::read_to_string(path)?);
            config.password(content.expose_secret().lines().next().unwrap_or_default());
        }
        if config.get_application_name().is_none() {
            config.application_name("settled");
        }
        config
            .connect_timeout(self.connect_timeout)
            .tcp_user_timeout(self.tcp_user_timeout)
            .keepalives(true)
            .keepalives_idle(self.keepalive)
            .keepalives_interval(self.keepalive)
            .keepalives_retries(3)
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .ssl_mode(if self.is_tls() { SslMode::Require } else { SslMode::Disable });
        Ok(config)
    }

    /// Returns the hosts and ports for messages, as in `127.0.0.1:5432,10.0.0.2:5432`.
    pub fn target(&self) -> String {
        let parts = self.url.parts();
        let ports = parts.get_ports();
        let name = |(index, host): (usize, &Host)| {
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(path) => format!("{}:{port}", path.display()),
            }
        };
        parts.get_hosts().iter().enumerate().map(name).collect::<Vec<_>>().join(",")
    }

    /// Uses this URL instead.
    ///
    /// # Errors
    /// If the URL cannot be parsed.
    pub fn use_url(&mut self, url: &str) -> Result<(), String> {
        self.url.parse(url)
    }

    /// Returns true if connections use TLS. The server is always verified then; encryption that falls back to plain
    /// text would protect from nobody.
    pub fn is_tls(&self) -> bool {
        self.tls_ca_file.is_some()
            || self.tls_cert_file.is_some()
            || self.url.parts().get_ssl_mode() == SslMode::Require
    }

    /// Returns the files with certificates.
    pub fn tls_files(&self) -> Files {
        Files {
            authorities: self.tls_ca_file.clone(),
            certificate: self.tls_cert_file.clone(),
            key: self.tls_key_file.clone(),
        }
    }
}

/// A valid libpq URL. It is displayed without its password.
#[derive(Clone)]
pub struct PostgresUrl(SecretString);

impl PostgresUrl {
    /// Returns the URL with its password.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Returns the parsed URL.
    pub fn parts(&self) -> tokio_postgres::Config {
        // It was parsed when it was made; the default is there for the type only.
        for_driver(self.expose()).parse().unwrap_or_default()
    }
}

/// What a URL may say of the connection. The rest has a key of its own, so that it is in one place.
const PARAMETERS: Parameters = Parameters {
    known: &[
        "application_name",
        "channel_binding",
        "dbname",
        "host",
        "hostaddr",
        "options",
        "password",
        "port",
        "sslmode",
        "sslnegotiation",
        "target_session_attrs",
        "user",
    ],
    elsewhere: &[
        ("sslrootcert", "put the file into postgres.tls_ca_file"),
        ("sslcert", "put the file into postgres.tls_cert_file"),
        ("sslkey", "put the file into postgres.tls_key_file"),
        (
            "sslcrl",
            "take the authority out of postgres.tls_ca_file instead; lists of revoked certificates are not read",
        ),
        ("passfile", "put the password into the first line of a file, and that into postgres.password_file"),
        ("connect_timeout", "write postgres.connect_timeout"),
        ("tcp_user_timeout", "write postgres.tcp_user_timeout"),
        ("keepalives", "take it out: they are on, see postgres.keepalive"),
        ("keepalives_idle", "write postgres.keepalive"),
        ("keepalives_interval", "write postgres.keepalive"),
        ("keepalives_count", "take it out: it is 3"),
        ("keepalives_retries", "take it out: it is 3"),
        ("load_balance_hosts", "take it out: the hosts are tried in the order of the URL"),
        ("gssencmode", "take it out: there is no GSSAPI"),
    ],
};

/// Checks the value of `sslmode`.
fn check_mode(mode: &str) -> Result<(), String> {
    let instead = match mode {
        "disable" | "require" | "verify-full" => return Ok(()),
        "verify-ca" => "; write sslmode=verify-full, and call the server by a name in its certificate",
        "prefer" | "allow" => {
            "; write sslmode=verify-full, or sslmode=disable: what falls back to plain text protects from nobody"
        }
        _ => "; write sslmode=verify-full, sslmode=require (the same here) or sslmode=disable",
    };
    Err(format!("sslmode has a value that is not supported{instead}"))
}

/// Returns the URL as tokio-postgres takes it. It knows no `verify-full`; whether the server is verified is decided by
/// the TLS client that it is given, which always does.
fn for_driver(url: &str) -> Cow<'_, str> {
    match url.split_once('?') {
        Some((base, query)) if query.contains("sslmode=verify-full") => {
            format!("{base}?{}", query.replace("sslmode=verify-full", "sslmode=require")).into()
        }
        _ => url.into(),
    }
}

impl PartialEq for PostgresUrl {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Parsed for PostgresUrl {
    fn expected(&self) -> String {
        "a URL such as \"postgresql://user@host:5432/database\"".to_owned()
    }

    fn parse(&mut self, text: &str) -> Result<(), String> {
        if !text.starts_with("postgresql://") && !text.starts_with("postgres://") {
            return Err("it does not begin with postgresql://".to_owned());
        }
        for (name, value) in PARAMETERS.of(text)? {
            if name == "sslmode" {
                check_mode(value)?;
            }
        }
        let parts: tokio_postgres::Config = for_driver(text).parse().map_err(|error| parse_error(&error))?;
        if parts.get_hosts().is_empty() {
            return Err("it names no host".to_owned());
        }
        let (hosts, ports) = (parts.get_hosts().len(), parts.get_ports().len());
        if ports > 1 && ports != hosts {
            return Err(format!("it has {hosts} hosts and {ports} ports"));
        }
        self.0 = text.to_owned().into();
        Ok(())
    }

    fn show(&self) -> String {
        redact(self.expose())
    }

    fn is_secret(&self) -> bool {
        true
    }
}

/// Returns why tokio-postgres refuses a URL. It names options, never values.
fn parse_error(error: &tokio_postgres::Error) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string);
    source.unwrap_or_else(|| error.to_string())
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> PostgresSettings {
        let mut settings = PostgresSettings::default();
        settings.url.parse(url).unwrap();
        settings
    }

    #[test]
    fn a_connection_has_every_limit_of_the_client() {
        let config = settings("postgresql://u:geheim@a:1,b:2/db?options=-c%20work_mem=1MB").connection().unwrap();
        assert_eq!(config.get_hosts().len(), 2);
        assert_eq!(settings("postgresql://a,b:2/db").target(), "a:5432,b:2");
        assert_eq!(settings("postgresql://a:7,b:7/db").target(), "a:7,b:7");
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(3)));
        assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        // Those of the URL, and none of our own.
        assert_eq!(config.get_options(), Some("-c work_mem=1MB"));
    }

    #[test]
    fn tls_is_verified_or_absent() {
        assert!(!settings("postgresql://h/db").is_tls());
        assert!(!settings("postgresql://h/db?sslmode=disable").is_tls());
        for mode in ["require", "verify-full"] {
            let settings = settings(&format!("postgresql://h/db?application_name=x&sslmode={mode}"));
            assert!(settings.is_tls());
            assert!(settings.url.expose().ends_with(mode) && settings.url.show().ends_with(mode));
            assert_eq!(settings.connection().unwrap().get_ssl_mode(), SslMode::Require);
        }
        let with_ca = PostgresSettings { tls_ca_file: Some("ca.pem".into()), ..settings("postgresql://h/db") };
        assert_eq!(with_ca.connection().unwrap().get_ssl_mode(), SslMode::Require);
    }

    #[test]
    fn the_password_comes_from_the_first_line_of_its_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "geheim\nnot this\n").unwrap();
        let settings = PostgresSettings { password_file: Some(file.path().into()), ..settings("postgresql://u@h/db") };
        assert_eq!(settings.connection().unwrap().get_password(), Some(&b"geheim"[..]));
    }

    #[test]
    fn a_wrong_url_is_refused_without_its_password() {
        for (url, reason) in [
            ("host=h password=geheim", "postgresql://"),
            ("postgresql://u:geheim@h/db?sslmode=verify-ca", "sslmode=verify-full"),
            ("postgresql://u:geheim@h/db?sslmode=prefer", "falls back to plain text"),
            ("postgresql://u:geheim@h/db?sslmode=on", "sslmode=disable"),
            ("postgresql://u:geheim@h/db?sslrootcert=x", "postgres.tls_ca_file"),
            ("postgresql://u:geheim@h/db?sslcert=x", "postgres.tls_cert_file"),
            ("postgresql://u:geheim@h/db?sslkey=x", "postgres.tls_key_file"),
            ("postgresql://u:geheim@h/db?connect_timeout=1", "write postgres.connect_timeout"),
            ("postgresql://u:geheim@h/db?load_balance_hosts=random", "in the order of the URL"),
            ("postgresql://u:geheim@h/db?sslmod=require", "did you mean `sslmode`?"),
            ("postgresql://u:geheim@h/db?dbname=a&dbname=b", "`dbname` is there twice"),
            ("postgresql://u:geheim@a:1,b:2,c:x/db", "port"),
            ("postgresql://u:geheim@", "host"),
        ] {
            let error = PostgresSettings::default().url.parse(url).unwrap_err();
            assert!(error.contains(reason) && !error.contains("geheim"), "{url}: {error}");
        }
        assert!(!format!("{:?}", settings("postgresql://u:geheim@h/db")).contains("geheim"));
    }
}
