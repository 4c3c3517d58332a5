//! Publishes parcels, each on one channel at a time: all its events, then all their confirms.
//!
//! A channel never has two parcels in flight, because lapin may hand a returned message to
//! another confirm of the same frame: only when all confirms of a parcel are in is it known
//! which of its events no queue took. Several channels keep the connection busy meanwhile.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, Event, ExchangeKind};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::publication::{Publication, publications};
use super::{EventSettings, Unroutable};
use crate::broker::Connector;
use crate::contract::EventKind;
use crate::health::{Dependency, Health};
use crate::intake::BrokerSettings;
use crate::retry::{Delays, RetrySettings};
use crate::store::Parcel;
use crate::store::outbox::Unrouted;
use crate::telemetry::labels::{self, UnroutableAction};
use crate::telemetry::metrics::{Metrics, observe};

/// What became of a parcel, for the keeper.
#[derive(Debug)]
pub struct Report {
    /// The outbox row.
    pub id: i64,
    /// The routing key for which it had been held.
    pub held_key: Option<String>,
    /// What no queue took and is to be kept: routing key, lines, how many events. When empty,
    /// the row is done.
    pub unrouted: Vec<Unrouted>,
}

/// Why a session ends.
#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error("{0}")]
    Broker(#[from] lapin::Error),
    #[error("the broker refused to take an event")]
    NotTaken,
}

/// The relay.
pub struct Relay {
    connector: Connector,
    declare: bool,
    settings: EventSettings,
    retry: RetrySettings,
    parcels: Mutex<mpsc::Receiver<Parcel>>,
    /// Parcels that a lost connection interrupted: published again, first.
    interrupted: Mutex<Vec<Parcel>>,
    reports: mpsc::Sender<Report>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
}

impl Relay {
    /// Publishes what comes through `parcels` and tells `reports`, until `stop` is cancelled.
    #[allow(clippy::too_many_arguments, reason = "wired in one place")]
    pub fn new(
        broker: BrokerSettings,
        settings: EventSettings,
        retry: RetrySettings,
        parcels: mpsc::Receiver<Parcel>,
        reports: mpsc::Sender<Report>,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            declare: broker.declare,
            connector: Connector::new(broker, "settled relay"),
            settings,
            retry,
            parcels: Mutex::new(parcels),
            interrupted: Mutex::default(),
            reports,
            health,
            metrics,
            stop,
        }
    }

    /// Runs until stopped; connects again for ever.
    pub async fn run(self) {
        let mut delays = Delays::new(&self.retry);
        let mut connected_before = false;
        while !self.stop.is_cancelled() {
            let session = tokio::select! {
                session = self.open() => session,
                () = self.stop.cancelled() => return,
            };
            let reason = match session {
                Ok(connection) => {
                    if std::mem::replace(&mut connected_before, true) {
                        self.metrics.reconnects(labels::Connection::Relay).increment(1);
                    }
                    delays.reset();
                    self.health.set_up(Dependency::BrokerRelay);
                    match self.publish_all(&connection).await {
                        Ok(()) => {
                            let goodbye = connection.close(200, "settled is done".into());
                            let _ = tokio::time::timeout(std::time::Duration::from_secs(2), goodbye).await;
                            return;
                        }
                        Err(error) => error.to_string(),
                    }
                }
                Err(error) => error,
            };
            self.health.unblock();
            self.health.set_down(Dependency::BrokerRelay, reason);
            tokio::select! {
                () = tokio::time::sleep(delays.next_delay()) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    async fn open(&self) -> Result<Connection, String> {
        let connection = self.connector.connect().await.map_err(|error| error.to_string())?;
        if self.declare {
            let channel = connection.create_channel().await.map_err(|error| error.to_string())?;
            let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            let exchange = self.settings.exchange.as_str().into();
            let declared = channel.exchange_declare(exchange, ExchangeKind::Topic, options, FieldTable::default());
            declared.await.map_err(|error| error.to_string())?;
        }
        Ok(connection)
    }

    /// `Ok` when stopped; the first channel's error ends all.
    async fn publish_all(&self, connection: &Connection) -> Result<(), RelayError> {
        let channels = (0..self.settings.publishers).map(|_| self.publish_on(connection));
        let publishing = futures_util::future::try_join_all(channels);
        tokio::select! {
            done = publishing => done.map(drop),
            () = self.watch_blocking(connection) => Ok(()),
        }
    }

    /// Never ends: says when the broker blocks publishing, and when it takes events again.
    async fn watch_blocking(&self, connection: &Connection) {
        let mut events = Box::pin(connection.events_listener());
        while let Some(event) = events.next().await {
            match event {
                Event::ConnectionBlocked(reason) => self.health.block(reason),
                Event::ConnectionUnblocked => self.health.unblock(),
                _ => {}
            }
        }
        std::future::pending().await
    }

    async fn publish_on(&self, connection: &Connection) -> Result<(), RelayError> {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        loop {
            let Some(parcel) = self.next().await else { return Ok(()) };
            match self.publish(&channel, &parcel).await {
                Ok(unrouted) => self.report(parcel, unrouted).await,
                Err(error) => {
                    self.interrupted.lock().await.push(parcel);
                    return Err(error);
                }
            }
        }
    }

    async fn next(&self) -> Option<Parcel> {
        if let Some(parcel) = self.interrupted.lock().await.pop() {
            return Some(parcel);
        }
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            parcel = async { self.parcels.lock().await.recv().await } => parcel,
        }
    }

    async fn report(&self, parcel: Parcel, unrouted: Vec<Unrouted>) {
        let report = Report { id: parcel.id, held_key: parcel.held_key, unrouted };
        // The keeper outlives the relay.
        let _ = self.reports.send(report).await;
    }

    /// Publishes a parcel and waits for all confirms; answers what is to be held.
    async fn publish(&self, channel: &Channel, parcel: &Parcel) -> Result<Vec<Unrouted>, RelayError> {
        let messages = match publications(parcel.id, &parcel.body, self.settings.format, self.settings.batch_events) {
            Ok(messages) => messages,
            Err(error) => {
                error!(row = parcel.id, %error, "an outbox row can't be read: held for a person to look at");
                let (lines, events) = (parcel.body.clone(), parcel.events.cast_signed().max(1));
                return Ok(vec![Unrouted { key: "unreadable".into(), lines, events }]);
            }
        };
        let began = Instant::now();
        let mut confirms = Vec::with_capacity(messages.len());
        for message in &messages {
            confirms.push(self.send(channel, message).await?);
        }
        let mut returned: HashSet<String> = HashSet::new();
        for confirm in confirms {
            match confirm.await? {
                Confirmation::Ack(None) => {}
                Confirmation::Ack(Some(message)) => {
                    returned.extend(message.properties.message_id().as_ref().map(ToString::to_string));
                }
                Confirmation::Nack(_) | Confirmation::NotRequested => return Err(RelayError::NotTaken),
            }
        }
        observe(&self.metrics.event_confirm_seconds, began.elapsed());
        Ok(self.sort_out(&messages, &returned))
    }

    async fn send(&self, channel: &Channel, message: &Publication) -> lapin::Result<lapin::PublisherConfirm> {
        let (exchange, key) = match &message.reply_to {
            Some(queue) => ("", queue.as_str()),
            None => (self.settings.exchange.as_str(), message.routing_key.as_str()),
        };
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        channel.basic_publish(exchange.into(), key.into(), options, &message.body, properties(message)).await
    }

    /// Counts, and answers what is to be held, by routing key.
    fn sort_out(&self, messages: &[Publication], returned: &HashSet<String>) -> Vec<Unrouted> {
        let mut held: Vec<Unrouted> = Vec::new();
        for message in messages {
            // A reply has its event's id, on another exchange.
            let unrouted = returned.contains(&returned_id(message));
            if !unrouted {
                if let Some(kind) = EventKind::from_name(&message.routing_key) {
                    self.metrics.events_published(kind).increment(message.events.into());
                }
                continue;
            }
            // Nobody waits at a reply queue that is gone.
            if self.settings.unroutable == Unroutable::Discard || message.reply_to.is_some() {
                self.metrics.events_unroutable(UnroutableAction::Discarded).increment(message.events.into());
                continue;
            }
            self.metrics.events_unroutable(UnroutableAction::Held).increment(message.events.into());
            let events = message.events.cast_signed();
            match held.iter_mut().find(|unrouted| unrouted.key == message.routing_key) {
                Some(unrouted) => {
                    unrouted.lines.extend_from_slice(&message.lines);
                    unrouted.events += events;
                }
                None => {
                    let (key, lines) = (message.routing_key.clone(), message.lines.clone());
                    held.push(Unrouted { key, lines, events });
                }
            }
        }
        held
    }
}

/// The `message_id` on the wire: a reply's tells it from the event.
fn returned_id(message: &Publication) -> String {
    match &message.reply_to {
        Some(_) => format!("{}/reply", message.message_id),
        None => message.message_id.clone(),
    }
}

fn properties(message: &Publication) -> BasicProperties {
    const PERSISTENT: u8 = 2;
    let mut headers = FieldTable::default();
    let text = |value: &str| AMQPValue::LongString(value.into());
    for (name, value) in &message.attributes {
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
        .with_message_id(returned_id(message).into())
        .with_type(message.routing_key.as_str().into())
        .with_headers(headers);
    if let Some(id) = message.correlation_id.as_deref().and_then(|id| ShortString::try_new(id).ok()) {
        properties = properties.with_correlation_id(id);
    }
    properties
}
