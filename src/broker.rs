//! Connections to the broker: the URIs in turn, with a name, with a limit on the time.

pub mod headers;
pub mod inbound;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lapin::options::ExchangeDeclareOptions;
use lapin::tcp::OwnedTLSConfig;
use lapin::types::FieldTable;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties, ErrorKind, ExchangeKind};
use tracing::warn;

use self::inbound::{Budget, Inbox, Reader};
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

    /// One attempt at one URI, for a connection that publishes.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from connecting.
    pub async fn connect(&self) -> Result<Connection, ConnectError> {
        self.attempt(async |uri, properties, tls| {
            let runtime = lapin::runtime::default_runtime()?;
            Connection::connect_uri_with_config(uri, properties, tls, runtime).await
        })
        .await
    }

    /// One attempt at one URI, for a connection that consumes: its deliveries are made safe for lapin, and take their
    /// memory from `budget`.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from connecting.
    pub async fn connect_to_consume(&self, budget: &Arc<Budget>) -> Result<(Connection, Reader), ConnectError> {
        let inbox = Inbox::new(Arc::clone(budget));
        let connect = async |uri, properties, tls| inbound::connect(uri, properties, tls, Arc::clone(&inbox)).await;
        let connection = self.attempt(connect).await?;
        Ok((connection, Reader::new(inbox)))
    }

    async fn attempt(
        &self,
        connect: impl AsyncFnOnce(AMQPUri, ConnectionProperties, OwnedTLSConfig) -> lapin::Result<Connection>,
    ) -> Result<Connection, ConnectError> {
        let mut endpoints = self.settings.endpoints();
        let place = self.next.fetch_add(1, Ordering::Relaxed) % endpoints.len();
        let uri = endpoints.swap_remove(place);
        let target = format!("{}:{}", uri.authority.host, uri.authority.port);
        let properties = ConnectionProperties::default().with_connection_name(self.name.into());
        let tls = self.settings.tls().map_err(ConnectError::Tls)?;
        let limit = self.settings.connect_timeout;
        match tokio::time::timeout(limit, connect(uri, properties, tls)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(ConnectError::Broker { target, error }),
            Err(_) => Err(ConnectError::Timeout { target, limit }),
        }
    }
}

/// Declares a durable exchange. One that exists with other arguments is used as it is.
///
/// # Errors
///
/// The broker's, and the connection's.
pub async fn declare_exchange(connection: &Connection, exchange: &str, kind: ExchangeKind) -> lapin::Result<()> {
    // Of its own: the broker closes it if the arguments differ.
    let channel = connection.create_channel().await?;
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let declared = channel.exchange_declare(exchange.into(), kind, options, FieldTable::default()).await;
    use_as_it_is("exchange", exchange, declared)
}

/// Somebody declared it otherwise. It works; they should know what they go without.
pub(crate) fn use_as_it_is(what: &str, name: &str, declared: lapin::Result<()>) -> lapin::Result<()> {
    match declared {
        Err(difference) if reply_code(&difference) == Some(406) => {
            warn!(name, %difference, "the {what} exists with other arguments than the daemon's: used as it is");
            Ok(())
        }
        declared => declared,
    }
}

/// What the broker answered: 404 is not there, 406 is there and differs.
pub(crate) fn reply_code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}
