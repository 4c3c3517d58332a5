//! Appends rows while this process has the lease and the session lasts.

use std::collections::BTreeMap;
use std::time::Duration;

use settled_core::contract::EventKind;
use smallvec::SmallVec;
use tokio::time::Instant;
use tracing::{error, warn};

use super::messages::{Run, runs, too_long};
use super::position::{NewGeneration, Position};
use super::relay::StreamRelay;
use super::store::{Advance, Given, Held, StreamStore};
use crate::health::Outage;
use crate::metrics::observe;
use crate::outbox::log::{EventLog, LogSession, SessionLost};
use crate::outbox::sweeper::within_limit;
use crate::store::{EventBatch, Unrouted};
use crate::traces::EventRecord;

/// The most rows that have ids at a time: their list is written with each change.
const MOST_ROWS: usize = 256;

/// Pause between two changes of the producer. Each is a transaction, for all rows that were committed meanwhile.
const GATHER: Duration = Duration::from_millis(3);

/// Pause before a change that only deletes rows that are done.
const TIDY: Duration = Duration::from_millis(20);

/// Interval at which the table is looked at for rows of other daemons.
const LOOK: Duration = Duration::from_millis(100);

/// How long confirms may be missing before that is reported, and before the session is given up.
const QUIET: Duration = Duration::from_secs(5);
const TOO_QUIET: Duration = Duration::from_secs(60);

/// How long PostgreSQL may take to record what is done, at the end.
const RECORD_LIMIT: Duration = Duration::from_secs(2);

/// Why appending has ended, while the session lasts.
#[derive(Debug)]
pub(super) enum Ended {
    /// The relay was stopped, once the daemon has drained or its time for that was over.
    Stopped,
    /// Another process is the producer.
    LeaseLost,
    /// PostgreSQL failed, so that it is not known what the producer's state is.
    Unknown(Outage),
}

impl From<Outage> for Ended {
    fn from(outage: Outage) -> Self {
        Self::Unknown(outage)
    }
}

/// What is known of a row that is appended, until it is confirmed.
#[derive(Debug)]
struct Appended {
    at: Instant,
    kinds: SmallVec<[(EventKind, u64); 2]>,
}

/// Appends on one session, as the producer.
pub(super) struct Appending<'r, P, L> {
    relay: &'r StreamRelay<P, L>,
    position: Position,
    generation: Option<NewGeneration>,
    version: i64,
    appended: BTreeMap<i64, Appended>,
    spans: BTreeMap<u64, Box<EventRecord>>,
    ids: Vec<u64>,
    /// Whether there may be rows without ids.
    has_more: bool,
    changed_at: Instant,
    looked_at: Instant,
    /// When the last confirm came, or since when confirms are missing.
    heard_at: Instant,
    is_quiet: bool,
}

impl<'r, P: StreamStore, L: EventLog> Appending<'r, P, L> {
    /// Goes on on a stream that has this highest id. `is_told` says that it is known, and was told, to be a new one.
    pub(super) fn resume(relay: &'r StreamRelay<P, L>, held: &Held, last_id: u64, is_told: bool) -> Self {
        let (position, generation) = Position::resume(held, last_id);
        let generation = generation.filter(|found| !is_told || *found != NewGeneration::StreamIsNew);
        let now = Instant::now();
        Self {
            relay,
            position,
            generation,
            version: held.version,
            appended: BTreeMap::new(),
            spans: BTreeMap::new(),
            ids: Vec::new(),
            has_more: true,
            changed_at: now,
            looked_at: now,
            heard_at: now,
            is_quiet: false,
        }
    }

    /// Appends until stopped, until the lease is lost, or until it isn't known whether it is.
    pub(super) async fn run(mut self, session: &mut L::Session) -> Result<Ended, SessionLost> {
        let ended = self.work(session).await;
        if self.is_quiet {
            self.relay.health.unblock();
        }
        if matches!(ended, Ok(Ended::Stopped) | Err(_)) && self.position.has_done() {
            // What is not recorded is appended again, and dropped by the stream.
            let _ = tokio::time::timeout(RECORD_LIMIT, self.change(0)).await;
        }
        ended
    }

    async fn work(&mut self, session: &mut L::Session) -> Result<Ended, SessionLost> {
        if let Err(ended) = self.begin_generation().await {
            return Ok(ended);
        }
        let mut rows = self.position.rows();
        loop {
            if let Err(ended) = self.append(session, &rows).await? {
                return Ok(ended);
            }
            if !self.wait(session).await? {
                return Ok(Ended::Stopped);
            }
            rows = match self.give().await {
                Ok(given) => given,
                Err(ended) => return Ok(ended),
            };
        }
    }

    /// Tells of a new generation. Ids that were given anew are committed before they are used.
    async fn begin_generation(&mut self) -> Result<(), Ended> {
        let Some(generation) = self.generation.take() else { return Ok(()) };
        match generation {
            NewGeneration::StreamIsNew => self.relay.tell_that_it_is_new(),
            NewGeneration::LedgerIsOlder => {
                self.relay.metrics.stream_generations.increment(1);
                warn!(
                    "the stream has events that the ledger doesn't know: the ledger was restored. Events may come again"
                );
                self.change(0).await?;
            }
        }
        Ok(())
    }

    /// Waits until the producer's row is to be changed, and settles confirms meanwhile. Returns false if stopped.
    async fn wait(&mut self, session: &mut L::Session) -> Result<bool, SessionLost> {
        let relay = self.relay;
        loop {
            let (now, due) = (Instant::now(), self.due());
            if now >= due {
                return Ok(true);
            }
            let wake = due.min(self.looked_at + LOOK);
            self.notice_silence(now)?;
            tokio::select! {
                biased;
                () = relay.stop.cancelled() => return Ok(false),
                heard = session.confirmed(&mut self.ids) => {
                    heard?;
                    self.settle();
                }
                () = relay.handover.arrived() => self.has_more = true,
                () = tokio::time::sleep_until(wake) => self.look().await,
            }
        }
    }

    /// Returns when the producer's row is to be changed next.
    fn due(&self) -> Instant {
        let (has_room, has_done) = (self.has_room(), self.position.has_done());
        let pause = match (self.has_more, has_room, has_done) {
            (true, true, _) | (true, false, true) => GATHER,
            (false, _, true) => TIDY,
            _ => self.relay.settings.lease / 3,
        };
        self.changed_at + pause
    }

    fn has_room(&self) -> bool {
        self.position.rows_open() < MOST_ROWS && self.position.events_open() < self.relay.settings.handover
    }

    /// Looks for rows of other daemons.
    async fn look(&mut self) {
        self.looked_at = Instant::now();
        if !self.has_more {
            // If it fails, the next change will.
            self.has_more = within_limit(self.relay.store.has_more(&self.position.rows())).await.unwrap_or(true);
        }
    }

    /// Says that confirms are missing, which a broker that is blocked doesn't say.
    fn notice_silence(&mut self, now: Instant) -> Result<(), SessionLost> {
        let silent = now - self.heard_at;
        if self.position.events_open() == 0 {
            self.heard_at = now;
        } else if silent > TOO_QUIET {
            return Err(SessionLost(format!("the stream has confirmed nothing for {} s", TOO_QUIET.as_secs())));
        } else if silent > QUIET && !self.is_quiet {
            self.is_quiet = true;
            self.relay.health.block(format!(
                "the stream has confirmed nothing for {} s: an alarm (rabbitmq-diagnostics alarms), or too few nodes",
                QUIET.as_secs()
            ));
        }
        Ok(())
    }

    fn settle(&mut self) {
        let (relay, now) = (self.relay, Instant::now());
        self.heard_at = now;
        if std::mem::take(&mut self.is_quiet) {
            relay.health.unblock();
        }
        for id in self.ids.drain(..) {
            if let Some(span) = self.spans.remove(&id) {
                relay.traces.published(EventRecord { confirmed: relay.traces.now().unwrap_or(span.sent), ..*span });
            }
            let done = self.position.confirmed(id).and_then(|row| self.appended.remove(&row));
            let Some(Appended { at, kinds }) = done else { continue };
            observe(&relay.metrics.event_confirm_seconds, now - at);
            for (kind, count) in kinds {
                relay.metrics.events_published(kind).increment(count);
            }
        }
    }

    /// Gives ids to rows that have none, and returns these.
    async fn give(&mut self) -> Result<Vec<i64>, Ended> {
        let room = if self.has_room() { MOST_ROWS - self.position.rows_open() } else { 0 };
        if room > 0 {
            // Whatever is committed from now on is not seen by this change, or by this look.
            self.relay.handover.look();
            self.has_more = false;
        }
        let given = self.change(room).await?;
        let events: usize = given.iter().map(|given| given.events as usize).sum();
        self.has_more |= room == 0 || given.len() == room || events >= self.relay.settings.handover;
        Ok(given.iter().map(|given| given.row).collect())
    }

    /// Changes the producer's row: what is done goes, and at most `most_rows` get ids.
    async fn change(&mut self, most_rows: usize) -> Result<Vec<Given>, Ended> {
        let kept = self.position.kept();
        let settings = &self.relay.settings;
        let advance = Advance {
            version: self.version,
            kept: &kept,
            lease: settings.lease,
            most_rows,
            most_events: settings.handover,
            most_bytes: settings.handover_bytes as usize / 2,
        };
        let given = within_limit(self.relay.store.advance(&advance)).await?.ok_or(Ended::LeaseLost)?;
        self.version += 1;
        self.changed_at = Instant::now();
        self.position.forget(kept.done.len());
        self.position.give(&given);
        self.relay.handover.found(self.has_more, self.position.rows_open());
        Ok(given)
    }

    /// Appends rows that have ids. Those that can't be appended are held in the outbox instead.
    async fn append(&mut self, session: &mut L::Session, rows: &[i64]) -> Result<Result<(), Ended>, SessionLost> {
        if rows.is_empty() {
            return Ok(Ok(()));
        }
        let bodies = match self.read(rows).await {
            Ok(bodies) => bodies,
            Err(error) => return Ok(Err(error.into())),
        };
        if self.position.events_open() == 0 {
            self.heard_at = Instant::now();
        }
        let mut held = Vec::new();
        let (runs, unreadable) = runs(&bodies, |row| self.position.first_id(row), self.relay.settings.header_prefix);
        for mut run in runs {
            self.note(&mut run);
            for place in session.append(run.first_id, &run.messages).await? {
                held.push((run.first_id + place as u64, too_long(&run.messages[place])));
            }
        }
        Ok(self.set_aside(held, unreadable).await.map_err(Ended::from))
    }

    /// Notes what is counted and traced when a run is confirmed.
    fn note(&mut self, run: &mut Run<'_>) {
        let (at, traced) = (Instant::now(), self.relay.traces.are_on());
        for (id, message) in (run.first_id..).zip(&mut run.messages) {
            if traced {
                message.begin_span();
                self.spans.extend(message.span.take().map(|span| (id, span)));
            }
            let Some(row) = self.position.row_of(id) else { continue };
            let appended = self.appended.entry(row).or_insert_with(|| Appended { at, kinds: SmallVec::new() });
            let Some(kind) = EventKind::from_name(&message.routing_key) else { continue };
            match appended.kinds.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, count)) => *count += 1,
                None => appended.kinds.push((kind, 1)),
            }
        }
    }

    /// Holds in the outbox what the stream can't have: events by their publishing ids, and whole rows.
    async fn set_aside(&mut self, events: Vec<(u64, Unrouted)>, rows: Vec<(i64, Unrouted)>) -> Result<(), Outage> {
        for (id, held) in events {
            if let Some(row) = self.position.row_of(id) {
                warn!(row, key = held.key, bytes = held.lines.len(), "an event is too long for the stream: it is held");
                within_limit(self.relay.store.set_aside(row, &[held])).await?;
            }
            self.spans.remove(&id);
            self.position.done(id);
        }
        for (row, held) in rows {
            error!(row, "a row of stream_outbox can't be read: held for a person to look at");
            within_limit(self.relay.store.set_aside(row, &[held])).await?;
            self.position.skip(row);
        }
        Ok(())
    }

    /// Returns the events of rows: those that were handed over, and the others from the table.
    async fn read(&mut self, rows: &[i64]) -> Result<Vec<EventBatch>, Outage> {
        let mut found: BTreeMap<i64, EventBatch> =
            rows.iter().filter_map(|row| Some((*row, self.relay.handover.take(*row)?))).collect();
        let missing: Vec<i64> = rows.iter().copied().filter(|row| !found.contains_key(row)).collect();
        if !missing.is_empty() {
            found.extend(within_limit(self.relay.store.read(&missing)).await?.into_iter().map(|row| (row.id, row)));
        }
        for &row in rows.iter().filter(|row| !found.contains_key(row)) {
            error!(row, "a row of stream_outbox is gone that was not confirmed: its events are missing in the stream");
            self.position.skip(row);
        }
        // Not in the order of their ids, if one was committed after its successor.
        Ok(rows.iter().filter_map(|row| found.remove(row)).collect())
    }
}
