//! One connection outside the pool: for probes, migrations and the command line.

use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::{Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{PostgresSettings, hosts};
use crate::tls::{TlsError, client_config};

/// Why there is no connection. Each message is complete: none has a source to be added to it.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The password file cannot be read.
    #[error("cannot read {}: {reason}", .path.display())]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The certificate authorities cannot be read.
    #[error("{0}")]
    Tls(TlsError),
    /// PostgreSQL cannot be reached, or refused us.
    #[error("{}", describe(.0))]
    Postgres(tokio_postgres::Error),
    /// PostgreSQL did not answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

impl From<TlsError> for ConnectError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

impl From<tokio_postgres::Error> for ConnectError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

/// Opens one connection. It lives as long as the client.
///
/// # Errors
/// When a file cannot be read, or no host takes the connection.
pub async fn connect(settings: &PostgresSettings) -> Result<Client, ConnectError> {
    let config = settings.connection().map_err(|reason| ConnectError::PasswordFile {
        path: settings.password_file.clone().unwrap_or_default(),
        reason,
    })?;
    let limit = settings.connect_timeout;
    let connected = if settings.is_tls() {
        let tls = MakeRustlsConnect::new(client_config(settings.tls_ca_file.as_deref())?);
        hosts::connect(&config, tls, limit).await
    } else {
        hosts::connect(&config, NoTls, limit).await
    };
    match connected {
        Ok((client, _)) => Ok(client),
        Err(Some(error)) => Err(ConnectError::Postgres(error)),
        Err(None) => Err(ConnectError::Timeout(limit)),
    }
}

/// Connects once and asks for the server's version: `15.18`.
///
/// # Errors
/// As [`connect`], and when the whole takes longer than a connection attempt to each host and
/// a statement may.
pub async fn probe(settings: &PostgresSettings) -> Result<String, ConnectError> {
    let hosts = u32::try_from(settings.url.parts().get_hosts().len()).unwrap_or(1);
    let limit = settings.connect_timeout * hosts + settings.wait_timeout;
    let ask = async {
        let client = connect(settings).await?;
        let row = client.query_one("SELECT current_setting('server_version')", &[]).await?;
        Ok(row.get(0))
    };
    tokio::time::timeout(limit, ask).await.map_err(|_| ConnectError::Timeout(limit))?
}

/// tokio-postgres keeps the reason in the source: "db error" alone helps nobody.
fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", db.message(), db.code().code());
    }
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
