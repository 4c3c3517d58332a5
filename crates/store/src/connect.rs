//! One connection outside the pool: for probes, migrations and the command line.

use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use super::driver::Driven;
use super::tls::Tls;
use super::{PostgresSettings, hosts, session};
use settled_tls::FileError;

/// Why a connection failed. Each message is complete; no source has to be appended.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The password file cannot be read.
    #[error("password_file: cannot read {}: {reason}", .path.display())]
    PasswordFile { path: PathBuf, reason: std::io::Error },
    /// A file with certificates or a key cannot be used.
    #[error(transparent)]
    Tls(FileError),
    /// One side does not accept the other's certificate, or they have no TLS in common.
    #[error("TLS: {0}")]
    Untrusted(String),
    /// PostgreSQL cannot be reached.
    #[error("{}", describe(.0))]
    Postgres(tokio_postgres::Error),
    /// PostgreSQL answers and refuses the login: the user, its password, the database or the address.
    #[error(
        "PostgreSQL refuses the login: {}. Correct user and password in postgres.url, postgres.password_file or \
         SETTLED_POSTGRES_URL, the certificate in postgres.tls_cert_file, or what PostgreSQL expects (ALTER ROLE … \
         PASSWORD, GRANT CONNECT, pg_hba.conf)",
        describe(.0)
    )]
    Refused(tokio_postgres::Error),
    /// PostgreSQL did not answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// A connection pooler does not keep sessions.
    #[error(
        "a connection pooler in transaction or statement mode is between settled and PostgreSQL: two connections \
         were served by one session. settled needs sessions of its own, for its time limits, locks and durable \
         commits: set the pooler to session mode for this database or user (PgBouncer: pool_mode = session), or let \
         postgres.url name PostgreSQL itself"
    )]
    Pooled,
    /// A connection pooler refuses a startup parameter of the URL.
    #[error(
        "{0}: a connection pooler refuses a parameter of the session's start. settled sends none but those of \
         postgres.url: remove `options` from it (set them by ALTER ROLE … SET), or have the pooler ignore them \
         (PgBouncer: ignore_startup_parameters = options)"
    )]
    Startup(String),
}

impl ConnectError {
    /// Returns true if only another configuration, here or of the pooler, can help.
    pub const fn is_configuration(&self) -> bool {
        match self {
            Self::PasswordFile { .. } | Self::Tls(_) | Self::Pooled | Self::Startup(_) => true,
            Self::Postgres(_) | Self::Refused(_) | Self::Untrusted(_) | Self::Timeout(_) => false,
        }
    }

    /// Returns true if the server answered and refused the login, or one side refused the other's certificate. Somebody
    /// has to act, here or there; a daemon waits for it, because passwords and certificates are replaced while it runs.
    pub const fn is_refused(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Untrusted(_))
    }

    /// Sorts what tokio-postgres says about a connection for which these settings were used.
    fn of(error: tokio_postgres::Error, settings: &PostgresSettings) -> Self {
        match settings.is_tls().then(|| explain(&error, settings)).flatten() {
            Some(reason) => Self::Untrusted(reason),
            None => error.into(),
        }
    }
}

impl From<tokio_postgres::Error> for ConnectError {
    fn from(error: tokio_postgres::Error) -> Self {
        // The messages of PgBouncer and of Amazon's RDS Proxy.
        let refusals = ["unsupported startup parameter", "command-line options"];
        match error.as_db_error() {
            Some(db) if refusals.iter().any(|refusal| db.message().contains(refusal)) => {
                Self::Startup(db.message().to_owned())
            }
            Some(db) if is_login_refused(db.code()) => Self::Refused(error),
            None if is_password_missing(&error) => Self::Refused(error),
            _ => Self::Postgres(error),
        }
    }
}

/// Authentication (28), no such database, or no right to connect to it.
fn is_login_refused(code: &SqlState) -> bool {
    let others = [SqlState::INVALID_CATALOG_NAME, SqlState::INSUFFICIENT_PRIVILEGE];
    code.code().starts_with("28") || others.contains(code)
}

/// PostgreSQL asks for a password, and there is none. tokio-postgres finds that out by itself.
fn is_password_missing(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.to_string() == "password missing")
}

/// Opens one connection, with time limits and durable commits. It lives as long as the client.
///
/// # Errors
/// If a file cannot be read, no host accepts the connection, or a pooler does not keep sessions.
pub async fn connect(settings: &PostgresSettings) -> Result<Client, ConnectError> {
    connect_with(settings, configuration(settings)?).await
}

/// Opens one connection as [`connect`] does, for a command that only reads: also to a standby, or to a server whose
/// transactions are read-only by default. Of several hosts it is the first one that is what `target_session_attrs` in
/// the URL asks for, which is any unless it is set.
///
/// # Errors
/// As [`connect`].
pub async fn connect_to_read(settings: &PostgresSettings) -> Result<Client, ConnectError> {
    let mut config = configuration(settings)?;
    config.target_session_attrs(settings.url.parts().get_target_session_attrs());
    connect_with(settings, config).await
}

async fn connect_with(settings: &PostgresSettings, config: tokio_postgres::Config) -> Result<Client, ConnectError> {
    let (client, ..) = open_with(settings, &config).await?;
    let (other, ..) = open_with(settings, &config).await?;
    let limit = settings.connect_timeout;
    let set_up = async {
        // Before anything is set: it would apply to other clients.
        if session::are_pooled(&client, &other).await? {
            return Err(ConnectError::Pooled);
        }
        Ok(session::set_up(&client, settings).await?)
    };
    tokio::time::timeout(limit, set_up).await.map_err(|_| ConnectError::Timeout(limit))??;
    Ok(client)
}

/// Opens one connection with the current contents of the files that the settings name, and sets nothing.
pub(super) async fn open(settings: &PostgresSettings) -> Result<Driven, ConnectError> {
    open_with(settings, &configuration(settings)?).await
}

async fn open_with(settings: &PostgresSettings, config: &tokio_postgres::Config) -> Result<Driven, ConnectError> {
    let limit = settings.connect_timeout;
    let connected = match tls(settings)? {
        Some(tls) => hosts::connect(config, tls, limit).await,
        None => hosts::connect(config, NoTls, limit).await,
    };
    connected.map_err(|reason| match reason {
        Some(error) => ConnectError::of(error, settings),
        None => ConnectError::Timeout(limit),
    })
}

/// Reads the files that the settings name.
pub(super) fn check_files(settings: &PostgresSettings) -> Result<(), ConnectError> {
    configuration(settings)?;
    tls(settings)?;
    Ok(())
}

fn configuration(settings: &PostgresSettings) -> Result<tokio_postgres::Config, ConnectError> {
    settings.connection().map_err(|reason| ConnectError::PasswordFile {
        path: settings.password_file.clone().unwrap_or_default(),
        reason,
    })
}

fn tls(settings: &PostgresSettings) -> Result<Option<Tls>, ConnectError> {
    if !settings.is_tls() {
        return Ok(None);
    }
    let config = settings.tls_files().client_config().map_err(ConnectError::Tls)?;
    Ok(Some(Tls::new(config)))
}

/// Returns what is wrong with the handshake, if it was not completed.
fn explain(error: &tokio_postgres::Error, settings: &PostgresSettings) -> Option<String> {
    let source = std::error::Error::source(error)?;
    // What tokio-postgres finds out by itself is a text.
    if source.to_string() == "server does not support TLS" {
        return Some("PostgreSQL has no TLS (ssl = off), and a connection without it is not made".to_owned());
    }
    settings.tls_files().explain(source)
}

/// Returns the message with its reason, which tokio-postgres keeps in the source of the error.
fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", db.message(), db.code().code());
    }
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
