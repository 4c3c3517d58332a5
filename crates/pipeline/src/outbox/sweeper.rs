//! The outbox sweeper: keeps the table of events that are still to be published.
//!
//! Deletes rows that are published, holds events that no queue took, renews leases, sends rows that nobody publishes to
//! the relay queue.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::relay_queue::{RelayQueue, Report, Reservation};
use super::settings::{EventSettings, Transport};
use crate::health::{Dependency, Health, Outage};
use crate::labels::UnroutableAction;
use crate::metrics::Metrics;
use crate::store::{OutboxStore, RowSize, StoreError};

/// Interval between two rounds.
const ROUND: Duration = Duration::from_millis(500);

/// Interval between two rounds while there is more to do.
const NEXT_ROUND: Duration = Duration::from_millis(5);

/// How long PostgreSQL may take for what the outbox asks of it.
const REPLY_LIMIT: Duration = Duration::from_secs(15);

/// The most rows that are deleted with one statement.
const MOST_DELETED: usize = 256;

/// How long a report waits for others, to delete their rows with one statement.
const REPORT_DELAY: Duration = Duration::from_millis(20);

/// The most rows that are swept in a round.
const MOST_SWEPT: usize = 256;

/// The most held rows that are probed in a round. Each that is refused again closes a channel.
const MOST_PROBED: usize = 8;

/// Interval at which rows are looked for that were meant for a stream, by daemons whose events go to the exchange.
const ADOPTION: Duration = Duration::from_secs(10);

/// Looking for probes takes at most one part in `PROBING_SHARE` of the time, unless that is a pause of more than
/// [`LONGEST_PROBING_PAUSE`].
const PROBING_SHARE: u32 = 20;

/// The longest pause between two looks for probes, unless `events.retry_held` is longer. A database that was slow for a
/// moment must not keep held events for long.
const LONGEST_PROBING_PAUSE: Duration = Duration::from_secs(30);

/// Sweeps the outbox until it is stopped.
pub struct OutboxSweeper<O> {
    outbox: O,
    settings: EventSettings,
    relay_queue: RelayQueue,
    reports: mpsc::Receiver<Report>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    /// Keys of held rows that can be published again, because a probe was taken, and whether they had been refused.
    open_keys: Vec<(String, bool)>,
    probed_at: Instant,
    /// When rows that were meant for a stream are looked for next.
    adopts_at: Instant,
    probing_took: Duration,
    /// Whether the last round left rows behind because the relay queue had no room for them.
    has_backlog: bool,
}

impl<O: OutboxStore> OutboxSweeper<O> {
    /// Creates a sweeper of `outbox`, which ends when the relay has ended and its reports are settled. While PostgreSQL
    /// is unavailable, it gives up once `stop` is cancelled.
    pub fn new(
        outbox: O,
        settings: EventSettings,
        relay_queue: RelayQueue,
        reports: mpsc::Receiver<Report>,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            outbox,
            settings,
            relay_queue,
            reports,
            health,
            metrics,
            stop,
            open_keys: Vec::new(),
            probed_at: Instant::now(),
            adopts_at: Instant::now(),
            probing_took: Duration::ZERO,
            has_backlog: false,
        }
    }

    /// Runs until the relay has ended and its reports are settled.
    pub async fn run(mut self) {
        let mut rounds = tokio::time::interval(ROUND);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut reports = Vec::new();
        loop {
            tokio::select! {
                biased;
                // Before the reports, however many there are: leases have to be renewed in time.
                _ = rounds.tick() => {
                    if self.round().await {
                        rounds.reset_after(NEXT_ROUND);
                    }
                }
                count = self.reports.recv_many(&mut reports, MOST_DELETED) => {
                    if count == 0 {
                        return; // The relay has ended, and there are no more reports.
                    }
                    self.wait_for_more(&mut reports).await;
                    self.settle(&mut reports).await;
                    if self.has_backlog && self.relay_queue.is_half_empty() {
                        rounds.reset_after(NEXT_ROUND);
                    }
                }
            }
        }
    }

    /// Waits for more reports, unless the daemon stops: deleting the rows of all costs as much as deleting one, and
    /// nobody waits for it.
    async fn wait_for_more(&mut self, reports: &mut Vec<Report>) {
        if reports.len() < MOST_DELETED && !self.stop.is_cancelled() {
            tokio::time::sleep(REPORT_DELAY).await;
        }
        while reports.len() < MOST_DELETED {
            let Ok(report) = self.reports.try_recv() else { break };
            reports.push(report);
        }
    }

    /// Deletes or holds the rows of reports. Tries again while PostgreSQL is unavailable, until the daemon stops.
    async fn settle(&mut self, reports: &mut Vec<Report>) {
        while let Err(outage) = within_limit(self.delete_or_hold(reports)).await {
            self.health.set_down(Dependency::Postgres, outage);
            if self.stop.is_cancelled() {
                return; // The rows stay, and are published again after the restart.
            }
            tokio::time::sleep(ROUND).await;
        }
        for report in reports.drain(..) {
            self.relay_queue.leases().release(report.id);
            if let (Some(key), true) = (report.held_key, report.unrouted.is_empty()) {
                debug!(%key, report.was_refused, "what was held is taken");
                let key = (key, report.was_refused);
                if !self.open_keys.contains(&key) {
                    self.open_keys.push(key);
                }
            }
        }
    }

    async fn delete_or_hold(&self, reports: &[Report]) -> Result<(), StoreError> {
        let (done, held): (Vec<_>, Vec<_>) = reports.iter().partition(|report| report.unrouted.is_empty());
        if !done.is_empty() {
            let ids: Vec<i64> = done.iter().map(|report| report.id).collect();
            self.outbox.delete(&ids).await?;
        }
        for report in held {
            self.outbox.hold(report.id, &report.unrouted, self.settings.retry_held).await?;
        }
        Ok(())
    }

    /// Sweeps once, which also tells whether PostgreSQL is available. Returns whether there is more to do at once.
    async fn round(&mut self) -> bool {
        match within_limit(self.sweep()).await {
            Ok(more) => {
                self.health.set_up(Dependency::Postgres);
                more
            }
            Err(outage) => {
                self.health.set_down(Dependency::Postgres, outage);
                false
            }
        }
    }

    async fn sweep(&mut self) -> Result<bool, StoreError> {
        let lease = self.settings.lease;
        if let Some(since) = Instant::now().checked_sub(lease / 3) {
            let old = self.relay_queue.leases().held_since(since);
            if !old.is_empty() {
                self.outbox.renew(&old, lease).await?;
                self.relay_queue.leases().renewed(&old);
            }
        }
        if self.settings.transport == Transport::Exchange && self.adopts_at <= Instant::now() {
            self.outbox.adopt().await?;
            self.adopts_at = Instant::now() + ADOPTION;
        }
        let relay_queue = self.relay_queue.clone();
        let (mut reservations, more) = self.reserve_due(&relay_queue).await?;
        self.reserve_probes(&relay_queue, &mut reservations).await?;
        self.has_backlog = more;
        if !reservations.is_empty() {
            let ids: Vec<i64> = reservations.keys().copied().collect();
            for event_batch in self.outbox.take(&ids, lease).await? {
                if let Some(reservation) = reservations.remove(&event_batch.id) {
                    reservation.send(event_batch);
                }
            }
        }
        // Gives back the room of rows that another process has leased meanwhile.
        drop(reservations);
        // Without room nothing can be done before the next report, which starts a round, or the next tick.
        Ok(more && self.relay_queue.is_half_empty())
    }

    /// Drops replies that have been held for too long, and reserves room for a probe of each key that is held, at the
    /// interval `events.retry_held`, or a longer one if many rows are held.
    async fn reserve_probes<'q>(
        &mut self,
        relay_queue: &'q RelayQueue,
        reservations: &mut BTreeMap<i64, Reservation<'q>>,
    ) -> Result<(), StoreError> {
        let pause = (self.probing_took * PROBING_SHARE).min(LONGEST_PROBING_PAUSE);
        if self.probed_at.elapsed() < self.settings.retry_held.max(pause) {
            return Ok(());
        }
        let began = Instant::now();
        self.probed_at = began;
        let dropped = self.outbox.drop_held_replies(self.settings.hold_replies).await?;
        self.metrics.events_unroutable(UnroutableAction::Discarded).increment(dropped.unsigned_abs());
        let probes = self.outbox.probes(MOST_PROBED).await?;
        self.probing_took = began.elapsed();
        for row in probes {
            if let Some(reservation) = relay_queue.reserve_exactly(row.events, row.bytes) {
                reservations.entry(row.id).or_insert(reservation);
            }
        }
        Ok(())
    }

    /// Reserves room for rows without a lease, and for held rows that can be published again. Returns the reservations
    /// by row, and whether there may be more such rows.
    ///
    /// Rows are leased only after this, because a leased row without room would wait for its lease to run out. Rows
    /// without room are left to another round or another daemon, and half of the room is left to the workers.
    async fn reserve_due<'q>(
        &mut self,
        relay_queue: &'q RelayQueue,
    ) -> Result<(BTreeMap<i64, Reservation<'q>>, bool), StoreError> {
        let mut reservations = BTreeMap::new();
        if !relay_queue.is_half_empty() {
            return Ok((reservations, true));
        }
        let abandoned = self.outbox.abandoned(MOST_SWEPT).await?;
        let mut more = !reserve(relay_queue, &abandoned, &mut reservations);
        for (key, refused) in self.open_keys.clone() {
            let has_all = relay_queue.is_half_empty()
                && reserve(relay_queue, &self.outbox.held_of(&key, refused, MOST_SWEPT).await?, &mut reservations);
            if has_all {
                self.open_keys.retain(|open| *open != (key.clone(), refused));
            } else {
                more = true;
            }
        }
        Ok((reservations, more))
    }
}

/// Reserves room for rows while half of it is left. Returns whether all rows got room and the query left none out.
fn reserve<'q>(
    relay_queue: &'q RelayQueue,
    rows: &[RowSize],
    reservations: &mut BTreeMap<i64, Reservation<'q>>,
) -> bool {
    for row in rows {
        let reserved =
            relay_queue.is_half_empty().then(|| relay_queue.reserve_exactly(row.events, row.bytes)).flatten();
        let Some(reservation) = reserved else { return false };
        reservations.insert(row.id, reservation);
    }
    rows.len() < MOST_SWEPT
}

/// Limits the time for a server that does not answer. PostgreSQL's own timeouts are shorter.
pub(super) async fn within_limit<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, Outage> {
    match tokio::time::timeout(REPLY_LIMIT, work).await {
        Ok(done) => done.map_err(Outage::from),
        Err(_) => Err(format!("no answer within {} s", REPLY_LIMIT.as_secs()).into()),
    }
}
