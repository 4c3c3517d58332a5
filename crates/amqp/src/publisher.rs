//! Publishes tasks, and dead letters again, for the command line: persistent and mandatory, with publisher confirms.

use std::borrow::Borrow;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use lapin::options::BasicPublishOptions;
use lapin::protocol::AMQPErrorKind;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ErrorKind};
use settled_core::contract::{Bytes, Properties};
use tokio::time::timeout;

use crate::connection::{self, Connector, confirm_channel};
use crate::settings::BrokerSettings;
use crate::{headers, topology};

/// The most unconfirmed messages at a time.
const WINDOW: usize = 512;

/// Above this size of the bodies of unconfirmed messages, in bytes, no further one is published.
const WINDOW_BYTES: usize = 8 << 20;

/// How long the broker may take to confirm a message. A quorum queue without a majority confirms nothing.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);

/// A message to publish.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The exchange; `None` is that of the tasks.
    pub exchange: Option<String>,
    /// The routing key.
    pub routing_key: String,
    /// The body, as it is published.
    pub body: Vec<u8>,
    /// Of them are published those that the broker takes from a publisher.
    pub properties: Properties,
}

/// Why a message was not confirmed. The text includes that of the causes, so there is no source.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The errors of all brokers in the list.
    #[error("no broker can be reached: {}", .0.join("; "))]
    Unreachable(Vec<String>),
    /// The broker answers and refuses the login.
    #[error("{0}")]
    Login(String),
    /// The broker closed the channel because of a message: the user may not publish it, or it is too large.
    #[error("the broker refuses the message: {0}")]
    Denied(String),
    /// It is unknown whether the broker has taken the message.
    #[error("the broker's connection was lost: {0}")]
    Lost(lapin::Error),
    /// The exchange for tasks cannot be published to.
    #[error("the broker has no exchange `{0}`: {1}")]
    NoExchange(String, lapin::Error),
    /// The broker took longer than a message may take.
    #[error("no confirm from the broker within {0:?}")]
    Slow(Duration),
    /// The message is mandatory, and no queue is bound for it.
    #[error("no queue takes `{routing_key}` from exchange `{exchange}`: {reply}")]
    #[expect(missing_docs, reason = "the message says it")]
    Returned { exchange: String, routing_key: String, reply: String },
    /// The queue could not store the message.
    #[error("the broker refused the message (basic.nack)")]
    Refused,
}

impl From<lapin::Error> for PublishError {
    fn from(error: lapin::Error) -> Self {
        match error.kind() {
            ErrorKind::ProtocolError(refusal) if matches!(refusal.kind(), AMQPErrorKind::Soft(_)) => {
                Self::Denied(refusal.get_message().to_string())
            }
            _ => Self::Lost(error),
        }
    }
}

impl PublishError {
    /// Returns whether the broker refuses the login.
    pub const fn is_refused(&self) -> bool {
        matches!(self, Self::Login(_))
    }

    /// Returns whether the same message may be confirmed later.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Lost(_) | Self::Slow(_) | Self::Refused)
    }
}

/// A connection with publisher confirms.
#[derive(Debug)]
pub struct Publisher {
    connection: Connection,
    channel: Channel,
    exchange: String,
    user: String,
    /// Messages get the connection's user as their `user_id`.
    sets_user_id: bool,
}

/// How far the broker has confirmed messages.
#[derive(Debug)]
pub struct Published {
    /// How many messages were confirmed, in the order in which they were given.
    pub confirmed: usize,
    /// Why not all of them were.
    pub error: Option<PublishError>,
}

impl Publisher {
    /// Connects to the first broker that can be reached. With `sets_user_id`, messages get the connection's user as
    /// their `user_id`, by which the daemon verifies publishers.
    ///
    /// # Errors
    ///
    /// If no broker can be reached, or the exchange does not exist.
    pub async fn connect(broker: &BrokerSettings, sets_user_id: bool) -> Result<Self, PublishError> {
        let connector = Connector::new(broker.clone(), "settled publish");
        let mut tried = Vec::new();
        for _ in &broker.uris {
            match connector.connect().await {
                Ok(connection) => return Self::open(connection, broker, sets_user_id).await,
                // All nodes of a cluster have the same users.
                Err(error) if error.is_refused() || error.is_configuration() => {
                    return Err(PublishError::Login(error.to_string()));
                }
                Err(error) => tried.push(error.to_string()),
            }
        }
        Err(PublishError::Unreachable(tried))
    }

    async fn open(connection: Connection, broker: &BrokerSettings, sets_user_id: bool) -> Result<Self, PublishError> {
        let exchange = broker.exchange.clone();
        topology::exchange_exists(&connection, &exchange)
            .await
            .map_err(|error| PublishError::NoExchange(exchange.clone(), error))?;
        let channel = confirm_channel(&connection).await?;
        // The connection may be to another of the URIs, but those of one cluster have the same user.
        let user = broker.uris.first().map(|uri| uri.endpoint().authority.userinfo.username).unwrap_or_default();
        Ok(Self { connection, channel, exchange, user, sets_user_id })
    }

    /// Returns the connection's user.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Publishes messages in their order and waits until each is confirmed. Stops at the first that isn't.
    pub async fn publish<M: Borrow<Outgoing>>(&self, messages: impl IntoIterator<Item = M>) -> Published {
        self.publish_each(messages, || ()).await
    }

    /// Like [`publish`](Self::publish), and calls `on_confirm` for each message that is confirmed, in their order. Takes
    /// the next message when there is room for it among the unconfirmed ones, so it keeps few of them in memory.
    pub async fn publish_each<M: Borrow<Outgoing>>(
        &self,
        messages: impl IntoIterator<Item = M>,
        mut on_confirm: impl FnMut(),
    ) -> Published {
        let mut messages = messages.into_iter().fuse();
        // Each is passed to lapin when it is first polled, and they are polled first in their order. The results come in
        // the same order: if the broker closes the channel because of a message, that one's error is the first.
        let mut window = FuturesOrdered::new();
        let (mut confirmed, mut bytes) = (0, 0);
        let error = loop {
            while window.len() < WINDOW && bytes < WINDOW_BYTES {
                let Some(message) = messages.next() else { break };
                let size = message.borrow().body.len();
                bytes += size;
                window.push_back(async move { (size, self.send(message.borrow()).await) });
            }
            match timeout(CONFIRM_TIMEOUT, window.next()).await {
                Ok(Some((size, Ok(())))) => {
                    bytes -= size;
                    confirmed += 1;
                    on_confirm();
                }
                Ok(Some((_, Err(error)))) => break Some(error),
                Ok(None) => break None,
                Err(_) => break Some(PublishError::Slow(CONFIRM_TIMEOUT)),
            }
        };
        Published { confirmed, error }
    }

    /// Publishes a message and waits until it is confirmed.
    async fn send(&self, message: &Outgoing) -> Result<(), PublishError> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let properties = &message.properties;
        let exchange = match &message.exchange {
            Some(exchange) => original(properties, "exchange", Some(exchange)).unwrap_or_default(),
            None => self.exchange.as_str().into(),
        };
        let key = original(properties, "routing_key", Some(&message.routing_key)).unwrap_or_default();
        let mut amqp = amqp_properties(properties, &self.user);
        if self.sets_user_id {
            amqp = amqp.with_user_id(short(&self.user));
        }
        match self.channel.basic_publish(exchange, key, options, &message.body, amqp).await?.await? {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => Err(PublishError::Returned {
                exchange: message.exchange.as_ref().unwrap_or(&self.exchange).clone(),
                routing_key: message.routing_key.clone(),
                reply: returned.reply_text.to_string(),
            }),
            Confirmation::Nack(None) | Confirmation::NotRequested => Err(PublishError::Refused),
        }
    }

    /// Closes the connection. Errors are ignored: what is confirmed is safe.
    pub async fn close(self) {
        connection::close(&self.connection, CONFIRM_TIMEOUT).await;
    }
}

/// Returns the message's AMQP properties. The message is persistent and has no expiration; a `user_id` other than
/// `user`, which the broker would refuse, is left out.
fn amqp_properties(properties: &Properties, user: &str) -> BasicProperties {
    const PERSISTENT: u8 = 2;
    let mut amqp = BasicProperties::default().with_delivery_mode(PERSISTENT);
    let evidence = properties.evidence.as_deref();
    let headers = headers(properties);
    if !headers.inner().is_empty() {
        amqp = amqp.with_headers(headers);
    }
    let app_id = if properties.user_id.is_some() { &properties.app_id } else { &properties.publisher };
    // The broker takes no other name; with it the daemon needs no rule to believe the publisher's.
    let user_id = properties.user_id.as_deref().or(properties.publisher.as_deref()).filter(|name| *name == user);
    let message_id = properties.message_id.as_ref().map(ToString::to_string);
    type Set = fn(BasicProperties, ShortString) -> BasicProperties;
    let texts: [(&str, Option<&str>, Set); 9] = [
        ("content_type", properties.content_type.as_deref(), BasicProperties::with_content_type),
        ("app_id", app_id.as_deref(), BasicProperties::with_app_id),
        ("reply_to", properties.reply_to.as_deref(), BasicProperties::with_reply_to),
        ("correlation_id", properties.correlation_id.as_deref(), BasicProperties::with_correlation_id),
        ("message_id", message_id.as_deref(), BasicProperties::with_message_id),
        ("content_encoding", properties.content_encoding(), BasicProperties::with_content_encoding),
        ("type", evidence.and_then(|evidence| evidence.kind.as_deref()), BasicProperties::with_type),
        ("cluster_id", evidence.and_then(|evidence| evidence.cluster_id.as_deref()), BasicProperties::with_cluster_id),
        ("user_id", user_id, BasicProperties::with_user_id),
    ];
    for (name, text, set) in texts {
        if let Some(text) = original(properties, name, text) {
            amqp = set(amqp, text);
        }
    }
    if let Some(priority) = evidence.and_then(|evidence| evidence.priority) {
        amqp = amqp.with_priority(priority);
    }
    match properties.timestamp {
        Some(seconds) => amqp.with_timestamp(seconds),
        None => amqp,
    }
}

fn headers(properties: &Properties) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in [("traceparent", &properties.traceparent), ("tracestate", &properties.tracestate)] {
        if let Some(value) = value {
            table.insert(name.into(), AMQPValue::LongString(value.as_str().into()));
        }
    }
    if let Some(evidence) = &properties.evidence {
        for (name, value) in &headers::table(evidence) {
            if !is_broker_header(name.as_str()) {
                table.insert(name.clone(), value.clone());
            }
        }
    }
    table
}

/// Returns whether the broker itself sets this header, as a record of dead-lettering and redelivery.
fn is_broker_header(header: &str) -> bool {
    let prefixes = ["x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count"];
    prefixes.iter().any(|prefix| header.starts_with(prefix))
}

/// Returns a property as it was received. The stored text has replacement characters for NULs.
fn original(properties: &Properties, name: &str, text: Option<&str>) -> Option<ShortString> {
    let exact = properties.evidence.as_ref().and_then(|evidence| evidence.with_nul.get(name));
    match exact.and_then(|Bytes(bytes)| std::str::from_utf8(bytes).ok()) {
        Some(exact) if name != "user_id" => Some(short(exact)),
        _ => text.map(short),
    }
}

/// The length limit of a short string in AMQP, in bytes.
pub const MAX_PROPERTY_BYTES: usize = 255;

/// Truncates a property to [`MAX_PROPERTY_BYTES`]. It can be longer after NULs were replaced by longer characters.
fn short(text: &str) -> ShortString {
    let mut end = text.len().min(MAX_PROPERTY_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_that_has_grown_too_long_is_cut_between_characters() {
        let grown = "\u{fffd}".repeat(100);
        assert_eq!(short(&grown).as_str(), &grown[..255]);
        let grown = format!("ab{grown}");
        assert_eq!(short(&grown).as_str(), &grown[..254]);
        assert_eq!(short("shop").as_str(), "shop");
    }
}
