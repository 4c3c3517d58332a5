//! What appending needs of a node, for `settled check --connect`: as a session finds it, but nothing is created.

use lapin::tcp::RustlsConnector;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};
use settled_pipeline::health::Outage;
use settled_pipeline::precondition::{Precondition, Verdict};

use super::compare::compare;
use super::declare::{declare, may_append, missing, no_stream, not_declared};
use super::link::Link;
use super::log::{Node, outage};
use super::login::{Failure, Unmet};
use super::settings::StreamSettings;
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
    (broker, stream): (&BrokerSettings, &StreamSettings),
    (uri, tls): (AMQPUri, Option<RustlsConnector>),
    outlet: &Outlet,
) -> (String, Result<Probed, Outage>) {
    let node = Node { broker, stream, uri, tls };
    let target = target(&node.of_streams());
    let found = match node.connect(NAME).await {
        Ok((mut link, _)) => node.answered(node.examine(&mut link)).await,
        Err(outage) => return (target, Err(outage)),
    };
    let what = format!("stream {}", stream.name);
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
    async fn examine(&self, link: &mut Link) -> Result<Seen, Failure> {
        let properties = ConnectionProperties::default().with_connection_name(NAME.into());
        let connection = open(self.uri.clone(), properties, self.tls.clone()).await.map_err(unseen)?;
        let seen = self.look(link, &connection).await;
        let _ = connection.close(200, "checked".into()).await;
        seen
    }

    /// Looks with AMQP 0-9-1 at what the stream protocol does not tell.
    async fn look(&self, link: &mut Link, connection: &Connection) -> Result<Seen, Failure> {
        let (stream, user) = (&self.stream.name, &self.uri.authority.userinfo.username);
        if self.broker.declare {
            may_declare(queue_with_no_such_argument(connection, stream).await).map_err(|error| {
                if reply_code(&error) == Some(403) { not_declared(user, stream) } else { unseen(error) }
            })?;
        }
        let publisher = (NAME, stream.as_str(), user.as_str());
        let seen = |detail: &str, dangers| Seen { detail: detail.to_owned(), dangers };
        if is_there(queue_exists(connection, stream).await).map_err(unseen)? {
            declare(link, publisher, no_stream(stream)).await?;
            return Ok(seen("exists", compare(connection, self.stream).await.map_err(unseen)?));
        }
        if !self.broker.declare {
            return Err(missing(self.stream, &self.uri.vhost));
        }
        may_append(link, publisher).await?;
        Ok(seen("does not exist yet: `settled run` declares it", Vec::new()))
    }
}

fn unseen(error: lapin::Error) -> Failure {
    Failure::Unavailable(format!("the stream cannot be looked at with AMQP 0-9-1: {error}"))
}
