//! Publishes tasks the way any publisher should: persistent, mandatory, and done only when the
//! broker has confirmed that it has them.

use std::collections::VecDeque;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};

use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind, PublisherConfirm};
use tokio::time::timeout;

use crate::contract::Properties;

/// How many messages may be unconfirmed at a time.
const WINDOW: usize = 512;

/// Where tasks are published.
#[derive(Clone)]
pub struct Target {
    /// The brokers; the first that can be reached is used.
    pub uris: Vec<String>,
    /// The exchange for tasks.
    pub exchange: String,
    /// How long a connection, and then each confirm, may take.
    pub timeout: Duration,
}

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

/// Why a message is not known to be with the broker.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// No broker of the list could be reached.
    #[error("no broker can be reached: {}", .0.join("; "))]
    Unreachable(Vec<String>),
    /// The connection broke, or the broker closed it.
    #[error("the broker's connection was lost: {0}")]
    Lost(#[from] lapin::Error),
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
    timeout: Duration,
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
    pub async fn connect(target: &Target) -> Result<Self, PublishError> {
        let mut tried = Vec::new();
        for uri in &target.uris {
            let reason = match timeout(target.timeout, connect(uri)).await {
                Ok(Ok(connection)) => return Self::open(connection, target).await,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {:?}", target.timeout),
            };
            tried.push(format!("{}: {reason}", address(uri)));
        }
        Err(PublishError::Unreachable(tried))
    }

    async fn open(connection: Connection, target: &Target) -> Result<Self, PublishError> {
        let channel = connection.create_channel().await?;
        let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let exchange = target.exchange.clone();
        channel
            .exchange_declare(exchange.as_str().into(), ExchangeKind::Topic, passive, FieldTable::default())
            .await
            .map_err(|error| PublishError::NoExchange { exchange: exchange.clone(), error })?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { connection, channel, exchange, timeout: target.timeout })
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
        let key = message.routing_key.as_str().into();
        let sent =
            self.channel.basic_publish(exchange, key, options, &message.body, amqp_properties(&message.properties));
        Ok(timeout(self.timeout, sent).await.map_err(|_| PublishError::Slow(self.timeout))??)
    }

    async fn settle(&self, message: &Outgoing, confirm: PublisherConfirm) -> Result<(), PublishError> {
        match timeout(self.timeout, confirm).await.map_err(|_| PublishError::Slow(self.timeout))?? {
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
        let _ = timeout(self.timeout, self.connection.close(200, "done".into())).await;
    }
}

async fn connect(uri: &str) -> Result<Connection, lapin::Error> {
    Connection::connect(uri, ConnectionProperties::default().with_connection_name("settled command line".into())).await
}

/// Host and port of a URI: what may be shown of it.
fn address(uri: &str) -> String {
    match uri.parse::<AMQPUri>() {
        Ok(uri) => format!("{}:{}", uri.authority.host, uri.authority.port),
        Err(_) => "an AMQP URI that can't be read".to_owned(),
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
        (&properties.message_id, BasicProperties::with_message_id),
        (&properties.publisher, BasicProperties::with_app_id),
        (&properties.reply_to, BasicProperties::with_reply_to),
        (&properties.correlation_id, BasicProperties::with_correlation_id),
    ];
    for (value, set) in setters {
        if let Some(value) = value {
            amqp = set(amqp, value.as_str().into());
        }
    }
    match properties.timestamp {
        Some(seconds) => amqp.with_timestamp(seconds),
        None => amqp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_shows_no_password() {
        assert_eq!(address("amqp://user:secret@broker.example:5673/%2f"), "broker.example:5673");
        assert!(!address("amqp//user:secret@x").contains("secret"));
    }
}
