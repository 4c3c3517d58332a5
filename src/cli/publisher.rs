//! Publishes tasks the way any publisher should: persistent, mandatory, and done only when the
//! broker has confirmed that it has them.

use std::collections::VecDeque;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};

use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ExchangeKind, PublisherConfirm};
use tokio::time::timeout;

use crate::broker::Connector;
use crate::contract::Properties;
use crate::intake::BrokerSettings;

/// How many messages may be unconfirmed at a time.
const WINDOW: usize = 512;

/// How long the broker may take to confirm one. A quorum queue that lost its majority confirms
/// nothing.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);

/// A message to publish.
#[derive(Clone, Debug)]
pub struct Outgoing {
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
        Self::Lost(error)
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
    /// Connects to the first broker that can be reached.
    ///
    /// # Errors
    ///
    /// If there is none, or it has no such exchange.
    pub async fn connect(broker: &BrokerSettings) -> Result<Self, PublishError> {
        let connector = Connector::new(broker.clone(), "settled publish");
        let mut tried = Vec::new();
        for _ in &broker.uris {
            match connector.connect().await {
                Ok(connection) => return Self::open(connection, broker).await,
                Err(error) => tried.push(error.to_string()),
            }
        }
        Err(PublishError::Unreachable(tried))
    }

    async fn open(connection: Connection, broker: &BrokerSettings) -> Result<Self, PublishError> {
        let channel = connection.create_channel().await?;
        let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let exchange = broker.exchange.clone();
        channel
            .exchange_declare(exchange.as_str().into(), ExchangeKind::Topic, passive, FieldTable::default())
            .await
            .map_err(|error| PublishError::NoExchange { exchange: exchange.clone(), error })?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { connection, channel, exchange })
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
                published.error = Some(error);
                return published;
            }
        }
    }

    async fn send(&self, message: &Outgoing) -> Result<PublisherConfirm, PublishError> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let exchange = self.exchange.as_str().into();
        let key = short(&message.routing_key);
        let sent =
            self.channel.basic_publish(exchange, key, options, &message.body, amqp_properties(&message.properties));
        Ok(timeout(CONFIRM_TIMEOUT, sent).await.map_err(|_| PublishError::Slow(CONFIRM_TIMEOUT))??)
    }

    async fn settle(&self, message: &Outgoing, confirm: PublisherConfirm) -> Result<(), PublishError> {
        match timeout(CONFIRM_TIMEOUT, confirm).await.map_err(|_| PublishError::Slow(CONFIRM_TIMEOUT))?? {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => Err(PublishError::Returned {
                exchange: self.exchange.clone(),
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

fn amqp_properties(properties: &Properties) -> BasicProperties {
    const PERSISTENT: u8 = 2;
    let mut amqp = BasicProperties::default().with_delivery_mode(PERSISTENT);
    let mut headers = FieldTable::default();
    for (name, value) in [("traceparent", &properties.traceparent), ("tracestate", &properties.tracestate)] {
        if let Some(value) = value {
            headers.insert(name.into(), AMQPValue::LongString(value.as_str().into()));
        }
    }
    if !headers.inner().is_empty() {
        amqp = amqp.with_headers(headers);
    }
    let setters = [
        (&properties.content_type, BasicProperties::with_content_type as fn(BasicProperties, _) -> BasicProperties),
        (&properties.publisher, BasicProperties::with_app_id),
        (&properties.reply_to, BasicProperties::with_reply_to),
        (&properties.correlation_id, BasicProperties::with_correlation_id),
    ];
    for (value, set) in setters {
        if let Some(value) = value {
            amqp = set(amqp, short(value));
        }
    }
    if let Some(message_id) = &properties.message_id {
        amqp = message_id.with_text(|text| amqp.with_message_id(short(text)));
    }
    match properties.timestamp {
        Some(seconds) => amqp.with_timestamp(seconds),
        None => amqp,
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
