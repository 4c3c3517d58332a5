//! What the daemon needs of its broker: one list for the start of a session and for `settled check --connect`.
//!
//! A session fulfils it: it declares, binds and consumes. `check` examines it and changes nothing. It uses requests that
//! the broker refuses for lack of a permission (403) before it looks at what is wrong with them otherwise: a declaration
//! with an impossible argument (406), the removal of a binding that nobody has.

use lapin::options::{BasicConsumeOptions, ExchangeDeclareOptions, ExchangeUnbindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ExchangeKind};
use settled_pipeline::precondition::{Precondition, Verdict};

use crate::connection::{declare_exchange, reply_code};
use crate::outlet::Outlet;
use crate::settings::BrokerSettings;
use crate::topology::{self, exchange_exists, is_there, name, queue_exists};

/// A name that nobody has given to a queue or a binding.
const NOBODY: &str = "settled.check.4f0f9a7e-5c1b-4c39-9f0b-1d7a2a6f3b51";

/// Something that the daemon does with the broker.
#[derive(Clone, Copy, Debug)]
enum Need<'a> {
    Exchange(&'a str, Kind),
    DeadLetterQueue(&'a str),
    TaskQueue(&'a str),
    Binding { queue: &'a str, exchange: &'a str, key: &'static str },
    Consume(&'a str),
    Publish(&'a str),
    Reply,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Topic,
    Fanout,
}

impl From<Kind> for ExchangeKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Topic => Self::Topic,
            Kind::Fanout => Self::Fanout,
        }
    }
}

/// Returns what is needed, in the order in which it is declared; and how bad it is if it cannot be had.
fn needs<'a>(
    settings: &'a BrokerSettings,
    Outlet { exchange: events_exchange, .. }: &'a Outlet,
) -> Vec<(Need<'a>, Verdict)> {
    let BrokerSettings { exchange, queue, dead_letter_exchange, dead_letter_queue, declare, .. } = settings;
    // Without leave to declare, the daemon needs no more than its queue.
    let declared = if *declare { Verdict::Failed } else { Verdict::Impaired };
    let mut needs = vec![
        (Need::Exchange(exchange, Kind::Topic), declared),
        (Need::Exchange(events_exchange, Kind::Topic), declared),
        (Need::Exchange(dead_letter_exchange, Kind::Fanout), declared),
        (Need::DeadLetterQueue(dead_letter_queue), declared),
        (Need::TaskQueue(queue), Verdict::Failed),
    ];
    if *declare {
        // A fanout exchange ignores the key; an exchange that somebody declared as a topic needs this one.
        let dead = Need::Binding { queue: dead_letter_queue, exchange: dead_letter_exchange, key: "#" };
        needs.push((dead, Verdict::Failed));
        needs.push((Need::Binding { queue, exchange, key: "task.#" }, Verdict::Failed));
    }
    needs.push((Need::Consume(queue), Verdict::Failed));
    if settings.take_dead_letters {
        needs.push((Need::Consume(dead_letter_queue), Verdict::Impaired));
    }
    needs.extend([(Need::Publish(events_exchange), Verdict::Impaired), (Need::Reply, Verdict::Impaired)]);
    needs
}

/// Fulfils every need of a session. Returns those that the broker forbids (403). A need that depends on one of those,
/// as a binding does on its exchange, ends it.
///
/// # Errors
/// Any other error while nothing is forbidden, because the next need could not be judged.
pub(crate) async fn fulfil(
    connection: &Connection,
    settings: &BrokerSettings,
    outlet: &Outlet,
) -> lapin::Result<Vec<Precondition>> {
    let mut unmet = Vec::new();
    for (need, verdict) in needs(settings, outlet) {
        let Err(error) = need.fulfil(connection, settings).await else { continue };
        match forbidden(need, verdict, &error, settings, outlet) {
            Some(precondition) => unmet.push(precondition),
            None if unmet.is_empty() => return Err(error),
            None => break,
        }
    }
    Ok(unmet)
}

/// Returns every need and whether it can be fulfilled.
pub(crate) async fn examine(
    connection: &Connection,
    settings: &BrokerSettings,
    outlet: &Outlet,
) -> lapin::Result<Vec<Precondition>> {
    let mut found = Vec::new();
    for (need, verdict) in needs(settings, outlet) {
        found.push(match need.examine(connection, settings).await {
            Ok(Seen::Good(detail)) => Precondition::ok(need.what(), detail),
            Ok(Seen::Missing) => Precondition {
                what: need.what(),
                verdict,
                detail: "does not exist, and broker.declare is false".to_owned(),
                remedy: Some("declare it, or set broker.declare = true".to_owned()),
            },
            Err(error) => forbidden(need, verdict, &error, settings, outlet).ok_or(error)?,
        });
    }
    Ok(found)
}

/// Returns the precondition that an error says is not met, if it is one of permissions.
fn forbidden(
    need: Need<'_>,
    verdict: Verdict,
    error: &lapin::Error,
    settings: &BrokerSettings,
    outlet: &Outlet,
) -> Option<Precondition> {
    (reply_code(error) == Some(403)).then(|| Precondition {
        what: need.what(),
        verdict,
        detail: error.to_string(),
        remedy: Some(permissions(settings, outlet)),
    })
}

/// Returns the command that grants the connection's user what the daemon needs.
pub(crate) fn permissions(settings: &BrokerSettings, outlet: &Outlet) -> String {
    let BrokerSettings { exchange, queue, dead_letter_exchange, dead_letter_queue, .. } = settings;
    let names = [exchange, &outlet.exchange, dead_letter_exchange, queue, dead_letter_queue];
    let names = names.into_iter().chain(outlet.stream.as_ref().map(|stream| &stream.settings.name));
    let mut names: Vec<String> = names.map(|name| name.replace('.', "\\.")).collect();
    if let (Some(stream), Some(pattern)) = (&outlet.stream, names.last())
        && stream.is_super()
    {
        names.push(format!("{pattern}-[0-9]+"));
    }
    let names = names.join("|");
    let endpoint = settings.uris.first().map(|uri| uri.endpoint()).unwrap_or_default();
    let configure = if settings.declare { format!("^({names})$") } else { "^$".to_owned() };
    format!(
        "grant at least: rabbitmqctl set_permissions -p '{}' '{}' '{configure}' '^({names}|amq\\.default)$' '^({names})$'",
        endpoint.vhost, endpoint.authority.userinfo.username
    )
}

/// What `check` sees of a need.
enum Seen {
    Good(String),
    Missing,
}

impl Need<'_> {
    fn what(self) -> String {
        match self {
            Self::Exchange(name, _) => format!("exchange {name}"),
            Self::DeadLetterQueue(name) | Self::TaskQueue(name) => format!("queue {name}"),
            Self::Binding { queue, exchange, .. } => format!("binding of {queue} to {exchange}"),
            Self::Consume(queue) => format!("consume {queue}"),
            Self::Publish(exchange) => format!("publish to {exchange}"),
            Self::Reply => "replies".to_owned(),
        }
    }

    async fn fulfil(self, connection: &Connection, settings: &BrokerSettings) -> lapin::Result<()> {
        match self {
            Self::TaskQueue(queue) if !settings.declare => queue_exists(connection, queue).await.map(drop),
            Self::Exchange(..) | Self::DeadLetterQueue(_) if !settings.declare => Ok(()),
            Self::Exchange(name, kind) => declare_exchange(connection, name, kind.into()).await,
            Self::DeadLetterQueue(name) => topology::declare_dead_letter_queue(connection, name).await,
            Self::TaskQueue(name) => {
                topology::declare_queue(connection, name, topology::task_queue_arguments(settings)).await
            }
            Self::Binding { queue, exchange, key } => topology::bind(connection, queue, exchange, key).await,
            // Whoever consumes or replies finds out by doing so.
            Self::Consume(_) | Self::Reply => Ok(()),
            Self::Publish(exchange) => may_write(connection, exchange, &settings.exchange).await,
        }
    }

    async fn examine(self, connection: &Connection, settings: &BrokerSettings) -> lapin::Result<Seen> {
        let good = |detail: &str| Ok(Seen::Good(detail.to_owned()));
        let to_be_declared = || good("does not exist yet: `settled run` declares it");
        match self {
            Self::Exchange(exchange, kind) => {
                match (is_there(exchange_exists(connection, exchange).await)?, settings.declare) {
                    (false, false) => Ok(Seen::Missing),
                    (true, false) => good("exists"),
                    (false, true) => {
                        may_declare_exchange(connection, exchange, kind.into()).await?;
                        to_be_declared()
                    }
                    (true, true) => {
                        declare_exchange(connection, exchange, kind.into()).await?;
                        good("exists")
                    }
                }
            }
            Self::DeadLetterQueue(queue) | Self::TaskQueue(queue) => {
                match (is_there(queue_exists(connection, queue).await)?, settings.declare) {
                    (false, false) => Ok(Seen::Missing),
                    (true, false) => good("exists"),
                    (exists, true) => {
                        if exists {
                            self.fulfil(connection, settings).await?;
                            return good("exists");
                        }
                        may_declare(queue_with_no_such_argument(connection, queue).await)?;
                        // A queue's dead-letter exchange is one that its owner may write to.
                        if let Self::TaskQueue(_) = self {
                            may_write(connection, &settings.dead_letter_exchange, &settings.exchange).await?;
                        }
                        to_be_declared()
                    }
                }
            }
            Self::Binding { queue, exchange, .. } => {
                may_bind(connection, queue, exchange).await?;
                good("permitted")
            }
            Self::Consume(queue) => {
                may_consume(connection, queue).await?;
                good("permitted")
            }
            Self::Publish(exchange) => {
                may_write(connection, exchange, &settings.exchange).await?;
                good("permitted")
            }
            Self::Reply => {
                may_reply(connection).await?;
                good("permitted")
            }
        }
    }
}

/// An argument that no declaration may have: a number instead of an exchange's name.
fn impossible(argument: &'static str) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert(argument.into(), AMQPValue::LongInt(1));
    arguments
}

/// Whether the user may declare the exchange.
pub(crate) async fn may_declare_exchange(
    connection: &Connection,
    exchange: &str,
    kind: ExchangeKind,
) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    may_declare(channel.exchange_declare(name(exchange), kind, options, impossible("alternate-exchange")).await)
}

pub(crate) async fn queue_with_no_such_argument(connection: &Connection, queue: &str) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    let arguments = impossible("x-dead-letter-exchange");
    channel.queue_declare(name(queue), QueueDeclareOptions::durable(), arguments).await.map(drop)
}

/// A 406 comes after the check of permissions.
pub(crate) fn may_declare(declared: lapin::Result<()>) -> lapin::Result<()> {
    declared.or_else(|error| if reply_code(&error) == Some(406) { Ok(()) } else { Err(error) })
}

/// What is missing (404) is looked for after the check of permissions.
fn permitted(result: lapin::Result<()>) -> lapin::Result<()> {
    result.or_else(|error| if matches!(reply_code(&error), Some(404 | 406)) { Ok(()) } else { Err(error) })
}

/// Whether the user may write to the queue and read the exchange.
pub(crate) async fn may_bind(connection: &Connection, queue: &str, exchange: &str) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    permitted(channel.queue_unbind(name(queue), name(exchange), NOBODY.into(), FieldTable::default()).await)
}

/// Whether the user may write to the exchange. `readable` is one that is read anyhow.
async fn may_write(connection: &Connection, exchange: &str, readable: &str) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    let options = ExchangeUnbindOptions::default();
    let (to, from) = (name(exchange), name(readable));
    let unbound = channel.exchange_unbind(to, from, NOBODY.into(), options, FieldTable::default()).await;
    match unbound {
        // It is about the other exchange, which only a binding has to read.
        Err(error) if reply_code(&error) == Some(403) && error.to_string().contains(&format!("'{readable}'")) => Ok(()),
        unbound => permitted(unbound),
    }
}

/// Whether the user may read the queue. The consumer's argument is refused, so that it gets no message.
async fn may_consume(connection: &Connection, queue: &str) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-priority".into(), AMQPValue::LongString("none".into()));
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(name(queue), NOBODY.into(), options, arguments).await;
    permitted(consumer.map(drop))
}

/// Whether the user may write to the default exchange, by which replies reach their queues. Nothing is published: during
/// an alarm the broker would read nothing more from the connection.
async fn may_reply(connection: &Connection) -> lapin::Result<()> {
    const PERMITTED: &str = "not permitted on the default exchange";
    let channel = connection.create_channel().await?;
    let (options, none) = (ExchangeUnbindOptions::default(), FieldTable::default());
    match channel.exchange_unbind("".into(), NOBODY.into(), NOBODY.into(), options, none).await {
        // Nobody may bind it; that is looked at behind the user's permission.
        Err(error) if error.to_string().contains(PERMITTED) => Ok(()),
        unbound => permitted(unbound),
    }
}
