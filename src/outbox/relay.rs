//! Publishes parcels, whatever is waiting at a time: all their events, then all their confirms.
//!
//! A channel takes no further parcels before that, because lapin may hand a returned message to
//! another confirm of the same frame: only when all confirms are in is it known which of the
//! events no queue took. Several channels keep the connection busy meanwhile.

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::{Channel, Connection, Event};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::publication::{Publication, publications};
use super::routing::{NotTaken, Unbound};
use super::wire::{self, Session};
use super::{EventSettings, Parcels, Unroutable};
use crate::broker::Connector;
use crate::contract::EventKind;
use crate::health::{Dependency, Health};
use crate::intake::BrokerSettings;
use crate::retry::{Delays, RetrySettings};
use crate::store::Parcel;
use crate::store::outbox::Unrouted;
use crate::telemetry::labels::{self, UnroutableAction};
use crate::telemetry::metrics::{Metrics, observe};

/// How many messages are given to lapin at a time: it answers a publish when its frames are written,
/// so its thread wakes up once for all of them and writes them together.
const WRITTEN_TOGETHER: usize = 256;

/// With how many events a channel takes no further parcel.
const PUBLISHED_TOGETHER: u32 = 1000;

/// The messages of a parcel, or all of it if it can't be read.
type Row<'p> = Result<Vec<Publication<'p>>, Unrouted>;

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
    #[error("the broker sends no confirms")]
    NoConfirms,
}

/// The relay.
pub struct Relay {
    connector: Connector,
    declare: bool,
    /// For the answers that a new session waits for.
    set_up_limit: Duration,
    settings: EventSettings,
    retry: RetrySettings,
    parcels: Mutex<Parcels>,
    /// Parcels whose publishing was interrupted, as by a lost connection: published again, first.
    interrupted: parking_lot::Mutex<Vec<Parcel>>,
    /// What needs not be published to be thrown away.
    unbound: Unbound,
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
        parcels: Parcels,
        reports: mpsc::Sender<Report>,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            declare: broker.declare,
            set_up_limit: broker.connect_timeout * 2,
            connector: Connector::new(broker, "settled relay"),
            settings,
            retry,
            parcels: Mutex::new(parcels),
            interrupted: parking_lot::Mutex::default(),
            unbound: Unbound::default(),
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
            let opened = tokio::select! {
                opened = self.open() => opened,
                () = self.stop.cancelled() => return,
            };
            let reason = match opened {
                Ok(session) => {
                    if std::mem::replace(&mut connected_before, true) {
                        self.metrics.reconnects(labels::Connection::Relay).increment(1);
                    }
                    self.health.set_up(Dependency::BrokerRelay);
                    let began = Instant::now();
                    let ended = self.publish_all(&session).await;
                    if began.elapsed() >= self.retry.max {
                        // One that ends at once, again and again, is no reason to hurry.
                        delays.reset();
                    }
                    match ended {
                        Ok(()) => return session.close().await,
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

    async fn open(&self) -> Result<Session, String> {
        let connection = self.connector.connect().await.map_err(|error| error.to_string())?;
        // A broker that is starting accepts connections before it answers on channels.
        let declared = self.declare.then_some(self.settings.exchange.as_str());
        let set_up = Session::set_up(connection, declared, self.settings.publishers);
        match tokio::time::timeout(self.set_up_limit, set_up).await {
            Ok(Ok(session)) => Ok(session),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {:?}", self.set_up_limit)),
        }
    }

    /// `Ok` when stopped, whatever is still unconfirmed then; the first channel's error ends all.
    /// What the channels were publishing goes back to [`Relay::interrupted`].
    async fn publish_all(&self, session: &Session) -> Result<(), RelayError> {
        let publishing = futures_util::future::try_join_all(session.channels.iter().map(|c| self.publish_on(c)));
        tokio::select! {
            done = publishing => done.map(drop),
            () = self.watch_blocking(&session.connection) => Ok(()),
            () = self.stop.cancelled() => Ok(()),
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

    async fn publish_on(&self, channel: &Channel) -> Result<(), RelayError> {
        while let Some(parcels) = self.next().await {
            let unrouted = self.publish(channel, &parcels).await?;
            for (parcel, unrouted) in parcels.into_iter().zip(unrouted) {
                // The keeper outlives the relay.
                if let Ok(place) = self.reports.reserve().await {
                    let parcel = parcel.done();
                    place.send(Report { id: parcel.id, held_key: parcel.held_key, unrouted });
                }
            }
        }
        Ok(())
    }

    /// Whatever is waiting, up to [`PUBLISHED_TOGETHER`] events: the confirm of one event takes as
    /// long as those of many.
    async fn next(&self) -> Option<Vec<Taken<'_>>> {
        let taken = |parcel| Taken { parcel: Some(parcel), relay: self };
        let interrupted = self.interrupted.lock().pop();
        if let Some(parcel) = interrupted {
            return Some(vec![taken(parcel)]);
        }
        let mut waiting = self.parcels.lock().await;
        let first = waiting.next().await?;
        let mut events = first.events;
        let mut parcels = vec![taken(first)];
        while events < PUBLISHED_TOGETHER {
            let Some(parcel) = waiting.next_waiting() else { break };
            events += parcel.events;
            parcels.push(taken(parcel));
        }
        Some(parcels)
    }

    /// Publishes parcels and waits for all confirms; answers what is to be held of each.
    async fn publish(&self, channel: &Channel, parcels: &[Taken<'_>]) -> Result<Vec<Vec<Unrouted>>, RelayError> {
        let rows: Vec<Row<'_>> = parcels.iter().map(|parcel| self.read(parcel)).collect();
        let messages: Vec<&Publication<'_>> = rows.iter().flatten().flatten().collect();
        let not_taken = match self.settings.unroutable {
            Unroutable::Hold => self.offer(channel, &messages).await?,
            Unroutable::Discard => self.offer_if_bound(channel, messages).await?,
        };
        let held = rows.iter().map(|row| match row {
            Ok(messages) => self.sort_out(messages, &not_taken),
            Err(unreadable) => vec![unreadable.clone()],
        });
        Ok(held.collect())
    }

    /// The messages of a parcel; one that can't be read is held as it is.
    fn read<'p>(&self, parcel: &'p Parcel) -> Row<'p> {
        publications(parcel.id, &parcel.body, self.settings.format, self.settings.batch_events).map_err(|error| {
            error!(row = parcel.id, %error, "an outbox row can't be read: held for a person to look at");
            let (lines, events) = (parcel.body.clone(), parcel.events.cast_signed().max(1));
            Unrouted { key: "unreadable".into(), lines, events }
        })
    }

    /// As [`Relay::offer`], without offering what is known to come back.
    async fn offer_if_bound(&self, channel: &Channel, messages: Vec<&Publication<'_>>) -> Result<NotTaken, RelayError> {
        let (published, withheld) = self.unbound.split(messages);
        let mut not_taken = self.offer(channel, &published).await?;
        let (welcome, discarded) = self.unbound.learn(&published, withheld, &not_taken);
        not_taken.extend(self.offer(channel, &welcome).await?);
        not_taken.returned.extend(discarded.iter().map(|message| wire::message_id(message).into_owned()));
        Ok(not_taken)
    }

    /// Publishes and waits for all confirms; answers what no queue took.
    async fn offer(&self, channel: &Channel, messages: &[&Publication<'_>]) -> Result<NotTaken, RelayError> {
        let mut not_taken = NotTaken::default();
        if messages.is_empty() {
            return Ok(not_taken);
        }
        let began = Instant::now();
        let mut confirms = Vec::with_capacity(messages.len());
        for together in messages.chunks(WRITTEN_TOGETHER) {
            wire::send_all(channel, &self.settings.exchange, together, &mut confirms).await?;
        }
        for (message, confirm) in messages.iter().zip(confirms) {
            let confirmation = confirm.await?;
            if confirmation.is_nack() {
                not_taken.refused.insert(wire::message_id(message).into_owned());
            } else if !confirmation.is_ack() {
                return Err(RelayError::NoConfirms);
            }
            // Of this message or of another one: it says itself of which.
            let returned = confirmation.take_message();
            not_taken
                .returned
                .extend(returned.and_then(|m| m.properties.message_id().as_ref().map(ToString::to_string)));
        }
        observe(&self.metrics.event_confirm_seconds, began.elapsed());
        Ok(not_taken)
    }

    /// Counts, and answers what is to be held, by routing key.
    fn sort_out(&self, messages: &[Publication<'_>], not_taken: &NotTaken) -> Vec<Unrouted> {
        let mut held: Vec<Unrouted> = Vec::new();
        for message in messages {
            let id = wire::message_id(message);
            let refused = not_taken.refused.contains(&*id);
            if !refused && !not_taken.returned.contains(&*id) {
                if let Some(kind) = EventKind::from_name(&message.routing_key) {
                    self.metrics.events_published(kind).increment(message.events.into());
                }
                continue;
            }
            // A full queue empties; nobody waits at a reply queue that is gone.
            let discard = self.settings.unroutable == Unroutable::Discard || message.reply_to.is_some();
            if discard && !refused {
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
                    let (key, lines) = (message.routing_key.to_string(), message.lines.to_vec());
                    held.push(Unrouted { key, lines, events });
                }
            }
        }
        held
    }
}

/// A parcel that is being published. Whatever interrupts that, it isn't forgotten: its row is
/// leased to this process, and nobody else would publish it.
struct Taken<'a> {
    parcel: Option<Parcel>,
    relay: &'a Relay,
}

impl Taken<'_> {
    fn done(mut self) -> Parcel {
        self.parcel.take().expect("only `done` and `drop` take it, and both once")
    }
}

impl Deref for Taken<'_> {
    type Target = Parcel;

    fn deref(&self) -> &Parcel {
        self.parcel.as_ref().expect("only `done` and `drop` take it, and both once")
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.relay.interrupted.lock().extend(self.parcel.take());
    }
}
