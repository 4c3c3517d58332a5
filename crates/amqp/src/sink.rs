//! Publishes events and replies: RabbitMQ's side of [`settled_pipeline::outbox::Sink`].

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{maybe_done, poll_immediate};
use lapin::options::BasicPublishOptions;
use lapin::protocol::{AMQPError, AMQPErrorKind};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Connection, ErrorKind, Event, ExchangeKind, PublisherConfirm};
use parking_lot::Mutex;
use settled_pipeline::health::Outage;
use settled_pipeline::outbox::{Channel, Confirmation, EventSettings, Publication, Refusal, RelayError, Session, Sink};
use settled_pipeline::settings::Live;

use crate::connection::{self, Connector, confirm_channel, declare_exchange, within};
use crate::settings::BrokerSettings;

/// How long `close-ok` is waited for.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Opens sessions on the nodes of the settings in turn.
#[derive(Debug)]
pub struct RabbitSink {
    connector: Connector,
    declare: bool,
    /// How long opening the channels may take.
    set_up_limit: Duration,
    exchange: String,
    publishers: usize,
}

/// A connection with `events.publishers` channels.
#[derive(Debug)]
pub struct RabbitSession {
    connection: Connection,
    channels: Vec<RabbitChannel>,
    exchange: String,
    declare: bool,
    set_up_limit: Duration,
}

/// A channel in confirm mode.
#[derive(Debug)]
pub struct RabbitChannel {
    /// Replaced by [`Session::reopen`] after the broker has closed it.
    channel: Mutex<lapin::Channel>,
    exchange: String,
}

/// The confirm that is waited for, or the error because of which none will come.
#[derive(Debug)]
pub struct RabbitConfirm(Result<PublisherConfirm, Option<lapin::Error>>);

impl RabbitSink {
    /// Creates a sink for `events.exchange`, which each session declares if `broker.declare` is true.
    pub fn new(broker: impl Into<Live<BrokerSettings>>, events: &EventSettings) -> Self {
        let connector = Connector::new(broker, "settled relay");
        Self {
            declare: connector.settings.declare,
            set_up_limit: connector.settings.connect_timeout * 2,
            connector,
            exchange: events.exchange.clone(),
            publishers: events.publishers,
        }
    }

    async fn set_up(&self, connection: Connection) -> lapin::Result<RabbitSession> {
        if self.declare {
            declare_exchange(&connection, &self.exchange, ExchangeKind::Topic).await?;
        }
        let mut channels = Vec::with_capacity(self.publishers);
        for _ in 0..self.publishers {
            let channel = Mutex::new(confirm_channel(&connection).await?);
            channels.push(RabbitChannel { channel, exchange: self.exchange.clone() });
        }
        let (exchange, declare, set_up_limit) = (self.exchange.clone(), self.declare, self.set_up_limit);
        Ok(RabbitSession { connection, channels, exchange, declare, set_up_limit })
    }
}

impl Sink for RabbitSink {
    type Session = RabbitSession;

    async fn open(&self) -> Result<RabbitSession, Outage> {
        let connection = self.connector.connect().await?;
        // A broker that is starting accepts connections before it answers on channels.
        Ok(within(self.set_up_limit, self.set_up(connection)).await?.map_err(|error| error.to_string())?)
    }
}

impl Session for RabbitSession {
    type Channel = RabbitChannel;

    fn channels(&self) -> &[RabbitChannel] {
        &self.channels
    }

    async fn reopen(&self, channel: &RabbitChannel, refusal: &Refusal) -> Result<(), RelayError> {
        let reopen = async {
            if self.declare && refusal.is_not_found() {
                declare_exchange(&self.connection, &self.exchange, ExchangeKind::Topic).await?;
            }
            confirm_channel(&self.connection).await
        };
        // Without another channel the session is over, whatever the reason.
        let lost = |reason: String| RelayError::Broker(format!("no channel after a refusal: {reason}"));
        let reopened = within(self.set_up_limit, reopen).await.map_err(lost)?;
        *channel.channel.lock() = reopened.map_err(|error| lost(error.to_string()))?;
        Ok(())
    }

    fn watch(&self, tell: impl Fn(Option<String>) + Send + Sync) -> impl Future<Output = RelayError> + Send {
        let mut events = Box::pin(self.connection.events_listener());
        async move {
            // The listener is not told of what happened before it was added.
            if !self.connection.status().connected() {
                return RelayError::Broker("the connection is lost".to_owned());
            }
            while let Some(event) = events.next().await {
                match event {
                    Event::ConnectionBlocked(reason) => tell(Some(reason.to_string())),
                    Event::ConnectionUnblocked => tell(None),
                    // It concerns one channel; publishing on that channel returns it.
                    Event::Error(_) if self.connection.status().connected() => {}
                    Event::Error(error) => return broken(error),
                    _ => {}
                }
            }
            std::future::pending().await
        }
    }

    async fn close(self) {
        if self.connection.status().blocked() {
            return; // The broker reads nothing from it, `close` included.
        }
        connection::close(&self.connection, CLOSE_LIMIT).await;
    }
}

impl Channel for RabbitChannel {
    type Confirm = RabbitConfirm;

    /// Passes all messages to lapin before it waits for the first.
    async fn send_all(
        &self,
        messages: &[&Publication<'_>],
        confirms: &mut Vec<RabbitConfirm>,
    ) -> Result<(), RelayError> {
        let channel = self.channel.lock().clone();
        let send = |message| maybe_done(Box::pin(self.send(&channel, message)));
        let mut sent: Vec<_> = messages.iter().copied().map(send).collect();
        for sending in &mut sent {
            // One poll puts it into lapin's queue; the loop below waits until it is written.
            let _ = poll_immediate(&mut *sending).await;
        }
        for mut sending in sent {
            (&mut sending).await;
            confirms.extend(Pin::new(&mut sending).take_output().map(|sent| RabbitConfirm(sent.map_err(Some))));
        }
        Ok(())
    }
}

impl RabbitChannel {
    /// Publishes one message: an event to the exchange, a reply to its queue.
    async fn send(&self, channel: &lapin::Channel, message: &Publication<'_>) -> lapin::Result<PublisherConfirm> {
        let (exchange, key) = match &message.reply_to {
            Some(queue) => ("", &**queue),
            None => (&*self.exchange, &*message.routing_key),
        };
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let (exchange, key) = (exchange.into(), key.into());
        channel.basic_publish(exchange, key, options, &message.body, properties(message)).await
    }
}

impl Future for RabbitConfirm {
    type Output = Result<Confirmation, RelayError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let confirmation = match &mut self.0 {
            Ok(confirm) => ready!(Pin::new(confirm).poll(context)).map_err(broken)?,
            Err(error) => return Poll::Ready(Err(error.take().map_or(RelayError::NoConfirms, broken))),
        };
        let taken = confirmation.is_ack();
        if !taken && !confirmation.is_nack() {
            return Poll::Ready(Err(RelayError::NoConfirms));
        }
        // lapin may attach the returned message to another message's confirm, so its id is read from itself.
        let returned =
            confirmation.take_message().and_then(|m| m.properties.message_id().as_ref().map(ToString::to_string));
        Poll::Ready(Ok(Confirmation { taken, returned }))
    }
}

/// Sorts lapin's errors. AMQP's soft errors close one channel, because of a message published on it.
fn broken(error: lapin::Error) -> RelayError {
    const INTERNAL_ERROR: u16 = 541;
    match error.kind() {
        ErrorKind::ProtocolError(refusal) if matches!(refusal.kind(), AMQPErrorKind::Soft(_)) => {
            RelayError::Refused(Refusal { code: refusal.get_id(), text: reply_text(refusal) })
        }
        ErrorKind::ProtocolError(error) if error.get_id() == INTERNAL_ERROR => RelayError::Internal(error.to_string()),
        // Sent after the broker had closed the channel; the error of another message says why.
        ErrorKind::InvalidChannelState(..) => RelayError::Refused(Refusal { code: 0, text: error.to_string() }),
        _ => RelayError::Broker(error.to_string()),
    }
}

/// Returns the text of the `channel.close`, or the name of its code if it has no text.
fn reply_text(refusal: &AMQPError) -> String {
    match refusal.get_message().as_str() {
        "" => refusal.kind().to_string(),
        text => text.to_owned(),
    }
}

fn properties(message: &Publication<'_>) -> BasicProperties {
    const PERSISTENT: u8 = 2;
    let mut headers = FieldTable::default();
    let text = |value: &str| AMQPValue::LongString(value.into());
    for (name, value) in message.attributes.iter().flatten() {
        headers.insert((*name).into(), text(value));
    }
    for (name, value) in [("traceparent", &message.traceparent), ("tracestate", &message.tracestate)] {
        if let Some(value) = value {
            headers.insert(name.into(), text(value));
        }
    }
    let mut properties = BasicProperties::default()
        .with_content_type(message.content_type.into())
        .with_delivery_mode(PERSISTENT)
        .with_message_id((&*message.id_on_the_wire()).into())
        .with_type((&*message.routing_key).into())
        .with_headers(headers);
    if let Some(id) = message.correlation_id.as_deref().and_then(|id| ShortString::try_new(id).ok()) {
        properties = properties.with_correlation_id(id);
    }
    properties
}
