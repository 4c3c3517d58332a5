//! The database side of the outbox: deletes what was published, holds what no queue took,
//! renews leases, sweeps what was left behind, and measures.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
#[cfg(feature = "sabotage")]
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{EventSettings, Handover, Report, Room};
use crate::health::{Dependency, Health};
#[cfg(feature = "sabotage")]
use crate::sabotage::{self, Defect};
use crate::store::outbox::{Depth, OutboxStore, RowSize};
use crate::store::{Parcel, StoreError};
use crate::telemetry::labels::UnroutableAction;
use crate::telemetry::metrics::Metrics;

/// How often the table is looked at.
const ROUND: Duration = Duration::from_millis(500);

/// How soon it is looked at again when there is more to do.
const SOON: Duration = Duration::from_millis(5);

/// How long PostgreSQL may take for a round.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// The most rows deleted with one statement.
const MOST_DELETED: usize = 256;

/// How long a deletion waits for others.
const GATHERING: Duration = Duration::from_millis(20);

/// The most rows swept in a round.
const MOST_SWEPT: usize = 256;

/// The most refused rows that are tried again in a round: each that is refused again closes a channel.
const MOST_REFUSED: usize = 8;

/// The keeper.
pub struct Keeper<O> {
    outbox: O,
    settings: EventSettings,
    handover: Handover,
    reports: mpsc::Receiver<Report>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    /// Routing keys for which a held parcel has just gone out, and whether it had been refused.
    open_keys: Vec<(String, bool)>,
    held_probed: Instant,
    depth: Depth,
    measured: Option<Instant>,
    measuring: Duration,
    /// Whether the last sweep left rows behind for want of room.
    backlog: bool,
    /// Where the last sweep ended.
    #[cfg(feature = "sabotage")]
    cursor: AtomicI64,
}

impl<O: OutboxStore> Keeper<O> {
    /// Keeps `outbox` until `stop` is cancelled and all reports are worked off.
    pub fn new(
        outbox: O,
        settings: EventSettings,
        handover: Handover,
        reports: mpsc::Receiver<Report>,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Self {
        let held_probed = Instant::now();
        Self {
            outbox,
            settings,
            handover,
            reports,
            health,
            metrics,
            stop,
            open_keys: Vec::new(),
            held_probed,
            depth: Depth::default(),
            measured: None,
            measuring: Duration::ZERO,
            backlog: false,
            #[cfg(feature = "sabotage")]
            cursor: AtomicI64::new(0),
        }
    }

    /// Runs until stopped.
    pub async fn run(mut self) {
        let mut rounds = tokio::time::interval(ROUND);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut reports = Vec::new();
        loop {
            tokio::select! {
                biased;
                // However many reports there are: leases run out.
                _ = rounds.tick() => {
                    if self.round().await {
                        rounds.reset_after(SOON);
                    }
                }
                count = self.reports.recv_many(&mut reports, MOST_DELETED) => {
                    if count == 0 {
                        return; // The relay is gone, and so is its last report.
                    }
                    self.gather(&mut reports).await;
                    self.work_off(&mut reports).await;
                    if self.backlog && self.handover.is_half_empty() {
                        rounds.reset_after(SOON);
                    }
                }
            }
        }
    }

    /// Has more reports come, unless the daemon stops: one deletion for all of them costs as much
    /// as one for each, and nobody waits for it.
    async fn gather(&mut self, reports: &mut Vec<Report>) {
        if reports.len() < MOST_DELETED && !self.stop.is_cancelled() {
            tokio::time::sleep(GATHERING).await;
        }
        while reports.len() < MOST_DELETED {
            let Ok(report) = self.reports.try_recv() else { break };
            reports.push(report);
        }
    }

    /// Deletes or holds; again until it is done, or the daemon stops.
    async fn work_off(&mut self, reports: &mut Vec<Report>) {
        while let Err(reason) = within_limit(self.settle(reports)).await {
            self.health.set_down(Dependency::Postgres, reason);
            if self.stop.is_cancelled() {
                return; // Published again after the restart.
            }
            tokio::time::sleep(ROUND).await;
        }
        for report in reports.drain(..) {
            self.handover.leases().release(report.id);
            if let (Some(key), true) = (report.held_key, report.unrouted.is_empty()) {
                debug!(%key, report.was_refused, "what was held is taken");
                let key = (key, report.was_refused);
                if !self.open_keys.contains(&key) {
                    self.open_keys.push(key);
                }
            }
        }
    }

    async fn settle(&self, reports: &[Report]) -> Result<(), StoreError> {
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

    /// Whether there is more to do at once. Besides, this is the probe that says whether
    /// PostgreSQL answers.
    async fn round(&mut self) -> bool {
        match within_limit(self.sweep()).await {
            Ok(more) => {
                self.health.set_up(Dependency::Postgres);
                more
            }
            Err(reason) => {
                self.health.set_down(Dependency::Postgres, reason);
                false
            }
        }
    }

    async fn sweep(&mut self) -> Result<bool, StoreError> {
        let lease = self.settings.lease;
        if let Some(since) = Instant::now().checked_sub(lease / 3) {
            let old = self.handover.leases().held_since(since);
            if !old.is_empty() {
                self.outbox.renew(&old, lease).await?;
                self.handover.leases().renewed(&old);
            }
        }
        self.measure().await?;
        let handover = self.handover.clone();
        let (mut rooms, more) = self.make_room(&handover).await?;
        self.probe(&handover, &mut rooms).await?;
        self.backlog = more;
        if !rooms.is_empty() {
            let ids: Vec<i64> = rooms.keys().copied().collect();
            give(self.outbox.take(&ids, lease).await?, rooms);
        }
        // Without room nothing changes before a report, which begins the next round itself, or the next tick.
        Ok(more && self.handover.is_half_empty())
    }

    /// Reserves room for what is tried again of what is held, while there is any at all. Replies are
    /// not held for ever.
    async fn probe<'h>(
        &mut self,
        handover: &'h Handover,
        rooms: &mut BTreeMap<i64, Room<'h>>,
    ) -> Result<(), StoreError> {
        if self.depth.held == 0 || self.held_probed.elapsed() < self.settings.retry_held {
            return Ok(());
        }
        self.held_probed = Instant::now();
        let dropped = self.outbox.drop_held_replies(self.settings.hold_replies).await?;
        self.metrics.events_unroutable(UnroutableAction::Discarded).increment(dropped.unsigned_abs());
        for row in self.outbox.probes(MOST_REFUSED).await? {
            if let Some(room) = handover.reserve_exactly(row.events, row.bytes) {
                rooms.entry(row.id).or_insert(room);
            }
        }
        Ok(())
    }

    /// Room first, then leases: a row that is leased without room would wait for its lease to run
    /// out. What there is no room for is another round's, or another daemon's; and half of the
    /// room is left to the workers. Answers the room for each row, and whether there are more.
    async fn make_room<'h>(&mut self, handover: &'h Handover) -> Result<(BTreeMap<i64, Room<'h>>, bool), StoreError> {
        let mut rooms = BTreeMap::new();
        if !handover.is_half_empty() {
            return Ok((rooms, true));
        }
        let abandoned = self.abandoned().await?;
        let mut more = !reserve(handover, &abandoned, &mut rooms);
        for (key, refused) in self.open_keys.clone() {
            let has_all = handover.is_half_empty()
                && reserve(handover, &self.outbox.held_of(&key, refused, MOST_SWEPT).await?, &mut rooms);
            if has_all {
                self.open_keys.retain(|open| *open != (key.clone(), refused));
            } else {
                more = true;
            }
        }
        Ok((rooms, more))
    }

    async fn abandoned(&self) -> Result<Vec<RowSize>, StoreError> {
        #[cfg(feature = "sabotage")]
        if sabotage::has(Defect::OutboxCursor) {
            let mut waiting = self.outbox.abandoned(MOST_SWEPT).await?;
            let cursor = waiting.iter().map(|row| row.id).max();
            let from = cursor.map_or(i64::MAX, |cursor| self.cursor.fetch_max(cursor, Ordering::Relaxed));
            waiting.retain(|row| row.id > from);
            return Ok(waiting);
        }
        self.outbox.abandoned(MOST_SWEPT).await
    }

    /// Looks at the table for the gauges: seldom, when looking takes long.
    async fn measure(&mut self) -> Result<(), StoreError> {
        if self.measured.is_some_and(|at| at.elapsed() < self.measuring * 20) {
            return Ok(());
        }
        let began = Instant::now();
        let dead_letters;
        (self.depth, dead_letters) = self.outbox.measure().await?;
        self.measured = Some(began);
        self.measuring = began.elapsed();
        self.metrics.outbox_depth.set(self.depth.events as f64);
        self.metrics.outbox_rows.set(self.depth.rows as f64);
        self.metrics.outbox_held.set(self.depth.held as f64);
        self.metrics.outbox_refused.set(self.depth.refused as f64);
        self.metrics.outbox_oldest_seconds.set(self.depth.oldest_seconds);
        self.metrics.dead_letters_open.set(dead_letters as f64);
        Ok(())
    }
}

/// Reserves room for rows, while half of it is left; whether these were all.
fn reserve<'h>(handover: &'h Handover, rows: &[RowSize], rooms: &mut BTreeMap<i64, Room<'h>>) -> bool {
    for row in rows {
        let room = handover.is_half_empty().then(|| handover.reserve_exactly(row.events, row.bytes)).flatten();
        let Some(room) = room else { return false };
        rooms.insert(row.id, room);
    }
    rows.len() < MOST_SWEPT
}

/// Leaves the parcels with the relay, each in its room.
fn give(parcels: Vec<Parcel>, mut rooms: BTreeMap<i64, Room<'_>>) {
    for parcel in parcels {
        if let Some(room) = rooms.remove(&parcel.id) {
            room.give(parcel);
        }
    }
}

/// The server's own limits come first; this one is for a server that doesn't answer.
async fn within_limit<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, String> {
    match tokio::time::timeout(ANSWER_LIMIT, work).await {
        Ok(answered) => answered.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", ANSWER_LIMIT.as_secs())),
    }
}
