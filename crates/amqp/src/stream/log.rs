//! Opens sessions on the nodes of the settings in turn: RabbitMQ's side of [`EventLog`].

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use lapin::tcp::RustlsConnector;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties};
use settled_pipeline::health::Outage;
use settled_pipeline::outbox::EventLog;
use settled_pipeline::settings::Live;
use tracing::warn;

use super::command::Request;
use super::compare::differences;
use super::declare::{ALARM, Created, create, declare, missing, no_stream, sequence};
use super::frame::Code;
use super::link::{Link, LinkError};
use super::login::{Agreed, Failure, Unmet, log_in};
use super::partitions::EventStream;
use super::session::{StreamSession, Who};
use super::super_stream::{self, Bound};
use crate::connection::{access, open, target, within};
use crate::settings::BrokerSettings;
use crate::socket;

/// How operators see the connection.
const NAME: &str = "settled relay";

/// The stream of the settings, on the nodes of the broker.
#[derive(Debug)]
pub struct StreamLog {
    broker: Live<BrokerSettings>,
    stream: EventStream,
    next: AtomicUsize,
    known: Known,
}

/// What attempts leave for those that follow.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Whether all partitions were seen: one that is missing afterwards was deleted.
    pub(super) was_whole: AtomicBool,
    /// Whether a partition that was deleted was created anew, and no session has told it yet.
    is_renewed: AtomicBool,
}

impl StreamLog {
    /// Creates a log of the stream, on the nodes of `broker`. A session declares it if `broker.declare` is true.
    pub fn new(broker: impl Into<Live<BrokerSettings>>, stream: impl Into<EventStream>) -> Self {
        let (broker, stream) = (broker.into(), stream.into());
        Self { broker, stream, next: AtomicUsize::new(0), known: Known::default() }
    }
}

impl EventLog for StreamLog {
    type Session = StreamSession;

    async fn open(&self, name: &str) -> Result<StreamSession, Outage> {
        let broker = self.broker.get();
        let (mut endpoints, tls) = access(&broker)?;
        let place = self.next.fetch_add(1, Ordering::Relaxed) % endpoints.len();
        let uri = endpoints.swap_remove(place);
        Node { broker: &broker, stream: &self.stream, known: &self.known, uri, tls }.open(name).await
    }
}

/// A node, for one attempt.
pub(super) struct Node<'a> {
    pub(super) broker: &'a BrokerSettings,
    pub(super) stream: &'a EventStream,
    pub(super) known: &'a Known,
    /// How it is reached by AMQP 0-9-1.
    pub(super) uri: AMQPUri,
    pub(super) tls: Option<RustlsConnector>,
}

impl Node<'_> {
    async fn open(&self, name: &str) -> Result<StreamSession, Outage> {
        let (mut link, agreed) = self.connect(NAME).await?;
        let set_up = self.set_up(&mut link, &agreed, name);
        let (who, others) =
            self.answered(set_up).await.map_err(|failure| outage(&target(&self.of_streams()), failure))?;
        if !others.is_empty() {
            self.warn_of_differences(&others).await;
        }
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
        uri.authority.port = self.stream.settings.port_of(uri.scheme == AMQPScheme::AMQPS);
        uri
    }

    /// How long it may take to answer: who elects a leader, one for each partition, or has a disk alarm, does not soon.
    fn patience(&self) -> Duration {
        const AT_ONCE: usize = 8;
        let rounds = u32::try_from(self.stream.partitions.div_ceil(AT_ONCE)).unwrap_or(u32::MAX);
        self.broker.connect_timeout.saturating_mul(2).saturating_mul(rounds)
    }

    /// Waits for what a publisher needs.
    pub(super) async fn answered<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        within(self.patience(), work)
            .await
            .unwrap_or_else(|late| Err(Failure::Unavailable(format!("{late} to what a publisher needs. {ALARM}"))))
    }

    /// Declares the streams, if they are to be declared, and a publisher on each. Returns the streams with other arguments.
    async fn set_up(&self, link: &mut Link, agreed: &Agreed, reference: &str) -> Result<(Who, Vec<String>), Failure> {
        super_stream::supported(agreed, self.stream)?;
        let (streams, user) = (self.stream.names(), &*self.uri.authority.userinfo.username);
        if self.stream.is_super() {
            self.unbound(link).await?;
        }
        let mut others = Vec::new();
        if self.broker.declare {
            let has_events = self.stream.is_super() && has_events(link, &streams, (reference, user)).await?;
            for stream in &streams {
                match create(link, &self.stream.settings, (stream, user)).await? {
                    // Nothing is appended before all partitions are there, so it was deleted.
                    Created::New if has_events => {
                        warn!(%stream, "this partition of the stream was deleted, and is declared anew");
                        self.known.is_renewed.store(true, Ordering::Relaxed);
                    }
                    Created::New | Created::Before => {}
                    Created::Other => others.push(stream.clone()),
                }
            }
        }
        for (stream, publisher) in streams.iter().zip(0..) {
            let otherwise = if self.broker.declare { no_stream(stream) } else { self.missing() };
            declare(link, publisher, (reference, stream, user), otherwise).await?;
        }
        // Again: a partition that was deleted since then is created without its binding. From here on its publisher tells.
        let unbound = if self.stream.is_super() { self.unbound(link).await? } else { Vec::new() };
        if !unbound.is_empty() {
            self.bind(link, &unbound).await?;
        }
        let is_renewed = self.known.is_renewed.swap(false, Ordering::Relaxed);
        Ok((
            Who { reference: reference.to_owned(), streams: streams.into(), user: user.to_owned(), is_renewed },
            others,
        ))
    }

    /// Returns the numbers of the partitions that the super stream lacks.
    async fn unbound(&self, link: &mut Link) -> Result<Vec<usize>, Failure> {
        match super_stream::look(link, self.stream, self.known.was_whole.load(Ordering::Relaxed)).await? {
            Bound::All => {
                self.known.was_whole.store(true, Ordering::Relaxed);
                Ok(Vec::new())
            }
            Bound::Without(missing) if self.broker.declare => Ok(missing),
            Bound::Without(_) => Err(self.missing()),
            Bound::Others(found) => Err(super_stream::others(self.stream, &found)),
        }
    }

    /// Binds the partitions of these numbers. Somebody else may have done so meanwhile, with another number of them.
    async fn bind(&self, link: &mut Link, missing: &[usize]) -> Result<(), Failure> {
        super_stream::bind((self.uri.clone(), self.tls.clone()), self.stream, missing).await?;
        if self.unbound(link).await?.is_empty() {
            return Ok(());
        }
        let name = &self.stream.settings.name;
        Err(Failure::Unavailable(format!("partitions of `{name}` were deleted while they were declared")))
    }

    /// The failure if the stream, or a partition, is missing and must not be declared.
    pub(super) fn missing(&self) -> Failure {
        match self.stream.is_super() {
            true => super_stream::missing(self.stream, &self.uri.vhost),
            false => missing(&self.stream.settings, &self.uri.vhost),
        }
    }

    /// Says in which arguments streams differ from the settings. They are used as they are.
    async fn warn_of_differences(&self, streams: &[String]) {
        let looked = differences((self.uri.clone(), self.tls.clone()), &self.stream.settings, streams);
        let found = match within(self.broker.connect_timeout, looked).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => vec![format!("in what cannot be seen: {error}")],
            Err(late) => vec![format!("in what cannot be seen: {late}")],
        };
        for difference in found {
            warn!("the stream exists with other arguments than the daemon's, and is used as it is: {difference}");
        }
    }
}

/// Says whether a stream that exists has events of the publisher `reference`.
async fn has_events(link: &mut Link, streams: &[String], (reference, user): (&str, &str)) -> Result<bool, Failure> {
    for stream in streams {
        let (code, body) = link.call(Request::QueryPublisherSequence { reference, stream }).await?;
        if code != Code::NO_STREAM && sequence((code, body), (stream, user))? > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Opens a connection of AMQP 0-9-1 beside that of the session, for what the stream protocol does not have.
pub(super) async fn open_beside((uri, tls): (AMQPUri, Option<RustlsConnector>)) -> lapin::Result<Connection> {
    open(uri, ConnectionProperties::default().with_connection_name(NAME.into()), tls).await
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
