//! Opens sessions on the nodes of the settings in turn: RabbitMQ's side of [`EventLog`].

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lapin::tcp::RustlsConnector;
use lapin::uri::{AMQPScheme, AMQPUri};
use settled_pipeline::health::Outage;
use settled_pipeline::outbox::EventLog;
use settled_pipeline::settings::Live;
use tracing::warn;

use super::compare::differences;
use super::declare::{ALARM, create, declare, missing, no_stream};
use super::link::{Link, LinkError};
use super::login::{Agreed, Failure, Unmet, log_in};
use super::session::{StreamSession, Who};
use super::settings::StreamSettings;
use crate::connection::{access, target, within};
use crate::settings::BrokerSettings;
use crate::socket;

/// How operators see the connection.
const NAME: &str = "settled relay";

/// The stream of the settings, on the nodes of the broker.
#[derive(Debug)]
pub struct StreamLog {
    broker: Live<BrokerSettings>,
    stream: StreamSettings,
    next: AtomicUsize,
}

impl StreamLog {
    /// Creates a log of the stream, on the nodes of `broker`. A session declares it if `broker.declare` is true.
    pub fn new(broker: impl Into<Live<BrokerSettings>>, stream: &StreamSettings) -> Self {
        Self { broker: broker.into(), stream: stream.clone(), next: AtomicUsize::new(0) }
    }
}

impl EventLog for StreamLog {
    type Session = StreamSession;

    async fn open(&self, name: &str) -> Result<StreamSession, Outage> {
        let broker = self.broker.get();
        let (mut endpoints, tls) = access(&broker)?;
        let place = self.next.fetch_add(1, Ordering::Relaxed) % endpoints.len();
        let node = Node { broker: &broker, stream: &self.stream, uri: endpoints.swap_remove(place), tls };
        node.open(name).await
    }
}

/// A node, for one attempt.
pub(super) struct Node<'a> {
    pub(super) broker: &'a BrokerSettings,
    pub(super) stream: &'a StreamSettings,
    /// How it is reached by AMQP 0-9-1.
    pub(super) uri: AMQPUri,
    pub(super) tls: Option<RustlsConnector>,
}

impl Node<'_> {
    async fn open(&self, name: &str) -> Result<StreamSession, Outage> {
        let (mut link, agreed) = self.connect(NAME).await?;
        let set_up = self.set_up(&mut link, name);
        let who = self.answered(set_up).await.map_err(|failure| outage(&target(&self.of_streams()), failure))?;
        Ok(StreamSession::of(link, agreed, who, self.patience()))
    }

    /// Opens a connection that operators see as `name`, and logs in.
    pub(super) async fn connect(&self, name: &str) -> Result<(Link, Agreed), Outage> {
        let (uri, files) = (self.of_streams(), self.broker.tls_files());
        let connected = within(self.broker.connect_timeout, connect(&uri, self.tls.as_ref(), name)).await;
        let connected = connected.map_err(Failure::Unavailable).and_then(|connected| connected);
        connected.map_err(|failure| outage(&target(&uri), failure.explain(&uri, &files)))
    }

    /// Returns how it is reached by the stream protocol.
    pub(super) fn of_streams(&self) -> AMQPUri {
        let mut uri = self.uri.clone();
        uri.authority.port = self.stream.port_of(uri.scheme == AMQPScheme::AMQPS);
        uri
    }

    /// How long it may take to answer: who elects a leader, or has a disk alarm, does not do it soon.
    fn patience(&self) -> Duration {
        self.broker.connect_timeout * 2
    }

    /// Waits for what a publisher needs.
    pub(super) async fn answered<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        within(self.patience(), work)
            .await
            .unwrap_or_else(|late| Err(Failure::Unavailable(format!("{late} to what a publisher needs. {ALARM}"))))
    }

    /// Declares the stream, if it is to be declared, and the publisher.
    async fn set_up(&self, link: &mut Link, name: &str) -> Result<Who, Failure> {
        let (stream, user) = (&self.stream.name, &self.uri.authority.userinfo.username);
        let (differs, otherwise) = match self.broker.declare {
            true => (create(link, self.stream, user).await?, no_stream(stream)),
            false => (false, missing(self.stream, &self.uri.vhost)),
        };
        declare(link, (name, stream, user), otherwise).await?;
        if differs {
            self.warn_of_differences().await;
        }
        Ok(Who { reference: name.to_owned(), stream: stream.clone(), user: user.clone() })
    }

    /// Says in which arguments the stream differs from the settings. It is used as it is.
    async fn warn_of_differences(&self) {
        let (stream, looked) = (&self.stream.name, differences(self.uri.clone(), self.tls.clone(), self.stream));
        let found = match within(self.broker.connect_timeout, looked).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => vec![format!("in what cannot be seen: {error}")],
            Err(late) => vec![format!("in what cannot be seen: {late}")],
        };
        for difference in found {
            warn!(%stream, "the stream exists with other arguments than the daemon's, and is used as it is: {difference}");
        }
    }
}

/// Opens a connection and logs in.
async fn connect(uri: &AMQPUri, tls: Option<&RustlsConnector>, name: &str) -> Result<(Link, Agreed), Failure> {
    let socket = socket::open_alone(uri, tls).await.map_err(LinkError::from)?;
    let mut link = Link::new(socket);
    let agreed = log_in(&mut link, uri, name).await?;
    Ok((link, agreed))
}

pub(super) fn outage(target: &str, failure: Failure) -> Outage {
    let refused = matches!(failure, Failure::Refused(_) | Failure::Unmet(Unmet { is_forbidden: true, .. }));
    Outage { reason: format!("{target}: {failure}"), refused }
}
