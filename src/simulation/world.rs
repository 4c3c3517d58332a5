//! What is outside of the daemons: the queue, the exchange, the database, time and chance.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::broker::Queue;
use super::dice::Dice;
use super::exchange::Exchange;
use super::judge::Journal;
use super::weather::Weather;
use super::workload::Load;
use crate::ledger::Rules;
use crate::store::Memory;

/// When a simulation begins, in seconds since 1970.
pub(super) const EPOCH: i64 = 1_800_000_000;

/// The world of a run.
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) start: Instant,
    pub(super) weather: Weather,
    pub(super) load: Load,
    pub(super) journal: Journal,
    pub(super) queue: Mutex<Queue>,
    pub(super) exchange: Mutex<Exchange>,
    pub(super) tables: Mutex<Memory>,
    /// The tables as they were when replication was cut, while it is.
    standby: Mutex<Option<Memory>>,
    /// What is away: nobody gets through.
    pub(super) broker_away: Spell,
    pub(super) database_away: Spell,
    pub(super) blocked: Spell,
    pub(super) unbound: Spell,
    /// The faults are over.
    pub(super) calm: AtomicBool,
    dice: Dice,
}

impl World {
    pub(super) fn new(seed: u64, tell: bool) -> Arc<Self> {
        let weather = Weather::new(seed);
        let (load, start) = (Load::new(seed, &weather), Instant::now());
        Arc::new(Self {
            seed,
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

    /// The clock of the database.
    pub(super) fn now(&self) -> Timestamp {
        let micros = i64::try_from(self.start.elapsed().as_micros()).expect("a short run");
        Timestamp::from_microsecond(EPOCH * 1_000_000 + micros).expect("a time")
    }

    /// Whether something with this probability happens, while there are faults.
    pub(super) fn mishap(&self, probability: f64) -> bool {
        self.dice.chance(probability) && !self.calm.load(Ordering::Relaxed)
    }

    /// Until an answer comes.
    pub(super) async fn answer_takes(&self) {
        tokio::time::sleep(self.dice.span(self.weather.latency)).await;
    }

    pub(super) fn toss(&self) -> bool {
        self.dice.chance(0.5)
    }

    /// A number below `end`.
    pub(super) fn below(&self, end: usize) -> usize {
        self.dice.between(0, end - 1)
    }

    /// Something is so for a while; several whiles add up.
    pub(super) fn for_a_while(self: &Arc<Self>, what: fn(&Self) -> &Spell, lasts: Duration) {
        what(self).change(|count| count + 1);
        let world = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(lasts).await;
            what(&world).change(|count| count.saturating_sub(1));
        });
    }

    /// Commits wait for a standby from now on, in vain. In the end it is heard again, or the primary
    /// `is_lost`.
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

    /// Whether commits are here only.
    pub(super) fn is_cut(&self) -> bool {
        self.standby.lock().is_some()
    }

    fn end_cut(&self, is_lost: bool) {
        let Some(standby) = self.standby.lock().take().filter(|_| is_lost) else { return };
        self.journal.note(|| "the primary is lost, the standby takes its place".to_owned());
        *self.tables.lock() = standby;
    }

    /// What is left if the primary is lost.
    pub(super) fn durable<T>(&self, look: impl FnOnce(&Memory) -> T) -> T {
        match &*self.standby.lock() {
            Some(standby) => look(standby),
            None => look(&self.tables.lock()),
        }
    }

    /// The faults are over.
    pub(super) fn clear_up(&self) {
        self.journal.note(|| "the faults are over".to_owned());
        self.end_cut(false);
        self.calm.store(true, Ordering::Relaxed);
        for what in [&self.broker_away, &self.database_away, &self.blocked, &self.unbound] {
            what.change(|_| 0);
        }
    }
}

/// Something that is so for a while. Whoever waits for it is woken in order, which a watch channel
/// would not do.
#[derive(Debug, Default)]
pub(super) struct Spell {
    /// How many whiles there are.
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

    /// Until it is so, or is so no more.
    pub(super) async fn becomes(&self, on: bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.is_on() == on {
                return;
            }
            changed.await;
        }
    }
}

/// A daemon's process: what is dead does nothing more, though its tasks may not know.
#[derive(Clone, Debug, Default)]
pub(super) struct Life {
    pub(super) ended: CancellationToken,
}

impl Life {
    /// Goes on if the process does; never returns if not.
    pub(super) async fn goes_on(&self) {
        if self.ended.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }

    /// Does something outside of the process, which is left where it is if the process ends.
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
