//! Opens sessions on the nodes of the settings in turn: RabbitMQ's side of [`EventLog`].

use std::sync::atomic::{AtomicUsize, Ordering};

use lapin::tcp::RustlsConnector;
use lapin::uri::{AMQPScheme, AMQPUri};
use settled_pipeline::health::Outage;
use settled_pipeline::outbox::EventLog;
use settled_pipeline::settings::Live;
use tracing::warn;

use super::compare::differences;
use super::declare::{ALARM, create, declare};
use super::link::{Link, LinkError};
use super::login::{Agreed, Failure, log_in};
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
struct Node<'a> {
    broker: &'a BrokerSettings,
    stream: &'a StreamSettings,
    uri: AMQPUri,
    tls: Option<RustlsConnector>,
}

impl Node<'_> {
    async fn open(&self, name: &str) -> Result<StreamSession, Outage> {
        let mut uri = self.uri.clone();
        uri.authority.port = self.stream.port_of(uri.scheme == AMQPScheme::AMQPS);
        let (target, files, limit) = (target(&uri), self.broker.tls_files(), self.broker.connect_timeout);
        let connected = within(limit, connect(&uri, self.tls.as_ref())).await;
        let connected = connected.map_err(Failure::Unavailable).and_then(|connected| connected);
        let (mut link, agreed) = connected.map_err(|failure| outage(&target, failure.explain(&uri, &files)))?;
        // Whoever elects a leader, or has a disk alarm, does not answer soon.
        let limit = limit * 2;
        let set_up = within(limit, self.set_up(&mut link, name)).await;
        let set_up = set_up.map_err(|late| Failure::Unavailable(format!("{late} to what a publisher needs. {ALARM}")));
        let who = set_up.and_then(|set_up| set_up).map_err(|failure| outage(&target, failure))?;
        Ok(StreamSession::of(link, agreed, who, limit))
    }

    /// Declares the stream, if it is to be declared, and the publisher.
    async fn set_up(&self, link: &mut Link, name: &str) -> Result<Who, Failure> {
        let (stream, user) = (&self.stream.name, &self.uri.authority.userinfo.username);
        let mut differs = false;
        if self.broker.declare {
            differs = create(link, self.stream, user).await?;
        }
        declare(link, (name, stream, user), self.broker.declare).await?;
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
async fn connect(uri: &AMQPUri, tls: Option<&RustlsConnector>) -> Result<(Link, Agreed), Failure> {
    let socket = socket::open_alone(uri, tls).await.map_err(LinkError::from)?;
    let mut link = Link::new(socket);
    let agreed = log_in(&mut link, uri, NAME).await?;
    Ok((link, agreed))
}

fn outage(target: &str, failure: Failure) -> Outage {
    let refused = matches!(failure, Failure::Refused(_));
    Outage { reason: format!("{target}: {failure}"), refused }
}
