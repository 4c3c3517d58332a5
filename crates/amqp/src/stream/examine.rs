//! What appending needs of a node, for `settled check --connect`: as a session finds it, but nothing is created.

use lapin::tcp::RustlsConnector;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};
use settled_pipeline::health::Outage;
use settled_pipeline::precondition::{Precondition, Verdict};

use super::compare::compare;
use super::declare::{declare, may_append, no_stream, not_declared};
use super::link::Link;
use super::log::{Known, Node, outage};
use super::login::{Agreed, Failure, Unmet};
use super::partitions::EventStream;
use super::super_stream::{self, Bound};
use crate::connection::{open, reply_code, target};
use crate::outlet::Outlet;
use crate::preconditions::{may_declare, permissions, queue_with_no_such_argument};
use crate::probe::Probed;
use crate::settings::BrokerSettings;
use crate::topology::{is_there, queue_exists};

/// How operators see the connections, and the publisher, which appends nothing.
const NAME: &str = "settled check";

/// Connects to the node's port for streams, and looks at the stream. Returns host and port, and what was found.
pub(crate) async fn examine(
    (broker, stream): (&BrokerSettings, &EventStream),
    (uri, tls): (AMQPUri, Option<RustlsConnector>),
    outlet: &Outlet,
) -> (String, Result<Probed, Outage>) {
    let known = Known::default();
    let node = Node { broker, stream, known: &known, uri, tls };
    let target = target(&node.of_streams());
    let found = match node.connect(NAME).await {
        Ok((mut link, agreed)) => node.answered(node.examine(&mut link, &agreed)).await,
        Err(outage) => return (target, Err(outage)),
    };
    let what = format!("stream {}", stream.settings.name);
    let (precondition, dangers) = match found {
        Ok(Seen { detail, dangers }) => (Precondition::ok(what, detail), dangers),
        Err(Failure::Unmet(Unmet { found, remedy, is_forbidden })) => {
            let remedy = Some(if is_forbidden { permissions(broker, outlet) } else { remedy });
            // Payments are processed, and their events wait in the outbox.
            (Precondition { what, verdict: Verdict::Impaired, detail: found, remedy }, Vec::new())
        }
        Err(failure) => return (target.clone(), Err(outage(&target, failure))),
    };
    (target, Ok(Probed { preconditions: vec![precondition], dangers }))
}

/// What was found of a stream that can be appended to.
struct Seen {
    detail: String,
    dangers: Vec<String>,
}

impl Node<'_> {
    async fn examine(&self, link: &mut Link, agreed: &Agreed) -> Result<Seen, Failure> {
        super_stream::supported(agreed, self.stream)?;
        let properties = ConnectionProperties::default().with_connection_name(NAME.into());
        let connection = open(self.uri.clone(), properties, self.tls.clone()).await.map_err(unseen)?;
        let seen = self.look(link, &connection).await;
        let _ = connection.close(200, "checked".into()).await;
        seen
    }

    /// Looks with AMQP 0-9-1 at what the stream protocol does not tell.
    async fn look(&self, link: &mut Link, connection: &Connection) -> Result<Seen, Failure> {
        let is_bound = !self.stream.is_super() || self.look_at_bindings(link, connection).await?;
        let (mut dangers, mut missing) = (Vec::new(), 0);
        for (stream, publisher) in self.stream.names().iter().zip(0..) {
            match self.look_at(link, connection, (stream, publisher)).await? {
                Some(found) => dangers.extend(found),
                None => missing += 1,
            }
        }
        let detail = match (missing, is_bound, self.stream.is_super()) {
            (0, true, false) => "exists".to_owned(),
            (0, true, true) => format!("exists, with {} partitions", self.stream.partitions),
            (_, _, false) => "does not exist yet: `settled run` declares it".to_owned(),
            (_, _, true) => "is not whole yet: `settled run` declares its partitions".to_owned(),
        };
        Ok(Seen { detail, dangers })
    }

    /// Looks at the exchange of a super stream. Returns whether it is bound to all partitions.
    async fn look_at_bindings(&self, link: &mut Link, connection: &Connection) -> Result<bool, Failure> {
        match super_stream::look(link, self.stream, false).await? {
            Bound::All => Ok(true),
            Bound::Without(_) if !self.broker.declare => Err(self.missing()),
            Bound::Without(_) => {
                super_stream::may_bind(connection, self.stream).await?;
                Ok(false)
            }
            Bound::Others(found) => Err(super_stream::others(self.stream, &found)),
        }
    }

    /// Looks at a stream. Returns what is dangerous about it, or `None` if there is none yet.
    async fn look_at(
        &self,
        link: &mut Link,
        connection: &Connection,
        (stream, publisher): (&str, u8),
    ) -> Result<Option<Vec<String>>, Failure> {
        let user = &*self.uri.authority.userinfo.username;
        if self.broker.declare {
            may_declare(queue_with_no_such_argument(connection, stream).await).map_err(|error| {
                if reply_code(&error) == Some(403) { not_declared(user, stream) } else { unseen(error) }
            })?;
        }
        if is_there(queue_exists(connection, stream).await).map_err(unseen)? {
            declare(link, publisher, (NAME, stream, user), no_stream(stream)).await?;
            return Ok(Some(compare(connection, &self.stream.settings, stream).await.map_err(unseen)?));
        }
        if !self.broker.declare {
            return Err(self.missing());
        }
        may_append(link, (NAME, stream, user)).await?;
        Ok(None)
    }
}

fn unseen(error: lapin::Error) -> Failure {
    Failure::Unavailable(format!("the stream cannot be looked at with AMQP 0-9-1: {error}"))
}
