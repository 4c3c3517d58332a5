//! The relay: takes event batches from the relay queue, publishes them, and reports what became of them.
//!
//! A channel publishes all events of the waiting event batches, and then waits for all confirms before it takes more.
//! lapin may attach a returned message to the confirm of another one, so only when all confirms are in is it known
//! which events no queue took. Several channels keep the connection busy meanwhile.
//!
//! The broker refuses a message by closing its channel. See [`Publisher`] for how the message is found.

mod publisher;
#[cfg(test)]
mod tests;

use std::ops::Deref;
use std::sync::Arc;

use futures_util::future::try_join_all;
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::publisher::Publisher;
use super::direct_reply;
use super::relay_queue::{QueuedBatch, RelayReceiver, Report};
use super::settings::EventSettings;
use super::sink::{RelayError, Session, Sink};
use crate::health::{Dependency, Health};
use crate::labels::{Connection, UnroutableAction};
use crate::metrics::Metrics;
use crate::retry::{Delays, RetrySettings};
use crate::settings::Live;
use crate::shutdown::sleep_unless;
use crate::store::EventBatch;
use crate::traces::Traces;

/// Events above which a channel takes no further event batch.
const PUBLISHED_TOGETHER: u32 = 1000;

/// Bytes above which a channel takes no further event batch. Publishing copies them.
const BYTES_TOGETHER: usize = 2 << 20;

/// Publishes event batches until it is stopped.
pub struct Relay<B> {
    sink: B,
    retry: Live<RetrySettings>,
    queue: Mutex<RelayReceiver>,
    /// Event batches whose publishing was interrupted, as by a lost connection. They are published again, before
    /// others.
    interrupted: parking_lot::Mutex<Vec<QueuedBatch>>,
    publisher: Publisher,
    reports: mpsc::Sender<Report>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
}

impl<B: Sink> Relay<B> {
    /// Creates a relay that publishes the event batches of `queue` to `sink` and sends `reports` about them, until
    /// `stop` is cancelled.
    #[allow(clippy::too_many_arguments, reason = "wired in one place")]
    pub fn new(
        sink: B,
        settings: EventSettings,
        retry: Live<RetrySettings>,
        queue: RelayReceiver,
        reports: mpsc::Sender<Report>,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            sink,
            retry,
            queue: Mutex::new(queue),
            interrupted: parking_lot::Mutex::default(),
            publisher: Publisher::new(settings, Arc::clone(&metrics)),
            reports,
            health,
            metrics,
            stop,
        }
    }

    /// Records in `traces` what is published of sampled tasks.
    #[must_use]
    pub fn traced(mut self, traces: Traces) -> Self {
        self.publisher.traces = traces;
        self
    }

    /// Runs until stopped. Connects again whenever the session is lost.
    pub async fn run(self) {
        let mut delays = Delays::new(&self.retry);
        let mut connected_before = false;
        while !self.stop.is_cancelled() {
            let opened = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                opened = self.sink.open() => opened,
            };
            let outage = match opened {
                Ok(session) => {
                    if std::mem::replace(&mut connected_before, true) {
                        self.metrics.reconnects(Connection::Relay).increment(1);
                    }
                    self.health.set_up(Dependency::BrokerRelay);
                    let began = Instant::now();
                    let ended = self.publish_all(&session).await;
                    delays.session_ended(began.elapsed());
                    match ended {
                        Ok(()) => return session.close().await,
                        Err(error) => {
                            if matches!(error, RelayError::Internal(_)) {
                                self.discard_direct_replies();
                            }
                            error.to_string().into()
                        }
                    }
                }
                Err(outage) => outage,
            };
            self.health.unblock();
            self.health.set_down(Dependency::BrokerRelay, outage);
            if !sleep_unless(&self.stop, delays.next_delay()).await {
                return;
            }
        }
    }

    /// Discards the direct replies of interrupted event batches: the broker's internal error may be due to one of them.
    fn discard_direct_replies(&self) {
        let discarded: u32 = self.interrupted.lock().iter_mut().map(|batch| direct_reply::discard(batch)).sum();
        if discarded > 0 {
            warn!(
                left_out = discarded,
                "the broker has failed at what it was sent: replies by direct reply-to are left out"
            );
            self.metrics.events_unroutable(UnroutableAction::Discarded).increment(discarded.into());
        }
    }

    /// Publishes on all channels. Returns `Ok` when stopped, even if confirms are missing, and otherwise the first
    /// error that ends the session. Unfinished event batches go to [`Relay::interrupted`].
    async fn publish_all(&self, session: &B::Session) -> Result<(), RelayError> {
        let watching = session.watch(|blocked| match blocked {
            Some(reason) => self.health.block(reason),
            None => self.health.unblock(),
        });
        let publishing = try_join_all(session.channels().iter().map(|channel| self.publish_on(session, channel)));
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Ok(()),
            // Before `watching`, for the confirms that came before the session was lost.
            done = publishing => done.map(drop),
            lost = watching => Err(lost),
        }
    }

    async fn publish_on(
        &self,
        session: &B::Session,
        channel: &<B::Session as Session>::Channel,
    ) -> Result<(), RelayError> {
        while let Some(batches) = self.next_batches().await {
            let borrowed: Vec<&EventBatch> = batches.iter().map(Deref::deref).collect();
            let unrouted = self.publisher.publish((session, channel), &borrowed).await?;
            for (batch, unrouted) in batches.into_iter().zip(unrouted) {
                // Cannot fail: the sweeper ends after the relay.
                if let Ok(place) = self.reports.reserve().await {
                    place.send(batch.done().into_report(unrouted));
                }
            }
        }
        Ok(())
    }

    /// Waits for an event batch, and returns it with those that are queued, up to [`PUBLISHED_TOGETHER`] events or
    /// [`BYTES_TOGETHER`]: the confirms of many events take as long as that of one.
    async fn next_batches(&self) -> Option<Vec<InProgress<'_, B>>> {
        let in_progress = |batch| InProgress { batch: Some(batch), relay: self };
        let interrupted = self.interrupted.lock().pop();
        if let Some(batch) = interrupted {
            return Some(vec![in_progress(batch)]);
        }
        let mut queue = self.queue.lock().await;
        let first = queue.next().await?;
        let (mut events, mut bytes) = (first.events, first.body.len());
        let mut batches = vec![in_progress(first)];
        while events < PUBLISHED_TOGETHER && bytes < BYTES_TOGETHER {
            let Some(batch) = queue.next_waiting() else { break };
            events += batch.events;
            bytes += batch.body.len();
            batches.push(in_progress(batch));
        }
        Some(batches)
    }
}

/// An event batch that is being published. If that is interrupted, it goes back to [`Relay::interrupted`]: this process
/// renews the lease of its row, so no other process would publish it.
struct InProgress<'a, B> {
    batch: Option<QueuedBatch>,
    relay: &'a Relay<B>,
}

impl<B> InProgress<'_, B> {
    fn done(mut self) -> QueuedBatch {
        self.batch.take().expect("only `done` and `drop` take it, and both once")
    }
}

impl<B> Deref for InProgress<'_, B> {
    type Target = EventBatch;

    fn deref(&self) -> &EventBatch {
        self.batch.as_ref().expect("only `done` and `drop` take it, and both once")
    }
}

impl<B> Drop for InProgress<'_, B> {
    fn drop(&mut self) {
        self.relay.interrupted.lock().extend(self.batch.take());
    }
}
