//! Publishes parcels, whatever is waiting at a time: all their events, then all their confirms.
//!
//! A channel takes no further parcels before that, because lapin may hand a returned message to
//! another confirm of the same frame: only when all confirms are in is it known which of the
//! events no queue took. Several channels keep the connection busy meanwhile.

use std::ops::Deref;
use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::direct;
use super::publication::{Publication, publications};
use super::routing::{NotTaken, Unbound};
use super::session::{Channel, RelayError, Session, Sink};
use super::{EventSettings, Parcels, Unroutable};
use crate::contract::EventKind;
use crate::health::{Dependency, Health};
use crate::retry::{Delays, RetrySettings};
use crate::sabotage::{self, Defect};
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

/// The relay.
pub struct Relay<B> {
    sink: B,
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

impl<B: Sink> Relay<B> {
    /// Publishes to `sink` what comes through `parcels` and tells `reports`, until `stop` is
    /// cancelled.
    #[allow(clippy::too_many_arguments, reason = "wired in one place")]
    pub fn new(
        sink: B,
        settings: EventSettings,
        retry: RetrySettings,
        parcels: Parcels,
        reports: mpsc::Sender<Report>,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            sink,
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
                biased;
                () = self.stop.cancelled() => return,
                opened = self.sink.open() => opened,
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
                        Err(error) => {
                            if matches!(error, RelayError::Internal(_)) {
                                self.leave_out_direct_replies();
                            }
                            error.to_string()
                        }
                    }
                }
                Err(error) => error,
            };
            self.health.unblock();
            self.health.set_down(Dependency::BrokerRelay, reason);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(delays.next_delay()) => {}
            }
        }
    }

    /// What was being published is published again, but for what the broker may have failed at.
    fn leave_out_direct_replies(&self) {
        let left_out: u32 = self.interrupted.lock().iter_mut().map(direct::leave_out).sum();
        if left_out > 0 {
            warn!(left_out, "the broker has failed at what it was sent: replies by direct reply-to are left out");
            self.metrics.events_unroutable(UnroutableAction::Discarded).increment(left_out.into());
        }
    }

    /// `Ok` when stopped, whatever is still unconfirmed then; the first channel's error ends all.
    /// What the channels were publishing goes back to [`Relay::interrupted`].
    async fn publish_all(&self, session: &B::Session) -> Result<(), RelayError> {
        let watching = session.watch(|blocked| self.tell_blocked(blocked));
        let publishing = futures_util::future::try_join_all(session.channels().iter().map(|c| self.publish_on(c)));
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Ok(()),
            // First, for the confirms that came before the end.
            done = publishing => done.map(drop),
            lost = watching => Err(lost),
        }
    }

    fn tell_blocked(&self, blocked: Option<String>) {
        match blocked {
            Some(reason) => self.health.block(reason),
            None => self.health.unblock(),
        }
    }

    async fn publish_on(&self, channel: &impl Channel) -> Result<(), RelayError> {
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
    async fn next(&self) -> Option<Vec<Taken<'_, B>>> {
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
    async fn publish(
        &self,
        channel: &impl Channel,
        parcels: &[Taken<'_, B>],
    ) -> Result<Vec<Vec<Unrouted>>, RelayError> {
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
    async fn offer_if_bound(
        &self,
        channel: &impl Channel,
        messages: Vec<&Publication<'_>>,
    ) -> Result<NotTaken, RelayError> {
        let (published, withheld) = self.unbound.split(messages);
        let mut not_taken = self.offer(channel, &published).await?;
        let (welcome, discarded) = self.unbound.learn(&published, withheld, &not_taken);
        not_taken.extend(self.offer(channel, &welcome).await?);
        not_taken.returned.extend(discarded.iter().map(|message| message.id_on_the_wire().into_owned()));
        Ok(not_taken)
    }

    /// Publishes and waits for all confirms; answers what no queue took.
    async fn offer(&self, channel: &impl Channel, messages: &[&Publication<'_>]) -> Result<NotTaken, RelayError> {
        let mut not_taken = NotTaken::default();
        if messages.is_empty() {
            return Ok(not_taken);
        }
        let began = Instant::now();
        let mut confirms = Vec::with_capacity(messages.len());
        for together in messages.chunks(WRITTEN_TOGETHER) {
            channel.send_all(together, &mut confirms).await?;
        }
        if sabotage::has(Defect::ConfirmNotAwaited) {
            return Ok(not_taken);
        }
        for (message, confirm) in messages.iter().zip(confirms) {
            let confirmation = confirm.await?;
            if !confirmation.taken {
                not_taken.refused.insert(message.id_on_the_wire().into_owned());
            }
            if !sabotage::has(Defect::ReturnedEventCounted) {
                not_taken.returned.extend(confirmation.returned);
            }
        }
        observe(&self.metrics.event_confirm_seconds, began.elapsed());
        Ok(not_taken)
    }

    /// Counts, and answers what is to be held, by routing key.
    fn sort_out(&self, messages: &[Publication<'_>], not_taken: &NotTaken) -> Vec<Unrouted> {
        let mut held: Vec<Unrouted> = Vec::new();
        for message in messages {
            let id = message.id_on_the_wire();
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
struct Taken<'a, B> {
    parcel: Option<Parcel>,
    relay: &'a Relay<B>,
}

impl<B> Taken<'_, B> {
    fn done(mut self) -> Parcel {
        self.parcel.take().expect("only `done` and `drop` take it, and both once")
    }
}

impl<B> Deref for Taken<'_, B> {
    type Target = Parcel;

    fn deref(&self) -> &Parcel {
        self.parcel.as_ref().expect("only `done` and `drop` take it, and both once")
    }
}

impl<B> Drop for Taken<'_, B> {
    fn drop(&mut self) {
        self.relay.interrupted.lock().extend(self.parcel.take());
    }
}
