//! The relay to the stream: connects, takes the producer's lease, and appends while it has both.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::handover::Handover;
use super::session::{Appending, Ended};
use super::store::{Held, StreamStore};
use crate::health::{Dependency, Health};
use crate::labels::Connection;
use crate::metrics::Metrics;
use crate::outbox::log::{EventLog, LogSession, SessionLost};
use crate::outbox::settings::EventSettings;
use crate::outbox::sweeper::within_limit;
use crate::retry::{Delays, RetrySettings};
use crate::settings::Live;
use crate::shutdown::sleep_unless;
use crate::traces::Traces;
use tokio::time::Instant;

/// Interval between two attempts to take the lease, while another process has it.
const LEASE_ATTEMPTS: Duration = Duration::from_millis(250);

/// How long appending has to go well before the next failure is news.
const FAILING: Duration = Duration::from_secs(10);

/// How long giving the lease back may take. Otherwise it runs out.
const GIVE_BACK_LIMIT: Duration = Duration::from_secs(2);

/// Appends events to the stream until it is stopped.
pub struct StreamRelay<P, L> {
    pub(super) store: P,
    log: L,
    pub(super) settings: EventSettings,
    retry: Live<RetrySettings>,
    pub(super) handover: Handover,
    pub(super) health: Arc<Health>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) traces: Traces,
    pub(super) stop: CancellationToken,
}

impl<P: StreamStore, L: EventLog> StreamRelay<P, L> {
    /// Creates a relay that appends the rows of `store` to `log`, until `stop` is cancelled.
    #[allow(clippy::too_many_arguments, reason = "wired in one place")]
    pub fn new(
        store: P,
        log: L,
        settings: EventSettings,
        retry: Live<RetrySettings>,
        handover: Handover,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Self {
        Self { store, log, settings, retry, handover, health, metrics, traces: Traces::default(), stop }
    }

    /// Records in `traces` what is appended of sampled tasks.
    #[must_use]
    pub fn traced(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    /// Runs until stopped. Connects again whenever the session is lost.
    pub async fn run(self) {
        let mut delays = Delays::new(&self.retry);
        let mut connected_before = false;
        while let Some(name) = self.producer(&mut delays).await {
            let opened = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                opened = self.log.open(&name) => opened,
            };
            let outage = match opened {
                Ok(mut session) => {
                    if std::mem::replace(&mut connected_before, true) {
                        self.metrics.reconnects(Connection::Stream).increment(1);
                    }
                    self.health.set_up(Dependency::BrokerStream);
                    // Whoever declared a partition anew tells, whoever appends: the others find it as it is, unless it had
                    // the highest id of all.
                    if session.is_renewed() {
                        self.tell_that_it_is_new();
                    }
                    let began = Instant::now();
                    let ended = self.append_on(&mut session).await;
                    delays.session_ended(began.elapsed());
                    match ended {
                        Ok(()) => {
                            let _ = tokio::time::timeout(GIVE_BACK_LIMIT, self.store.give_back()).await;
                            return session.close().await;
                        }
                        Err(lost) => lost.0.into(),
                    }
                }
                Err(outage) => outage,
            };
            self.health.set_down(Dependency::BrokerStream, outage);
            if !sleep_unless(&self.stop, delays.next_delay()).await {
                return;
            }
        }
    }

    /// Returns the producer's name, as soon as PostgreSQL says it; `None` if the relay is stopped meanwhile.
    async fn producer(&self, delays: &mut Delays) -> Option<String> {
        while !self.stop.is_cancelled() {
            match self.stop.run_until_cancelled(within_limit(self.store.producer())).await? {
                Ok(name) => return Some(name),
                // The outbox sweeper reports that PostgreSQL is down.
                Err(outage) => debug!(outage.reason, "the producer's name can't be read"),
            }
            sleep_unless(&self.stop, delays.next_delay()).await;
        }
        None
    }

    /// Appends on a session, whenever this process has the lease. Returns `Ok` when stopped.
    async fn append_on(&self, session: &mut L::Session) -> Result<(), SessionLost> {
        let (mut delays, mut is_failing) = (Delays::new(&self.retry), false);
        while let Some(held) = self.take_lease(session).await? {
            let last_id = session.last_id().await?;
            info!(last_id, rows = held.rows.len(), "this daemon appends the ledger's events to the stream");
            self.set_producer(true);
            let began = Instant::now();
            let is_told = session.is_renewed();
            let ended = Appending::resume(self, &held, last_id, is_told).run(session).await;
            self.set_producer(false);
            delays.session_ended(began.elapsed());
            is_failing &= began.elapsed() < FAILING;
            match ended? {
                Ended::Stopped => return Ok(()),
                Ended::LeaseLost => info!("another daemon appends the ledger's events from now on"),
                Ended::Unknown(outage) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        warn!(outage.reason, "events can't be taken from stream_outbox: that is tried again");
                    }
                    sleep_unless(&self.stop, delays.next_delay()).await;
                }
            }
        }
        Ok(())
    }

    /// Waits for the lease. Returns `None` if the relay is stopped meanwhile.
    async fn take_lease(&self, session: &mut L::Session) -> Result<Option<Held>, SessionLost> {
        let mut nothing = Vec::new();
        while !self.stop.is_cancelled() {
            match self.stop.run_until_cancelled(within_limit(self.store.take(self.settings.lease))).await {
                Some(Ok(Some(held))) => return Ok(Some(held)),
                None | Some(Ok(None)) => {}
                Some(Err(outage)) => debug!(outage.reason, "the producer's lease can't be taken"),
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {}
                // Nothing is out that could be confirmed: it tells that the session is lost.
                lost = session.confirmed(&mut nothing) => lost?,
                () = tokio::time::sleep(LEASE_ATTEMPTS) => {}
            }
        }
        Ok(None)
    }

    /// Tells that the stream, or a partition of it, is not the one that it was.
    pub(super) fn tell_that_it_is_new(&self) {
        self.metrics.stream_generations.increment(1);
        warn!(
            "the stream lacks events that it had: it or a partition of it was deleted, or is another one. What it has is \
             told from here on"
        );
    }

    fn set_producer(&self, is_producer: bool) {
        self.handover.set_producer(is_producer);
        self.metrics.stream_producer.set(f64::from(u8::from(is_producer)));
    }
}
