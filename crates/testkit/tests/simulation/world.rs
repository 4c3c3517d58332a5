//! The environment of the daemons in a run: queue, exchange, database, clock and random numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use settled_core::ledger::Rules;
use settled_testkit::defects::Defect;
use settled_testkit::memory::Memory;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::dice::Dice;
use super::exchange::Exchange;
use super::journal::Journal;
use super::message::EPOCH;
use super::queue::Queue;
use super::weather::Weather;
use super::workload::Load;

/// A seeded bug, for testing that the simulation finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    None,
    /// All daemons have this defect.
    Of(Defect),
    /// The store treats rows that it has only read as durable.
    TrustedLookups,
}

impl Flaw {
    /// Returns the defect of the daemons, if they have one.
    pub(super) const fn defect(self) -> Option<Defect> {
        match self {
            Self::Of(defect) => Some(defect),
            Self::None | Self::TrustedLookups => None,
        }
    }
}

/// The shared state of a run.
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) flaw: Flaw,
    pub(super) start: Instant,
    pub(super) weather: Weather,
    pub(super) load: Load,
    pub(super) journal: Journal,
    pub(super) queue: Mutex<Queue>,
    pub(super) exchange: Mutex<Exchange>,
    pub(super) tables: Mutex<Memory>,
    /// While replication is cut: the tables at the time of the cut.
    standby: Mutex<Option<Memory>>,
    /// While the count isn't zero, the server or its function is unavailable.
    pub(super) broker_away: Spell,
    pub(super) database_away: Spell,
    pub(super) blocked: Spell,
    pub(super) unbound: Spell,
    /// Set when the faults are over.
    pub(super) calm: AtomicBool,
    dice: Dice,
}

impl World {
    pub(super) fn new(seed: u64, flaw: Flaw, tell: bool) -> Arc<Self> {
        let weather = Weather::new(seed);
        let load = Load::new(seed, &weather);
        Self::of(seed, flaw, tell, weather, load)
    }

    /// Returns a world without messages and without faults, whose servers answer at once.
    pub(super) fn calm() -> Arc<Self> {
        Self::of(0, Flaw::None, false, Weather::default(), Load::default())
    }

    fn of(seed: u64, flaw: Flaw, tell: bool, weather: Weather, load: Load) -> Arc<Self> {
        let start = Instant::now();
        Arc::new(Self {
            seed,
            flaw,
            start,
            load,
            weather,
            journal: Journal::new(start, tell),
            queue: Mutex::default(),
            exchange: Mutex::default(),
            tables: Mutex::new(Memory::new(Rules::default())),
            standby: Mutex::new(None),
            broker_away: Spell::default(),
            database_away: Spell::default(),
            blocked: Spell::default(),
            unbound: Spell::default(),
            calm: AtomicBool::new(false),
            dice: Dice::new(seed, "world"),
        })
    }

    /// Returns the time of the database's clock.
    pub(super) fn now(&self) -> Timestamp {
        let micros = i64::try_from(self.start.elapsed().as_micros()).expect("a short run");
        Timestamp::from_microsecond(EPOCH * 1_000_000 + micros).expect("a time")
    }

    /// Returns true with this probability, as long as there are faults.
    pub(super) fn mishap(&self, probability: f64) -> bool {
        self.dice.chance(probability) && !self.calm.load(Ordering::Relaxed)
    }

    /// Waits for the random latency of a reply.
    pub(super) async fn answer_takes(&self) {
        if !self.weather.latency.is_zero() {
            tokio::time::sleep(self.dice.span(self.weather.latency)).await;
        }
    }

    pub(super) fn toss(&self) -> bool {
        self.dice.chance(0.5)
    }

    /// Returns a number below `end`.
    pub(super) fn below(&self, end: usize) -> usize {
        self.dice.between(0, end - 1)
    }

    /// Turns a condition on for a duration. It is off when all overlapping calls have ended.
    pub(super) fn for_a_while(self: &Arc<Self>, what: fn(&Self) -> &Spell, lasts: Duration) {
        what(self).change(|count| count + 1);
        let world = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(lasts).await;
            what(&world).change(|count| count.saturating_sub(1));
        });
    }

    /// Disconnects the standby for a duration: commits wait for it. After that it is reconnected or, if `is_lost`, it
    /// replaces the primary.
    pub(super) fn cut_replication(self: &Arc<Self>, lasts: Duration, is_lost: bool) {
        if self.is_cut() {
            return;
        }
        *self.standby.lock() = Some(self.tables.lock().clone());
        let world = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(lasts).await;
            world.end_cut(is_lost);
        });
    }

    /// Returns true if the standby is disconnected.
    pub(super) fn is_cut(&self) -> bool {
        self.standby.lock().is_some()
    }

    fn end_cut(&self, is_lost: bool) {
        let Some(standby) = self.standby.lock().take().filter(|_| is_lost) else { return };
        self.journal.note(|| "the primary is lost, the standby takes its place".to_owned());
        *self.tables.lock() = standby;
    }

    /// Calls `look` with the tables that remain if the primary is lost now.
    pub(super) fn durable<T>(&self, look: impl FnOnce(&Memory) -> T) -> T {
        match &*self.standby.lock() {
            Some(standby) => look(standby),
            None => look(&self.tables.lock()),
        }
    }

    /// Ends all faults.
    pub(super) fn clear_up(&self) {
        self.journal.note(|| "the faults are over".to_owned());
        self.end_cut(false);
        self.calm.store(true, Ordering::Relaxed);
        for what in [&self.broker_away, &self.database_away, &self.blocked, &self.unbound] {
            what.change(|_| 0);
        }
    }
}

/// A condition that is on for limited durations. Tasks that wait for it are woken in order, which a watch channel
/// doesn't guarantee.
#[derive(Debug, Default)]
pub(super) struct Spell {
    /// Number of durations that have not ended.
    count: AtomicU32,
    changed: Notify,
}

impl Spell {
    pub(super) fn is_on(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    fn change(&self, change: impl FnOnce(u32) -> u32) {
        self.count.store(change(self.count.load(Ordering::Relaxed)), Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    /// Waits until the condition is on or off.
    pub(super) async fn becomes(&self, on: bool) {
        until(&self.changed, || (self.is_on() == on).then_some(())).await;
    }
}

/// Calls `look`, and calls it again after each notification, until it returns something.
pub(super) async fn until<T>(changed: &Notify, mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        let mut notified = std::pin::pin!(changed.notified());
        // From now on, so that no change after the look is missed.
        notified.as_mut().enable();
        if let Some(found) = look() {
            return found;
        }
        notified.await;
    }
}

/// The process of a daemon. Once it has ended, it must have no more effects, although its tasks may still run.
#[derive(Clone, Debug, Default)]
pub(super) struct Life {
    pub(super) ended: CancellationToken,
}

impl Life {
    /// Returns if the process is running. Never returns if it has ended.
    pub(super) async fn goes_on(&self) {
        if self.ended.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }

    /// Runs work that has effects outside the process. If the process ends meanwhile, the work is dropped and this
    /// never returns.
    pub(super) async fn outside<T>(&self, work: impl Future<Output = T>) -> T {
        self.goes_on().await;
        let done = tokio::select! {
            biased;
            () = self.ended.cancelled() => None,
            done = work => Some(done),
        };
        match done {
            Some(done) => done,
            None => std::future::pending().await,
        }
    }
}
