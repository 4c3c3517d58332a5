//! Publishes parcels, whatever is waiting at a time: all their events, then all their confirms.
//!
//! A channel takes no further parcels before that, because lapin may hand a returned message to
//! another confirm of the same frame: only when all confirms are in is it known which of the
//! events no queue took. Several channels keep the connection busy meanwhile.
//!
//! The broker refuses a message by closing its channel. What was published on it and is not confirmed
//! is then published again in halves, on a new channel, until the message is found: see [`offer`].

mod offer;
#[cfg(test)]
mod tests;

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::{Mutex, OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::direct;
use super::refusals::Refusals;
use super::routing::Unbound;
use super::session::{RelayError, Session, Sink};
use super::{EventSettings, Handed, Parcels};
use crate::health::{Dependency, Health};
use crate::retry::{Delays, RetrySettings};
use crate::store::Parcel;
use crate::store::outbox::Unrouted;
use crate::telemetry::labels::{self, UnroutableAction};
use crate::telemetry::metrics::Metrics;

/// With how many events a channel takes no further parcel.
const PUBLISHED_TOGETHER: u32 = 1000;

/// With how many bytes a channel takes no further parcel: a batch is copied to be published.
const BYTES_TOGETHER: usize = 2 << 20;

/// What became of a parcel, for the keeper.
#[derive(Debug)]
pub struct Report {
    /// The outbox row.
    pub id: i64,
    /// The routing key for which it had been held.
    pub held_key: Option<String>,
    /// Whether it had been held because the broker refused it.
    pub was_refused: bool,
    /// What was not taken and is to be kept: routing key, lines, how many events. When empty,
    /// the row is done.
    pub unrouted: Vec<Unrouted>,
    /// The parcel's share of the relay queue's room, if it came through it.
    pub share: Option<OwnedSemaphorePermit>,
}

/// The relay.
pub struct Relay<B> {
    sink: B,
    settings: EventSettings,
    retry: RetrySettings,
    parcels: Mutex<Parcels>,
    /// Parcels whose publishing was interrupted, as by a lost connection: published again, first.
    interrupted: parking_lot::Mutex<Vec<Handed>>,
    /// What needs not be published to be thrown away.
    unbound: Unbound,
    /// What needs not be published to be refused.
    refusals: Refusals,
    /// The longest batch in bytes: shorter once the broker has found one too large.
    batch_bytes: AtomicUsize,
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
            refusals: Refusals::new(settings.retry_held),
            batch_bytes: AtomicUsize::new(settings.batch_bytes),
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
        let left_out: u32 = self.interrupted.lock().iter_mut().map(|parcel| direct::leave_out(parcel)).sum();
        if left_out > 0 {
            warn!(left_out, "the broker has failed at what it was sent: replies by direct reply-to are left out");
            self.metrics.events_unroutable(UnroutableAction::Discarded).increment(left_out.into());
        }
    }

    /// `Ok` when stopped, whatever is still unconfirmed then; the first error that is more than a
    /// channel's ends all.
    /// What the channels were publishing goes back to [`Relay::interrupted`].
    async fn publish_all(&self, session: &B::Session) -> Result<(), RelayError> {
        let watching = session.watch(|blocked| self.tell_blocked(blocked));
        let publishing =
            futures_util::future::try_join_all(session.channels().iter().map(|c| self.publish_on(session, c)));
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

    async fn publish_on(
        &self,
        session: &B::Session,
        channel: &<B::Session as Session>::Channel,
    ) -> Result<(), RelayError> {
        while let Some(parcels) = self.next().await {
            let unrouted = self.publish((session, channel), &parcels).await?;
            for (parcel, unrouted) in parcels.into_iter().zip(unrouted) {
                // The keeper outlives the relay.
                if let Ok(place) = self.reports.reserve().await {
                    place.send(parcel.done().into_report(unrouted));
                }
            }
        }
        Ok(())
    }

    /// Whatever is waiting, up to [`PUBLISHED_TOGETHER`] events or [`BYTES_TOGETHER`]: the confirm of
    /// one event takes as long as those of many.
    async fn next(&self) -> Option<Vec<Taken<'_, B>>> {
        let taken = |parcel| Taken { parcel: Some(parcel), relay: self };
        let interrupted = self.interrupted.lock().pop();
        if let Some(parcel) = interrupted {
            return Some(vec![taken(parcel)]);
        }
        let mut waiting = self.parcels.lock().await;
        let first = waiting.next().await?;
        let (mut events, mut bytes) = (first.events, first.body.len());
        let mut parcels = vec![taken(first)];
        while events < PUBLISHED_TOGETHER && bytes < BYTES_TOGETHER {
            let Some(parcel) = waiting.next_waiting() else { break };
            events += parcel.events;
            bytes += parcel.body.len();
            parcels.push(taken(parcel));
        }
        Some(parcels)
    }
}

/// A parcel that is being published. Whatever interrupts that, it isn't forgotten: its row is
/// leased to this process, and nobody else would publish it.
struct Taken<'a, B> {
    parcel: Option<Handed>,
    relay: &'a Relay<B>,
}

impl<B> Taken<'_, B> {
    fn done(mut self) -> Handed {
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
