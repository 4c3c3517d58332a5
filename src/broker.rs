//! Connections to the broker: the URIs in turn, with a name, with a limit on the time.

use std::sync::atomic::{AtomicUsize, Ordering};

use lapin::{Connection, ConnectionProperties};

use crate::intake::BrokerSettings;

/// Connects to one of the settings' URIs, each time beginning with the next one.
#[derive(Debug)]
pub struct Connector {
    settings: BrokerSettings,
    name: &'static str,
    next: AtomicUsize,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// `broker.tls_ca_file` can't be read.
    #[error("broker.tls_ca_file: {0}")]
    Tls(std::io::Error),
    /// The broker's own.
    #[error("{target}: {error}")]
    Broker {
        /// Which broker.
        target: String,
        /// What it says.
        error: lapin::Error,
    },
    /// Nothing was heard.
    #[error("{target}: no answer within {limit:?}")]
    Timeout {
        /// Which broker.
        target: String,
        /// How long it was waited for.
        limit: std::time::Duration,
    },
}

impl Connector {
    /// Connections of this `name`.
    pub const fn new(settings: BrokerSettings, name: &'static str) -> Self {
        Self { settings, name, next: AtomicUsize::new(0) }
    }

    /// One attempt at one URI.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from connecting.
    pub async fn connect(&self) -> Result<Connection, ConnectError> {
        let mut endpoints = self.settings.endpoints();
        let place = self.next.fetch_add(1, Ordering::Relaxed) % endpoints.len();
        let uri = endpoints.swap_remove(place);
        let target = format!("{}:{}", uri.authority.host, uri.authority.port);
        let properties = ConnectionProperties::default().with_connection_name(self.name.into());
        let tls = self.settings.tls().map_err(ConnectError::Tls)?;
        let limit = self.settings.connect_timeout;
        let connect = async {
            let runtime = lapin::runtime::default_runtime()?;
            Connection::connect_uri_with_config(uri, properties, tls, runtime).await
        };
        match tokio::time::timeout(limit, connect).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(ConnectError::Broker { target, error }),
            Err(_) => Err(ConnectError::Timeout { target, limit }),
        }
    }
}
