//! The reckoning after a run: nothing lost, nothing doubled, and nothing that a ledger of one thread
//! would not have done by the same order.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use serde_json::Value;
use settled_testkit::harness::{Daemon, World, amqp, bind, declare_queue, within};
use settled_testkit::replay::{self, Replayed, Settings};

use crate::load::Load;

/// How long the last of a run may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A durable queue that keeps the events of a run, whatever happens to whom; or the stream of the events itself.
pub(crate) struct Archive {
    queue: String,
    arguments: FieldTable,
    is_stream: bool,
}

impl Archive {
    /// Keeps all events from here on. In a cluster it outlives any of its nodes.
    pub(crate) async fn open(world: &World) -> Self {
        let is_cluster = !world.other_amqp_uris.is_empty();
        let arguments =
            if is_cluster { amqp::table(&[("x-queue-type", "quorum".into())]) } else { FieldTable::default() };
        let archive = Self { queue: format!("{}.archive", world.name), arguments, is_stream: false };
        archive.bind(world).await;
        archive
    }

    /// Reads the stream, in which each event has to be once.
    pub(crate) fn stream(world: &World) -> Self {
        Self { queue: world.stream.clone(), arguments: FieldTable::default(), is_stream: true }
    }

    /// Binds it, again if the exchange was deleted.
    pub(crate) async fn bind(&self, world: &World) {
        let (_connection, channel) = world.channel().await;
        amqp::declare_exchange(&channel, &world.events_exchange).await;
        declare_queue(&channel, &self.queue, QueueDeclareOptions::durable(), self.arguments.clone()).await;
        bind(&channel, &self.queue, &world.events_exchange, "#").await;
    }

    /// How many events are in it.
    pub(crate) async fn count(&self, world: &World) -> u32 {
        world.messages(&self.queue).await
    }

    /// The ids of all events in it, each as often as it came: all that were confirmed are there.
    pub(crate) async fn ids(&self, world: &World) -> Vec<String> {
        if self.is_stream {
            return self.ids_of_stream(world).await;
        }
        let count = world.messages(&self.queue).await;
        let (_connection, channel) = world.channel().await;
        let no_ack = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consumer = channel.basic_consume(self.queue.as_str().into(), "".into(), no_ack, FieldTable::default());
        let mut consumer = consumer.await.expect("a consumer");
        let mut ids = Vec::new();
        for _ in 0..count {
            let event = tokio::time::timeout(LIMIT, consumer.next()).await.expect("an event in time");
            let event = event.expect("an event").expect("the connection holds");
            ids.push(event.properties.message_id().as_ref().expect("an id").to_string());
        }
        ids
    }
}

impl Archive {
    /// Reads the stream from its beginning, until nothing more comes.
    async fn ids_of_stream(&self, world: &World) -> Vec<String> {
        const SILENCE: Duration = Duration::from_secs(1);
        let (_connection, channel) = world.channel().await;
        channel.basic_qos(2000, BasicQosOptions::default()).await.expect("a prefetch");
        let first = amqp::table(&[("x-stream-offset", "first".into())]);
        let consumer =
            channel.basic_consume(self.queue.as_str().into(), "".into(), BasicConsumeOptions::default(), first);
        let mut consumer = consumer.await.expect("a consumer");
        let mut ids = Vec::new();
        let mut limit = LIMIT;
        while let Ok(event) = tokio::time::timeout(limit, consumer.next()).await {
            let event = event.expect("an event").expect("the connection holds");
            event.ack(BasicAckOptions::default()).await.expect("acknowledged");
            ids.push(event.properties.message_id().as_ref().expect("an id").to_string());
            limit = SILENCE;
        }
        ids
    }
}

/// Asserts that the events of each account are in the order in which the ledger has its entries.
async fn in_order(world: &World, came: &[String]) {
    let places: HashMap<&str, usize> =
        came.iter().enumerate().map(|(place, id)| (id.split('/').next().expect("a task"), place)).collect();
    let entries = world.rows("SELECT account, seq, payment_id FROM entry ORDER BY account, seq", &[]).await;
    for (one, next) in entries.iter().zip(entries.iter().skip(1)) {
        let place = |entry: &Value| places[entry["payment_id"].as_str().expect("an id")];
        if one["account"] == next["account"] && one["payment_id"] != next["payment_id"] {
            assert!(place(one) < place(next), "{next} is told before {one}");
        }
    }
}

/// What a run came to, to be printed.
#[derive(Debug)]
#[allow(dead_code, reason = "read by Debug")]
pub(crate) struct Reckoning {
    pub(crate) payments: usize,
    pub(crate) events: usize,
    pub(crate) repeated_events: usize,
    pub(crate) replayed: Replayed,
    pub(crate) replayed_in: Duration,
}

/// Waits until every published task has its outcome and every event went out.
pub(crate) async fn settled(world: &World, load: &Load) {
    let ids = load.ids();
    let dead = (load.conflicts + load.malformed) as i64;
    let missing = "SELECT $2::bigint - (SELECT count(*) FROM dead_letter) AS dead,
                          cardinality($1::uuid[]) - (SELECT count(*) FROM payment WHERE id = ANY($1)) AS payments,
                          (SELECT count(*) FROM outbox) + (SELECT count(*) FROM stream_outbox) AS outbox";
    let mut last = None;
    let (began, mut looked) = (Instant::now(), Instant::now());
    within(LIMIT, "every published task has its outcome", async || {
        if let Some(mut rows) = world.try_rows(missing, &[&ids, &dead]).await {
            last = rows.pop();
        }
        if looked.elapsed() > Duration::from_secs(10) {
            looked = Instant::now();
            eprintln!("after {:?} still missing: {last:?}", began.elapsed());
        }
        last.as_ref().is_some_and(|row| row["dead"] == 0 && row["payments"] == 0 && row["outbox"] == 0)
    })
    .await;
}

/// Settles the account of a run: the daemon still runs, or had the time to finish.
pub(crate) async fn reckon(world: &World, load: &Load, archive: &Archive) -> Reckoning {
    settled(world, load).await;
    within(LIMIT, "the queue is empty", async || world.waiting().await == 0).await;

    let ids = load.ids();
    let outcomes = "SELECT count(*) AS n, count(*) FILTER (WHERE state = 'rejected') AS rejected,
                           (SELECT count(*) FROM dead_letter WHERE reason = 'idempotency_conflict') AS conflicts,
                           (SELECT count(*) FROM dead_letter) AS dead
                      FROM payment WHERE id = ANY($1)";
    let found = world.rows(outcomes, &[&ids]).await.pop().expect("a row");
    assert_eq!(found["n"], load.ids.len(), "one outcome for each id");
    // Of an id that came with two amounts either may have come first.
    assert_eq!(found["rejected"], load.rejected, "only what nobody could pay is rejected");
    assert_eq!(found["conflicts"], load.conflicts, "one dead letter for each altered repetition");
    assert_eq!(found["dead"], load.conflicts + load.malformed, "no dead letter but for what is no task");
    assert_eq!(world.messages(&world.dead_letter_queue).await, 0, "the broker gave nothing up");

    let all: BTreeSet<String> = world
        .rows("SELECT id FROM payment", &[])
        .await
        .iter()
        .map(|row| format!("{}/1", row["id"].as_str().expect("an id")))
        .collect();
    let came = archive.ids(world).await;
    let unique: BTreeSet<String> = came.iter().cloned().collect();
    if archive.is_stream {
        assert_eq!(came.len(), unique.len(), "no event is in the stream twice");
        in_order(world, &came).await;
    }
    let lost: Vec<_> = all.difference(&unique).take(3).collect();
    let invented: Vec<_> = unique.difference(&all).take(3).collect();
    assert!(
        lost.is_empty() && invented.is_empty(),
        "{} events of {}: lost {lost:?}, invented {invented:?}",
        unique.len(),
        all.len()
    );

    world.audit().await;
    let began = Instant::now();
    let replayed = replay::replay(&world.sql().await, &Settings::default()).await;
    let replayed = replayed.unwrap_or_else(|found| panic!("the replay comes to something else: {found}"));
    assert_eq!(replayed.tasks, all.len());
    let (events, repeated_events) = (unique.len(), came.len() - unique.len());
    Reckoning { payments: load.ids.len(), events, repeated_events, replayed, replayed_in: began.elapsed() }
}

/// Settles the account of a run, prints what it came to, and stops the daemon.
pub(crate) async fn finish(what: &str, world: &World, load: &Load, archive: &Archive, daemon: Daemon) -> Reckoning {
    let reckoning = reckon(world, load, archive).await;
    println!("{what}: {reckoning:?}");
    daemon.stop().await;
    reckoning
}
