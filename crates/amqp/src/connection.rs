//! Opens connections to RabbitMQ, each with a name and a time limit, and closes them.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lapin::options::{ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::tcp::RustlsConnector;
use lapin::types::FieldTable;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind, ExchangeKind};
use settled_pipeline::budget::Budget;
use settled_pipeline::health::Outage;
use settled_pipeline::settings::Live;
use settled_tls::{FileError, Files};
use tracing::warn;

use crate::inbound::{self, Inbox, InboxReader};
use crate::settings::BrokerSettings;
use crate::socket;
use crate::uri::BrokerUri;

/// Opens connections to the nodes of the settings, beginning with the next node at each attempt.
#[derive(Debug)]
pub struct Connector {
    /// The settings of the start. A reload changes nothing but how to connect.
    pub(crate) settings: Arc<BrokerSettings>,
    live: Live<BrokerSettings>,
    name: &'static str,
    next: AtomicUsize,
}

/// Why an attempt to connect failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A file with certificates or a key cannot be used.
    #[error("broker.{0}")]
    Tls(FileError),
    /// The password file cannot be read.
    #[error("broker.password_file: cannot read {}: {reason}", .path.display())]
    #[expect(missing_docs, reason = "the message says it")]
    PasswordFile { path: PathBuf, reason: std::io::Error },
    /// One side does not accept the other's certificate, or they have no TLS in common.
    #[error("{0}: TLS: {1}")]
    Untrusted(String, String),
    /// The node cannot be reached, or the connection was lost.
    #[error("{0}: {1}")]
    Broker(String, lapin::Error),
    /// The broker answers and refuses the user, its password or the virtual host.
    #[error("{0}: {refused}", refused = login_refused(.1))]
    Refused(String, lapin::Error),
    /// The node did not complete the handshakes within `broker.connect_timeout`.
    #[error("{0}: no answer within {1:?}")]
    Timeout(String, Duration),
}

/// Says that the broker refuses a login for this reason, and what to do about it.
pub(crate) fn login_refused(reason: &dyn Display) -> String {
    format!(
        "RabbitMQ refuses the login: {reason}. Correct user, password and virtual host in broker.uris, \
         broker.password_file or SETTLED_AMQP_URI, the certificate in broker.tls_cert_file, or what RabbitMQ expects \
         (rabbitmqctl change_password, set_permissions -p VHOST)"
    )
}

impl ConnectError {
    /// Sorts what lapin says about a connection to a node for which these files were used.
    pub(crate) fn of(target: String, error: lapin::Error, files: &Files) -> Self {
        if let Some(reason) = files.explain(&error) {
            return Self::Untrusted(target, reason);
        }
        // ACCESS_REFUSED: user and password. NOT_ALLOWED: the virtual host.
        match reply_code(&error) {
            Some(403 | 530) => Self::Refused(target, error),
            _ => Self::Broker(target, error),
        }
    }

    /// Returns true if the broker answered and refused the login, or one side refused the other's certificate. Somebody
    /// has to act, here or there; a daemon waits for it, because passwords and certificates are replaced while it runs.
    pub const fn is_refused(&self) -> bool {
        matches!(self, Self::Refused(..) | Self::Untrusted(..))
    }

    /// Returns true if only another configuration, or another file, can help.
    pub const fn is_configuration(&self) -> bool {
        matches!(self, Self::Tls(_) | Self::PasswordFile { .. })
    }
}

impl From<ConnectError> for Outage {
    fn from(error: ConnectError) -> Self {
        Self { reason: error.to_string(), refused: error.is_refused() }
    }
}

impl Connector {
    /// Creates a connector whose connections are shown to operators as `name`.
    pub fn new(settings: impl Into<Live<BrokerSettings>>, name: &'static str) -> Self {
        let live = settings.into();
        Self { settings: live.get(), live, name, next: AtomicUsize::new(0) }
    }

    /// Attempts to connect to one node, for publishing.
    ///
    /// # Errors
    ///
    /// When the node cannot be reached within the limit, or refuses the connection.
    pub async fn connect(&self) -> Result<Connection, ConnectError> {
        self.attempt(open).await
    }

    /// Attempts to connect to one node, for consuming: deliveries are made safe for lapin to parse, and are held
    /// back while `budget` is exhausted.
    pub(crate) async fn connect_to_consume(
        &self,
        budget: &Arc<Budget>,
    ) -> Result<(Connection, InboxReader), ConnectError> {
        let inbox = Inbox::new(Arc::clone(budget));
        let connect = async |uri, properties, tls| inbound::connect(uri, properties, tls, Arc::clone(&inbox)).await;
        let connection = self.attempt(connect).await?;
        Ok((connection, InboxReader::new(inbox)))
    }

    async fn attempt(
        &self,
        connect: impl AsyncFnOnce(AMQPUri, ConnectionProperties, Option<RustlsConnector>) -> lapin::Result<Connection>,
    ) -> Result<Connection, ConnectError> {
        let settings = self.live.get();
        let (mut endpoints, tls) = access(&settings)?;
        let place = self.next.fetch_add(1, Ordering::Relaxed) % endpoints.len();
        let uri = endpoints.swap_remove(place);
        let target = target(&uri);
        let properties = ConnectionProperties::default().with_connection_name(self.name.into());
        let limit = settings.connect_timeout;
        match tokio::time::timeout(limit, connect(uri, properties, tls)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(ConnectError::of(target, error, &settings.tls_files())),
            Err(_) => Err(ConnectError::Timeout(target, limit)),
        }
    }
}

/// Returns host and port of a node.
pub(crate) fn target(uri: &AMQPUri) -> String {
    format!("{}:{}", uri.authority.host, uri.authority.port)
}

/// Reads the files of the settings. Returns the nodes, with their passwords, and the client for TLS if one is needed.
pub(crate) fn access(settings: &BrokerSettings) -> Result<(Vec<AMQPUri>, Option<RustlsConnector>), ConnectError> {
    let endpoints = settings.endpoints_with_passwords().map_err(|reason| ConnectError::PasswordFile {
        path: settings.password_file.clone().unwrap_or_default(),
        reason,
    })?;
    let is_tls = settings.uris.iter().any(BrokerUri::is_tls);
    let tls = is_tls.then(|| settings.tls_files().client_config()).transpose().map_err(ConnectError::Tls)?;
    Ok((endpoints, tls.map(RustlsConnector::from)))
}

/// Opens a connection without a filter on what is read.
pub(crate) async fn open(
    uri: AMQPUri,
    properties: ConnectionProperties,
    tls: Option<RustlsConnector>,
) -> lapin::Result<Connection> {
    socket::connect(uri, properties, tls, |socket| socket).await
}

/// Waits for `work`, but no longer than `limit`.
///
/// # Errors
///
/// A sentence for operators when the time is up.
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, String> {
    tokio::time::timeout(limit, work).await.map_err(|_| format!("no answer within {limit:?}"))
}

/// Closes a connection, and waits for `close-ok` no longer than `limit`. Returns whether it came.
pub(crate) async fn close(connection: &Connection, limit: Duration) -> bool {
    within(limit, connection.close(200, "settled is done".into())).await.is_ok()
}

/// Opens a channel in confirm mode.
pub(crate) async fn confirm_channel(connection: &Connection) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// Declares a durable exchange. An exchange that exists with other arguments is used as it is.
pub(crate) async fn declare_exchange(connection: &Connection, exchange: &str, kind: ExchangeKind) -> lapin::Result<()> {
    // On a channel of its own: the broker closes it if the arguments differ.
    let channel = connection.create_channel().await?;
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let declared = channel.exchange_declare(exchange.into(), kind, options, FieldTable::default()).await;
    use_as_it_is("exchange", exchange, declared)
}

/// Turns the error that an exchange or queue exists with other arguments into a warning.
pub(crate) fn use_as_it_is(what: &str, name: &str, declared: lapin::Result<()>) -> lapin::Result<()> {
    match declared {
        Err(difference) if reply_code(&difference) == Some(406) => {
            warn!(name, %difference, "the {what} exists with other arguments than the daemon's: used as it is");
            Ok(())
        }
        declared => declared,
    }
}

/// Returns AMQP's reply code, such as 404 (does not exist), 403 (not permitted) or 406 (exists with other arguments).
pub(crate) fn reply_code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}
