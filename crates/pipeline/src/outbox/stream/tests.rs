//! Two daemons, a database and a stream that fail at random: whoever reads the stream from its beginning finds each
//! event once, and causes before effects. If the stream has partitions, whoever reads all of them finds each event once,
//! and in each partition causes before effects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Advance, Given, Handover, Held, StreamRelay, StreamStore};
use crate::health::{Health, Outage};
use crate::metrics::Metrics;
use crate::outbox::log::{EventLog, LogSession, SessionLost};
use crate::outbox::publication::Publication;
use crate::outbox::settings::EventSettings;
use crate::retry::RetrySettings;
use crate::store::{EventBatch, StoreError, Unrouted};

/// Draws numbers from a seed, whoever asks.
#[derive(Clone)]
struct Chance(Arc<AtomicU64>, Arc<AtomicU64>);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed)), Arc::new(AtomicU64::new(40)))
    }

    /// Draws below `limit` (splitmix64).
    fn below(&self, limit: u64) -> u64 {
        let mut drawn = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (drawn ^ (drawn >> 31)) % limit
    }

    /// Whether something fails: one time in forty, and never after [`Self::heal`].
    fn fails(&self) -> bool {
        let one_in = self.1.load(Ordering::Relaxed);
        one_in > 0 && self.below(one_in) == 0
    }

    fn heal(&self) {
        self.1.store(0, Ordering::Relaxed);
    }

    /// Waits a little, or seldom for longer than a lease lasts.
    async fn pause(&self, most_millis: u64) {
        let frozen = if self.fails() && self.below(3) == 0 { 1_500 } else { 0 };
        sleep(Duration::from_millis(frozen + self.below(most_millis))).await;
    }
}

#[derive(Default)]
struct Tables {
    next_row: i64,
    rows: BTreeMap<i64, EventBatch>,
    set_aside: Vec<Unrouted>,
    version: i64,
    holder: u64,
    leased_until: Option<Instant>,
    first_id: u64,
    confirmed_id: u64,
    given: Vec<Given>,
}

#[derive(Clone)]
struct Store {
    tables: Arc<Mutex<Tables>>,
    chance: Chance,
    holder: u64,
}

impl Store {
    /// Carries out a statement, or fails before or after it.
    async fn statement<T>(&self, work: impl FnOnce(&mut Tables) -> T) -> Result<T, StoreError> {
        self.chance.pause(4).await;
        if self.chance.fails() {
            return Err(StoreError::Unavailable("before".to_owned()));
        }
        let done = work(&mut self.tables.lock());
        self.chance.pause(4).await;
        if self.chance.fails() { Err(StoreError::OutcomeUnknown("after".to_owned())) } else { Ok(done) }
    }
}

impl StreamStore for Store {
    async fn producer(&self) -> Result<String, StoreError> {
        self.statement(|_| "settled/test".to_owned()).await
    }

    async fn take(&self, lease: Duration) -> Result<Option<Held>, StoreError> {
        let taken = |tables: &mut Tables| {
            let is_free = tables.leased_until.is_none_or(|until| until < Instant::now());
            (is_free || tables.holder == self.holder).then(|| {
                (tables.holder, tables.leased_until) = (self.holder, Some(Instant::now() + lease));
                tables.version += 1;
                let Tables { version, first_id, confirmed_id, ref given, .. } = *tables;
                Held { version, first_id: first_id.max(1), confirmed_id, rows: given.clone() }
            })
        };
        self.statement(taken).await
    }

    async fn advance(&self, advance: &Advance<'_>) -> Result<Option<Vec<Given>>, StoreError> {
        let change = |tables: &mut Tables| {
            if (tables.version, tables.holder) != (advance.version, self.holder) {
                return None;
            }
            let kept = advance.kept;
            kept.done.iter().for_each(|row| drop(tables.rows.remove(row)));
            let free = tables.rows.values().filter(|row| !kept.rows.contains(&row.id)).take(advance.most_rows);
            let mut events = 0;
            let more: Vec<Given> = free
                .map(|row| Given { row: row.id, events: row.events })
                .take_while(|given| {
                    let fits = events < advance.most_events;
                    events += given.events as usize;
                    fits
                })
                .collect();
            let stays = kept.rows.iter().zip(&kept.events);
            tables.given = stays.map(|(row, events)| Given { row: *row, events: events.unsigned_abs() }).collect();
            tables.given.extend(&more);
            (tables.first_id, tables.confirmed_id) = (kept.first_id, kept.confirmed_id);
            tables.version += 1;
            tables.leased_until = Some(Instant::now() + advance.lease);
            Some(more)
        };
        self.statement(change).await
    }

    async fn read(&self, rows: &[i64]) -> Result<Vec<EventBatch>, StoreError> {
        self.statement(|tables| rows.iter().filter_map(|row| tables.rows.get(row)).map(copy).collect()).await
    }

    async fn has_more(&self, given: &[i64]) -> Result<bool, StoreError> {
        self.statement(|tables| tables.rows.keys().any(|row| !given.contains(row))).await
    }

    async fn set_aside(&self, _: i64, held: &[Unrouted]) -> Result<(), StoreError> {
        self.statement(|tables| tables.set_aside.extend_from_slice(held)).await
    }

    async fn give_back(&self) -> Result<(), StoreError> {
        self.statement(|tables| {
            if tables.holder == self.holder {
                tables.leased_until = None;
            }
        })
        .await
    }
}

fn copy(row: &EventBatch) -> EventBatch {
    EventBatch { id: row.id, body: row.body.clone(), events: row.events, held_key: None, held_reason: None }
}

/// What a partition of the stream has.
#[derive(Clone, Default)]
struct Partition {
    last_id: u64,
    ids: Vec<String>,
}

/// Returns the place of the partition of an event.
fn place(payment: &str, partitions: usize) -> usize {
    payment.bytes().map(usize::from).sum::<usize>() % partitions
}

type Stream = Vec<Partition>;

#[derive(Clone)]
struct Log {
    stream: Arc<Mutex<Stream>>,
    chance: Chance,
    /// Whether each session has declared a partition anew.
    is_renewed: bool,
}

struct LogOf {
    log: Log,
    unconfirmed: Vec<u64>,
}

impl EventLog for Log {
    type Session = LogOf;

    async fn open(&self, _: &str) -> Result<LogOf, Outage> {
        self.chance.pause(10).await;
        if self.chance.fails() {
            return Err("away".into());
        }
        Ok(LogOf { log: self.clone(), unconfirmed: Vec::new() })
    }
}

impl LogSession for LogOf {
    async fn last_id(&mut self) -> Result<u64, SessionLost> {
        self.log.chance.pause(5).await;
        Ok(self.log.stream.lock().iter().map(|partition| partition.last_id).max().expect("a partition"))
    }

    fn is_renewed(&self) -> bool {
        self.log.is_renewed
    }

    async fn append(&mut self, first_id: u64, messages: &[Publication<'_>]) -> Result<Vec<usize>, SessionLost> {
        let partitions = self.log.stream.lock().len();
        let of = |message: &Publication<'_>| place(&message.payment_id(), partitions);
        // One partition after the other, beginning with any: if it fails, some have all, and others nothing.
        let first = self.log.chance.below(partitions as u64) as usize;
        for partition in (0..partitions).map(|number| (first + number) % partitions) {
            for (id, message) in (first_id..).zip(messages).filter(|(_, message)| of(message) == partition) {
                if self.log.chance.below(8) == 0 {
                    self.log.chance.pause(3).await;
                }
                if self.log.chance.fails() {
                    return Err(SessionLost("reset".to_owned()));
                }
                let partition = &mut self.log.stream.lock()[partition];
                if id > partition.last_id {
                    partition.last_id = id;
                    partition.ids.push(message.message_id.to_string());
                }
                self.unconfirmed.push(id);
            }
        }
        Ok(Vec::new())
    }

    async fn confirmed(&mut self, ids: &mut Vec<u64>) -> Result<(), SessionLost> {
        if self.unconfirmed.is_empty() {
            std::future::pending::<()>().await;
        }
        self.log.chance.pause(6).await;
        if self.log.chance.fails() {
            return Err(SessionLost("reset before the confirm".to_owned()));
        }
        let some = 1 + self.log.chance.below(self.unconfirmed.len() as u64) as usize;
        ids.extend(self.unconfirmed.drain(..some));
        Ok(())
    }

    async fn close(self) {}
}

/// A daemon of which only the relay is left.
struct Daemon {
    handover: Handover,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

fn daemon(number: u64, tables: &Arc<Mutex<Tables>>, stream: &Arc<Mutex<Stream>>, chance: &Chance) -> Daemon {
    let (handover, stop, metrics) = (Handover::new(4000), CancellationToken::new(), Arc::new(Metrics::register(1)));
    let health = Health::new(Arc::clone(&metrics));
    health.use_stream();
    let settings = EventSettings { lease: Duration::from_secs(1), handover: 20, ..EventSettings::default() };
    let store = Store { tables: Arc::clone(tables), chance: chance.clone(), holder: number };
    let log = Log { stream: Arc::clone(stream), chance: chance.clone(), is_renewed: false };
    let retry = RetrySettings { initial: Duration::from_millis(20), ..RetrySettings::default() };
    let relay = StreamRelay::new(store, log, settings, retry.into(), handover.clone(), health, metrics, stop.clone());
    Daemon { handover, stop, running: tokio::spawn(relay.run()) }
}

/// How many payments there are. An event of the same remainder is of the same payment.
const PAYMENTS: u64 = 7;

/// Returns the id of the payment of an event.
fn payment(event: u64) -> String {
    format!("payment-{}", event % PAYMENTS)
}

fn event(id: u64) -> String {
    let of = payment(id);
    format!(r#"{{"id":"{id}","source":"s","type":"payment.settled","subject":"{of}","time":"t","data":{{}}}}"#) + "\n"
}

/// Commits a row with a few events. Its number is taken some time before it becomes visible. Returns the events.
async fn commit(tables: &Mutex<Tables>, chance: &Chance, next_event: &AtomicU64, to: &Handover) -> Vec<u64> {
    let id = {
        let mut tables = tables.lock();
        tables.next_row += 1;
        tables.next_row
    };
    chance.pause(30).await;
    let events: Vec<u64> = (0..=chance.below(4)).map(|_| next_event.fetch_add(1, Ordering::Relaxed)).collect();
    let body: String = events.iter().map(|id| event(*id)).collect();
    let row =
        EventBatch { id, body: body.into_bytes(), events: events.len() as u32, held_key: None, held_reason: None };
    tables.lock().rows.insert(id, copy(&row));
    chance.pause(3).await;
    to.offer(row);
    events
}

/// Runs two daemons with everything failing, then until all is appended. Returns what each writer has committed in its
/// order, and what each partition has.
async fn run(seed: u64, partitions: usize) -> (Vec<Vec<u64>>, Vec<Vec<u64>>) {
    let (chance, tables) = (Chance::new(seed), Arc::default());
    let stream = Arc::new(Mutex::new(vec![Partition::default(); partitions]));
    let mut daemons: Vec<Daemon> = (0..2).map(|number| daemon(number, &tables, &stream, &chance)).collect();
    let mut generation = 2;
    let next_event = AtomicU64::new(1);
    let mut written = vec![Vec::new(); 3];
    for _ in 0..60 {
        let handovers = daemons.iter().map(|daemon| daemon.handover.clone()).collect::<Vec<_>>();
        // Three writers at a time, each after its own last commit.
        let [one, two, three] = [0, 1, 1].map(|of: usize| commit(&tables, &chance, &next_event, &handovers[of]));
        let (one, two, three) = tokio::join!(one, two, three);
        for (writer, events) in written.iter_mut().zip([one, two, three]) {
            writer.extend(events);
        }
        if chance.below(8) == 0 {
            let killed = chance.below(2) as usize;
            daemons[killed].running.abort();
            daemons[killed] = daemon(generation, &tables, &stream, &chance);
            generation += 1;
        }
    }
    chance.heal();
    let done = async {
        while !tables.lock().rows.is_empty() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(600), done).await.expect("all rows are appended, confirmed and deleted");
    for daemon in daemons {
        daemon.stop.cancel();
        daemon.running.await.expect("it ends");
    }
    assert!(tables.lock().set_aside.is_empty());
    let number = |id: &String| id.parse().expect("a number");
    let found = stream.lock().iter().map(|partition| partition.ids.iter().map(number).collect()).collect();
    (written, found)
}

/// Returns how many new generations a relay tells of that becomes the producer. Ten events are confirmed, and the stream
/// has them up to `last_id`.
async fn generations(is_renewed: bool, last_id: u64) -> String {
    let chance = Chance::new(1);
    chance.heal();
    let tables = Tables { first_id: 11, confirmed_id: 10, ..Tables::default() };
    let store = Store { tables: Arc::new(Mutex::new(tables)), chance: chance.clone(), holder: 1 };
    let stream = vec![Partition { last_id, ids: Vec::new() }, Partition::default()];
    let log = Log { stream: Arc::new(Mutex::new(stream)), chance, is_renewed };
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = Arc::new(metrics::with_local_recorder(&recorder, || Metrics::register(1)));
    let (health, stop, handover) = (Health::new(Arc::clone(&metrics)), CancellationToken::new(), Handover::new(100));
    let (settings, retry) = (EventSettings::default(), RetrySettings::default());
    let relay = StreamRelay::new(store, log, settings, retry.into(), handover.clone(), health, metrics, stop.clone());
    let running = tokio::spawn(relay.run());
    // Only once it is the producer, and has looked for rows.
    let handle = recorder.handle();
    while !handle.render().contains("\nsettled_stream_producer 1") || !handover.is_idle() {
        sleep(Duration::from_millis(10)).await;
    }
    stop.cancel();
    running.await.expect("it ends");
    let text = handle.render();
    let counted = text.lines().find_map(|line| line.strip_prefix("settled_stream_generations_total "));
    counted.expect("a counter").to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_which_something_is_new_is_told_once() {
    assert_eq!(generations(false, 10).await, "0");
    assert_eq!(generations(false, 4).await, "1", "all of it is new");
    assert_eq!(generations(true, 10).await, "1", "a partition is new");
    assert_eq!(generations(true, 4).await, "1", "a partition is new, and had the highest id");
}

/// Runs some seeds. Each event is there once, and in each partition those of a writer are in the order of its commits.
fn check(partitions: usize) {
    for seed in 0..40 {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let (written, found) = runtime.block_on(run(seed, partitions));
        let mut sorted = found.concat();
        sorted.sort_unstable();
        let all: Vec<u64> = (1..=written.iter().map(Vec::len).sum::<usize>() as u64).collect();
        assert_eq!(sorted, all, "seed {seed}: each event once");
        for (number, found) in found.iter().enumerate() {
            assert!(!found.is_empty(), "seed {seed}: nothing in partition {number}");
            for writer in &written {
                let order: Vec<u64> = found.iter().copied().filter(|id| writer.contains(id)).collect();
                let of = |id: &u64| place(&payment(*id), partitions) == number;
                let expected: Vec<u64> = writer.iter().copied().filter(of).collect();
                assert_eq!(order, expected, "seed {seed}, partition {number}: in the order of its commits");
            }
        }
    }
}

#[test]
fn the_stream_has_every_event_once_and_causes_before_effects() {
    check(1);
}

#[test]
fn its_partitions_have_every_event_once_and_those_of_a_payment_in_one_and_in_order() {
    check(3);
}
