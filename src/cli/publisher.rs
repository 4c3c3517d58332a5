//! Publishes tasks the way any publisher should: persistent, mandatory, and done only when the
//! broker has confirmed that it has them.

use std::collections::VecDeque;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::protocol::AMQPErrorKind;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ErrorKind, ExchangeKind, PublisherConfirm};
use tokio::time::timeout;

use crate::broker::{Connector, headers};
use crate::config::Config;
use crate::contract::{Bytes, Properties};
use crate::intake::BrokerSettings;

/// How many messages may be unconfirmed at a time.
const WINDOW: usize = 512;

/// How long the broker may take to confirm one. A quorum queue that lost its majority confirms
/// nothing.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);

/// A message to publish.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The exchange, if it is another one than that of the tasks.
    pub exchange: Option<String>,
    /// Its routing key.
    pub routing_key: String,
    /// Its body.
    pub body: Vec<u8>,
    /// What goes beside it.
    pub properties: Properties,
}

/// Why a message is not known to be with the broker. The message is complete: there is no source
/// to be added to it.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// No broker of the list could be reached.
    #[error("no broker can be reached: {}", .0.join("; "))]
    Unreachable(Vec<String>),
    /// The broker closed the channel because of a message: the user may not publish it, or it is too
    /// large.
    #[error("the broker refuses the message: {0}")]
    Denied(String),
    /// The connection broke, or the broker closed it.
    #[error("the broker's connection was lost: {0}")]
    Lost(lapin::Error),
    /// There is no such exchange.
    #[error("the broker has no exchange `{exchange}`: {error}")]
    NoExchange {
        /// The exchange.
        exchange: String,
        /// What the broker said.
        error: lapin::Error,
    },
    /// The broker took too long.
    #[error("no confirm from the broker within {0:?}")]
    Slow(Duration),
    /// No queue takes the message.
    #[error("no queue takes `{routing_key}` from exchange `{exchange}`: {reply}")]
    Returned {
        /// The exchange.
        exchange: String,
        /// The routing key.
        routing_key: String,
        /// What the broker said.
        reply: String,
    },
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
    /// Whether the same may work later, unchanged.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Lost(_) | Self::Slow(_) | Self::Refused)
    }
}

/// A connection with publisher confirms.
pub struct Publisher {
    connection: Connection,
    channel: Channel,
    exchange: String,
    /// The broker's user of the connection.
    user: String,
    /// Whether messages say so.
    signs: bool,
}

/// How far publishing came: messages are confirmed in the order in which they were given.
#[derive(Debug)]
pub struct Published {
    /// So many of the first are with the broker.
    pub confirmed: usize,
    /// Why not all of them are.
    pub error: Option<PublishError>,
}

impl Publisher {
    /// Connects to the first broker that can be reached. Where publishers are verified, messages have the
    /// connection's user as their `user_id`.
    ///
    /// # Errors
    ///
    /// If there is none, or it has no such exchange.
    pub async fn connect(config: &Config) -> Result<Self, PublishError> {
        let (broker, signs) = (&config.broker, config.needs_user_id());
        let connector = Connector::new(broker.clone(), "settled publish");
        let mut tried = Vec::new();
        for _ in &broker.uris {
            match connector.connect().await {
                Ok(connection) => return Self::open(connection, broker, signs).await,
                Err(error) => tried.push(error.to_string()),
            }
        }
        Err(PublishError::Unreachable(tried))
    }

    async fn open(connection: Connection, broker: &BrokerSettings, signs: bool) -> Result<Self, PublishError> {
        let channel = connection.create_channel().await?;
        let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let exchange = broker.exchange.clone();
        channel
            .exchange_declare(exchange.as_str().into(), ExchangeKind::Topic, passive, FieldTable::default())
            .await
            .map_err(|error| PublishError::NoExchange { exchange: exchange.clone(), error })?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        // lapin doesn't tell which of the URIs it is: those of one cluster have one user.
        let user = broker.uris.first().map(|uri| uri.endpoint().authority.userinfo.username).unwrap_or_default();
        Ok(Self { connection, channel, exchange, user, signs })
    }

    /// The broker's user who publishes.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Publishes messages in their order and waits until each is confirmed; stops at the first
    /// that isn't. `confirmed` is told of each that is.
    pub async fn publish<'a>(
        &self,
        messages: impl IntoIterator<Item = &'a Outgoing>,
        mut confirmed: impl FnMut(),
    ) -> Published {
        let mut published = Published { confirmed: 0, error: None };
        let mut unconfirmed = VecDeque::with_capacity(WINDOW);
        let mut messages = messages.into_iter();
        loop {
            let step = match messages.next() {
                Some(message) if unconfirmed.len() < WINDOW => {
                    self.send(message).await.map(|confirm| unconfirmed.push_back((message, confirm)))
                }
                next => {
                    let Some((message, confirm)) = unconfirmed.pop_front() else { return published };
                    let settled = self.settle(message, confirm).await.map(|()| {
                        published.confirmed += 1;
                        confirmed();
                    });
                    match (settled, next) {
                        (Ok(()), Some(message)) => {
                            self.send(message).await.map(|confirm| unconfirmed.push_back((message, confirm)))
                        }
                        (settled, _) => settled,
                    }
                }
            };
            if let Err(error) = step {
                published.error = Some(self.why(error, &mut unconfirmed, &mut published, &mut confirmed).await);
                return published;
            }
        }
    }

    /// Why publishing ended with `error`. A message that the broker refuses closes the channel, which those behind it find
    /// out first; the confirm of the refused one says more.
    async fn why(
        &self,
        mut error: PublishError,
        unconfirmed: &mut VecDeque<(&Outgoing, PublisherConfirm)>,
        published: &mut Published,
        confirmed: &mut impl FnMut(),
    ) -> PublishError {
        while let (PublishError::Lost(_), Some((message, confirm))) = (&error, unconfirmed.pop_front()) {
            match self.settle(message, confirm).await {
                Ok(()) => {
                    published.confirmed += 1;
                    confirmed();
                }
                Err(first) => {
                    error = first;
                    break;
                }
            }
        }
        error
    }

    async fn send(&self, message: &Outgoing) -> Result<PublisherConfirm, PublishError> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let properties = &message.properties;
        let exchange = match &message.exchange {
            Some(exchange) => as_it_came(properties, "exchange", Some(exchange)).unwrap_or_default(),
            None => self.exchange.as_str().into(),
        };
        let key = as_it_came(properties, "routing_key", Some(&message.routing_key)).unwrap_or_default();
        let mut amqp = amqp_properties(properties, &self.user);
        if self.signs {
            amqp = amqp.with_user_id(short(&self.user));
        }
        let sent = self.channel.basic_publish(exchange, key, options, &message.body, amqp);
        Ok(timeout(CONFIRM_TIMEOUT, sent).await.map_err(|_| PublishError::Slow(CONFIRM_TIMEOUT))??)
    }

    async fn settle(&self, message: &Outgoing, confirm: PublisherConfirm) -> Result<(), PublishError> {
        match timeout(CONFIRM_TIMEOUT, confirm).await.map_err(|_| PublishError::Slow(CONFIRM_TIMEOUT))?? {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => Err(PublishError::Returned {
                exchange: message.exchange.as_ref().unwrap_or(&self.exchange).clone(),
                routing_key: message.routing_key.clone(),
                reply: returned.reply_text.to_string(),
            }),
            Confirmation::Nack(None) | Confirmation::NotRequested => Err(PublishError::Refused),
        }
    }

    /// Says goodbye. What is confirmed is safe without it.
    pub async fn close(self) {
        let _ = timeout(CONFIRM_TIMEOUT, self.connection.close(200, "done".into())).await;
    }
}

/// The message's own properties, but for what the broker wouldn't take from `user` and for what would
/// keep it from arriving: a message is published persistent and without an expiration, and a `user_id`
/// other than the connection's is left out.
fn amqp_properties(properties: &Properties, user: &str) -> BasicProperties {
    const PERSISTENT: u8 = 2;
    let mut amqp = BasicProperties::default().with_delivery_mode(PERSISTENT);
    let evidence = properties.evidence.as_deref();
    let headers = headers(properties);
    if !headers.inner().is_empty() {
        amqp = amqp.with_headers(headers);
    }
    let app_id = if properties.user_id.is_some() { &properties.app_id } else { &properties.publisher };
    let user_id = properties.user_id.as_deref().filter(|name| *name == user);
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
        if let Some(text) = as_it_came(properties, name, text) {
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
            if !is_the_brokers(name.as_str()) {
                table.insert(name.clone(), value.clone());
            }
        }
    }
    table
}

/// Whether the broker writes this header itself, about what has become of the message so far.
fn is_the_brokers(header: &str) -> bool {
    let prefixes = ["x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count"];
    prefixes.iter().any(|prefix| header.starts_with(prefix))
}

/// A property with the NULs that it came with, for which the stored text has replacement characters.
fn as_it_came(properties: &Properties, name: &str, text: Option<&str>) -> Option<ShortString> {
    let exact = properties.evidence.as_ref().and_then(|evidence| evidence.with_nul.get(name));
    match exact.and_then(|Bytes(bytes)| std::str::from_utf8(bytes).ok()) {
        Some(exact) if name != "user_id" => Some(short(exact)),
        _ => text.map(short),
    }
}

/// The longest property, in bytes.
pub(super) const MAX_PROPERTY_BYTES: usize = 255;

/// A property as it travels. What came with NULs is longer than it was since they were replaced:
/// it loses its end, which was theirs.
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
