//! Reflexes: what the daemon does by itself when something is wrong, before a person is there.
//!
//! Each is bounded (an action is made at most three times an hour), reversible (nothing is lost by it), told (log,
//! metrics, `/readyz`), and undone when its cause has gone or when somebody reloads another mode. By default they only
//! tell what they would do.

mod journal;
mod latch;
mod quarantine;
mod settings;
mod signs;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

pub use self::journal::{MOST_WAITING, keep};
pub use self::latch::MOST;
use self::latch::{Change, Latch};
pub use self::quarantine::Quarantine;
pub use self::settings::{DiskPath, Mode, ReflexSettings};
pub use self::signs::Signs;
use self::signs::{Clock, Window};
use crate::health::Health;
pub use crate::labels::Reflex;
use crate::labels::{Clock as WhichClock, ReflexAction};
use crate::metrics::Metrics;
use crate::settings::Live;
use crate::store::JournalEntry;

/// Interval between two looks.
const INTERVAL: Duration = Duration::from_millis(500);

/// How far a clock may go back without a cause for anything.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);

impl Reflex {
    /// Returns what it looks for, what it does, and what ends that, for the documents.
    pub const fn described(self) -> [&'static str; 3] {
        match self {
            Self::Invariant => [
                "a dead letter `unprocessable` is open: the ledger and PostgreSQL disagree",
                "no tasks are taken, and nothing that is due is done",
                "all of them are replayed or discarded",
            ],
            Self::Clock => [
                "the clock of the daemon or of PostgreSQL has gone back by more than a second",
                "as above",
                "it has caught up with the latest time that it has shown",
            ],
            Self::Disk => [
                "less than `reflexes.disk_free_min` of a disk in `reflexes.disk_paths` is free",
                "as above, while PostgreSQL can still write",
                "twice as much is free",
            ],
            Self::Publisher => [
                "more than `reflexes.publisher_dead_letters` of a `[[publisher]]`'s messages are dead letters",
                "its messages become dead letters `quarantined`, unread; those of others go on",
                "`reflexes.quarantine` is over",
            ],
        }
    }

    /// Whether its action is that no tasks are taken.
    pub const fn pauses(self) -> bool {
        !matches!(self, Self::Publisher)
    }
}

/// A reflex, and of which publisher; empty for those that are about the daemon.
type Key = (Reflex, String);

/// Looks for causes and acts, until it is stopped.
pub struct Reflexes<D> {
    settings: Live<ReflexSettings>,
    signs: Arc<Signs>,
    quarantine: Arc<Quarantine>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    disk_free: D,
    journal: mpsc::Sender<JournalEntry>,
    stop: CancellationToken,
    latches: BTreeMap<Key, Latch>,
    clock: Clock,
    windows: BTreeMap<String, Window>,
    full: BTreeMap<String, f64>,
    /// Paths whose disk can't be read, which was logged.
    unseen: BTreeSet<String>,
}

impl<D: Fn(&Path) -> Option<f64> + Copy + Send + 'static> Reflexes<D> {
    /// Creates the task. `disk_free` returns the free part of the disk that has a directory. What it does is also sent
    /// to `journal`, see [`keep`].
    pub fn new(
        settings: Live<ReflexSettings>,
        (signs, quarantine): (Arc<Signs>, Arc<Quarantine>),
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        disk_free: D,
        journal: mpsc::Sender<JournalEntry>,
        stop: CancellationToken,
    ) -> Self {
        let (latches, windows, full, unseen, clock) = Default::default();
        Self {
            settings,
            signs,
            quarantine,
            health,
            metrics,
            disk_free,
            journal,
            stop,
            latches,
            clock,
            windows,
            full,
            unseen,
        }
    }

    /// Runs until stopped.
    pub async fn run(mut self) {
        let mut rounds = tokio::time::interval(INTERVAL);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop = self.stop.clone();
        while stop.run_until_cancelled(rounds.tick()).await.is_some() {
            self.look().await;
        }
    }

    /// Looks for causes once. Called before intake begins, so that a restarted daemon takes nothing first.
    pub async fn look(&mut self) {
        let settings = self.settings.get();
        let causes = self.causes(&settings).await;
        self.react(&causes, &settings);
    }

    /// Returns the reason of each reflex that has a cause.
    async fn causes(&mut self, settings: &ReflexSettings) -> BTreeMap<Key, String> {
        let own = |reflex, reason: Option<String>| reason.map(|reason| ((reflex, String::new()), reason));
        let disk = self.disk(settings).await;
        let mut causes: BTreeMap<Key, String> =
            [own(Reflex::Invariant, self.invariant()), own(Reflex::Clock, self.clock_back()), own(Reflex::Disk, disk)]
                .into_iter()
                .flatten()
                .collect();
        causes.extend(self.publishers(settings));
        causes
    }

    fn invariant(&self) -> Option<String> {
        let open = self.signs.unprocessable();
        (open > 0).then(|| {
            format!(
                "{open} dead letters `unprocessable` are open: the ledger and PostgreSQL disagree. See `settled \
                 dead-letters list --reason unprocessable`; it ends when they are replayed or discarded"
            )
        })
    }

    fn clock_back(&mut self) -> Option<String> {
        let behind = [
            (WhichClock::Daemon, self.clock.shows(Timestamp::now())),
            (WhichClock::Database, self.signs.database_behind()),
        ];
        for (which, behind) in behind {
            self.metrics.clock_behind_seconds(which).set(behind.as_secs_f64());
        }
        let (which, behind) = behind.into_iter().find(|(_, behind)| *behind > CLOCK_TOLERANCE)?;
        let seconds = behind.as_secs_f64();
        Some(format!("the clock of the {} has gone back, and is {seconds:.1} s behind", which.name()))
    }

    async fn disk(&mut self, settings: &ReflexSettings) -> Option<String> {
        let paths: Vec<_> = settings.disk_paths.iter().map(|path| path.path().to_owned()).collect();
        let mut found = Vec::new();
        if !paths.is_empty() {
            let disk_free = self.disk_free;
            // A disk of a network may take its time.
            let look = move || paths.into_iter().map(|path| (path.display().to_string(), disk_free(&path))).collect();
            found = tokio::task::spawn_blocking(look).await.unwrap_or_default();
        }
        let (least, before) = (settings.disk_free_min, std::mem::take(&mut self.full));
        for (path, free) in found {
            self.metrics.disk_free_ratio(&path).set(free.unwrap_or(f64::NAN));
            if free.is_some() {
                self.unseen.remove(&path);
            } else if self.unseen.insert(path.clone()) {
                warn!(
                    path,
                    "this disk of reflexes.disk_paths can't be seen, and isn't watched: see BindReadOnlyPaths= of the unit"
                );
            }
            let enough = if before.contains_key(&path) { 2.0 * least } else { least };
            if let Some(free) = free.filter(|free| *free < enough) {
                self.full.insert(path, free);
            }
        }
        let (path, free) = self.full.first_key_value()?;
        Some(format!("{:.1} % of the disk of {path} is free; it ends at {} %", 100.0 * free, 200.0 * least))
    }

    fn publishers(&mut self, settings: &ReflexSettings) -> Vec<(Key, String)> {
        let (now, mut causes) = (Instant::now(), Vec::new());
        let traffic = self.metrics.traffic();
        self.windows.retain(|name, _| traffic.iter().any(|(own, _)| own == name));
        for (name, seen) in traffic {
            if self.windows.entry(name.clone()).or_default().judge(seen, settings, now) {
                let share = 100.0 * settings.publisher_dead_letters;
                let reason = format!("more than {share} % of the messages of {name:?} are dead letters");
                causes.push(((Reflex::Publisher, name), reason));
            }
        }
        causes
    }

    fn react(&mut self, causes: &BTreeMap<Key, String>, settings: &ReflexSettings) {
        let now = Instant::now();
        for key in causes.keys() {
            self.latches.entry(key.clone()).or_default();
        }
        let mut latches = std::mem::take(&mut self.latches);
        for (key, latch) in &mut latches {
            let reason = causes.get(key);
            if let Some(change) = latch.step(reason.is_some(), settings.mode(key.0), now) {
                self.carry_out(key, change, reason.map_or("", String::as_str));
            }
        }
        for &reflex in Reflex::ALL {
            let acting = latches.iter().filter(|((of, _), latch)| *of == reflex && latch.is_acting()).count();
            let mode = settings.mode(reflex);
            let found = causes.keys().filter(|(of, _)| *of == reflex && mode != Mode::Off).count();
            self.metrics.reflex_active(reflex).set(acting as f64);
            self.metrics.reflex_cause(reflex).set(found as f64);
        }
        latches.retain(|_, latch| !latch.is_forgettable(now));
        self.latches = latches;
    }

    fn carry_out(&self, (reflex, of): &Key, change: Change, reason: &str) {
        let (name, publisher) = (reflex.name(), Some(of.as_str()).filter(|of| !of.is_empty()));
        let (action, reason) = match change {
            Change::Observed => {
                warn!(reflex = name, publisher, reason, "a reflex would act, and is set to observe");
                (ReflexAction::Observed, reason)
            }
            Change::Suppressed => {
                warn!(
                    reflex = name,
                    publisher, reason, "a reflex has acted {MOST} times within the hour: it does nothing"
                );
                (ReflexAction::Suppressed, reason)
            }
            Change::Acted => {
                warn!(reflex = name, publisher, reason, "a reflex acts");
                self.health.act(*reflex, of, reason);
                (ReflexAction::Acted, reason)
            }
            Change::Undone | Change::CalledOff => {
                let reason = if change == Change::CalledOff { "another mode was set" } else { "its cause is gone" };
                info!(reflex = name, publisher, reason, "what a reflex did is undone");
                self.health.undo(*reflex, of);
                (ReflexAction::Undone, reason)
            }
        };
        if *reflex == Reflex::Publisher && matches!(action, ReflexAction::Acted | ReflexAction::Undone) {
            self.quarantine.set(of, action == ReflexAction::Acted);
        }
        self.metrics.reflex_actions(*reflex, action).increment(1);
        let (publisher, reason) = (publisher.map(str::to_owned), reason.to_owned());
        let entry =
            JournalEntry { id: Uuid::now_v7(), at: Timestamp::now(), reflex: *reflex, action, publisher, reason };
        // If the database is away for so long that there is no room, the log has it.
        let _ = self.journal.try_send(entry);
    }
}
