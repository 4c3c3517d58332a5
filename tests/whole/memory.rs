//! What the daemon keeps in memory while the database doesn't answer, and that it gives it back: a table of limits
//! and sizes. With `SETTLED_TEST_MEMORY=full` there are several times as many messages, which takes ten minutes.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::json;
use settled_testkit::harness::{Daemon, Publisher, Task, World, eventually, split, transfer, within};

/// What the daemon may have in memory at any time.
const MOST: u64 = 256 << 20;

/// What it has again when all of it is done: most of that is its own code and the buffers of its connections.
const AFTERWARDS: u64 = 128 << 20;

/// How long a load may take to be worked off.
const LONG: Duration = Duration::from_secs(600);

/// The small number, or the one that was asked for.
fn count(few: usize, many: usize) -> usize {
    if std::env::var("SETTLED_TEST_MEMORY").is_ok_and(|size| size == "full") { many } else { few }
}

/// A world with the defaults of what is measured, and a daemon.
async fn start() -> (World, Daemon) {
    let defaults = ["pipeline.lanes = 1", "pipeline.workers = 1", "pipeline.max_batch = 1000"];
    let (world, daemon) = World::with_daemon(&defaults).await;
    (world, daemon)
}

/// Has the load published while nothing can be committed; then all of it must come to what it should.
async fn bounded(what: &str, world: &World, mut daemon: Daemon, publish: impl AsyncFnOnce(&Publisher), done: &str) {
    let database = world.sql().await;
    let lock = "BEGIN; LOCK TABLE account, payment, dead_letter IN ACCESS EXCLUSIVE MODE";
    database.batch_execute(lock).await.expect("locked");
    publish(&world.publisher().await).await;
    let mut seen = (-1.0, -1.0);
    within(LONG, "it takes no more", async || {
        let before = std::mem::replace(&mut seen, taken(&mut daemon).await);
        tokio::time::sleep(Duration::from_millis(500)).await;
        seen.0 > 0.0 && before == seen
    })
    .await;
    let waiting = daemon.memory("VmHWM:");
    assert_eq!(daemon.get("/livez").await.0, 200, "{what}: who waits for the database lives");
    database.batch_execute("COMMIT").await.expect("unlocked");
    within(LONG, &format!("{what}: {done}"), async || {
        world.try_rows(done, &[]).await.is_some_and(|rows| rows[0]["done"] == true)
    })
    .await;
    within(LONG, "all of it is acknowledged", async || {
        taken(&mut daemon).await == (0.0, 0.0) && world.waiting().await == 0
    })
    .await;
    let peak = daemon.memory("VmHWM:");
    let mut after = 0;
    within(LONG, &format!("{what}: memory goes back, of {} MiB", peak >> 20), async || {
        after = daemon.memory("VmRSS:");
        after < AFTERWARDS
    })
    .await;
    println!("{what}: {} MiB waiting, {} MiB at most, {} MiB afterwards", waiting >> 20, peak >> 20, after >> 20);
    assert!(peak <= MOST, "{what}: {} MiB, {} of them while nothing was committed", peak >> 20, waiting >> 20);
    world.end(daemon).await;
    assert_eq!(world.messages(&world.dead_letter_queue).await, 0);
}

/// Deliveries that are not settled, and their memory.
async fn taken(daemon: &mut Daemon) -> (f64, f64) {
    (daemon.metric("settled_tasks_in_flight", &[]).await, daemon.metric("settled_tasks_memory_bytes", &[]).await)
}

fn settled(count: usize) -> String {
    format!(
        "SELECT count(*) = {count} AS done FROM payment WHERE type::text <> 'open_account' AND state::text = 'settled'"
    )
}

fn dead(reason: &str, count: usize) -> String {
    format!("SELECT count(*) = {count} AS done FROM dead_letter WHERE reason::text = '{reason}'")
}

#[tokio::test]
async fn bodies_of_megabytes_are_cut_before_they_are_kept() {
    let (world, daemon) = start().await;
    let count = count(60, 250);
    let publish = async |publisher: &Publisher| {
        let mut body = vec![b'x'; 8 << 20];
        for number in 0..count {
            // They differ at the end only.
            let end = body.len() - 8;
            body[end..].copy_from_slice(&(number as u64).to_be_bytes());
            publisher.raw("task.transfer", &body, BasicProperties::default()).await;
        }
    };
    bounded("bodies of 8 MiB", &world, daemon, publish, &dead("oversize", count)).await;
}

#[tokio::test]
async fn tasks_as_large_as_they_may_be_are_taken_and_committed_a_few_at_a_time() {
    let (world, daemon) = start().await;
    let names: Vec<String> = (0..65).map(|number| format!("{number:064}")).collect();
    world.open(&names).await;
    let count = count(400, 5000);
    let legs: Vec<(&str, &str, i64)> = (0..64).map(|leg| (&*names[leg], &*names[leg + 1], 1)).collect();
    let metadata: serde_json::Map<_, _> = (0..50).map(|key| (format!("key {key}"), "é".repeat(465).into())).collect();
    let publish = async |publisher: &Publisher| {
        for _ in 0..count {
            let task = split(&legs).with("metadata", json!(metadata));
            assert!((58 << 10..64 << 10).contains(&task.body().len()), "{}", task.body().len());
            publisher.publish(&task).await;
        }
    };
    bounded("tasks of 58 KiB with 64 legs", &world, daemon, publish, &settled(count)).await;
}

#[tokio::test]
async fn what_is_no_task_and_not_too_large_for_one_is_taken_a_few_at_a_time() {
    let (world, daemon) = start().await;
    let publish = async |publisher: &Publisher| {
        for number in 0..2000 {
            let body = format!("{number:09}{}", " ".repeat((64 << 10) - 9));
            publisher.raw("task.transfer", body.as_bytes(), BasicProperties::default()).await;
        }
    };
    bounded("bodies of 64 KiB that are no task", &world, daemon, publish, &dead("malformed", 2000)).await;
}

#[tokio::test]
async fn small_tasks_are_as_many_as_the_prefetch_allows() {
    let (world, daemon) = start().await;
    world.open(["world", "alice"]).await;
    let count = count(10_000, 100_000);
    let publish = async |publisher: &Publisher| {
        for _ in 0..count / 1000 {
            let tasks: Vec<Task> = (0..1000).map(|_| transfer("world", "alice", 1)).collect();
            publisher.publish_all(&tasks).await;
        }
    };
    bounded("small tasks", &world, daemon, publish, &settled(count)).await;
}

#[tokio::test]
async fn headers_count_by_what_they_take_in_memory() {
    let (world, daemon) = start().await;
    world.open(["world", "alice"]).await;
    let count = count(300, 2000);
    // Five bytes each on the wire, and more than a hundred in memory.
    let letters = || (b'a'..=b'z').map(char::from);
    let names = letters().flat_map(|one| letters().flat_map(move |two| letters().map(move |three| (one, two, three))));
    let mut headers = FieldTable::default();
    for (one, two, three) in names {
        headers.insert(format!("{one}{two}{three}").into(), AMQPValue::Void);
    }
    let publish = async |publisher: &Publisher| {
        for _ in 0..count {
            let task = transfer("world", "alice", 1);
            publisher.publish_with(&task, Publisher::properties(&task).with_headers(headers.clone())).await;
        }
    };
    bounded("headers of 86 KiB", &world, daemon, publish, &settled(count)).await;
}

/// A world with room for few deliveries, heartbeats in quick succession, and tasks that wait for the database.
async fn full(database: &tokio_postgres::Client, world: &World, daemon: &mut Daemon) -> Vec<Task> {
    world.open(["world", "alice"]).await;
    database.batch_execute("BEGIN; LOCK TABLE account IN ACCESS EXCLUSIVE MODE").await.expect("locked");
    let metadata: serde_json::Map<_, _> = (0..50).map(|key| (format!("key {key}"), "x".repeat(500).into())).collect();
    let tasks: Vec<Task> = (0..300).map(|_| transfer("world", "alice", 1).with("metadata", json!(metadata))).collect();
    world.publisher().await.publish_all(&tasks).await;
    eventually("the memory is used up", async || taken(daemon).await.1 >= f64::from(1 << 20)).await;
    tasks
}

const LITTLE: [&str; 3] =
    ["broker.prefetch_bytes = 1048576", "broker.heartbeat = \"3s\"", "pipeline.drain_timeout = \"20s\""];

#[tokio::test]
async fn a_connection_that_nothing_is_read_from_stays_alive_until_the_broker_gives_it_up() {
    let (world, mut daemon) = World::with_daemon(&LITTLE).await;
    let database = world.sql().await;
    let tasks = full(&database, &world, &mut daemon).await;
    // Each side gives up the other one after two heartbeats, of three seconds; RabbitMQ gives up who takes nothing after
    // half a minute.
    let seconds = count(12, 45);
    tokio::time::sleep(Duration::from_secs(seconds as u64)).await;
    let (count, bytes) = taken(&mut daemon).await;
    assert!(count > 0.0 && count < 100.0 && bytes < f64::from(2 << 20), "{count} tasks, {bytes} bytes");
    database.batch_execute("COMMIT").await.expect("unlocked");
    world.all_are("settled", &tasks).await;
    let reconnects = daemon.metric("settled_reconnects_total", &[("connection", "intake")]).await;
    assert_eq!(reconnects, if seconds > 30 { 1.0 } else { 0.0 }, "once, when there is room again");
    world.end(daemon).await;
    assert_eq!(world.messages(&world.dead_letter_queue).await, 0);
}

#[tokio::test]
async fn a_stop_gets_its_answer_from_a_connection_that_nothing_is_read_from() {
    let (world, mut daemon) = World::with_daemon(&LITTLE).await;
    let database = world.sql().await;
    let tasks = full(&database, &world, &mut daemon).await;
    daemon.signal(rustix::process::Signal::TERM);
    // Longer than the answer to a cancel is waited for.
    tokio::time::sleep(Duration::from_secs(3)).await;
    database.batch_execute("COMMIT").await.expect("unlocked");
    daemon.exits(0).await;
    assert!(!daemon.log().contains("did not answer"), "{}", daemon.tail());
    // It has acknowledged what it has committed, and nothing else.
    let settled = world.count("payment WHERE type::text = 'transfer'").await;
    let waiting = u64::from(world.waiting().await);
    assert_eq!((settled > 0, settled + waiting), (true, tasks.len() as u64));
    let daemon = world.daemon().await;
    world.all_are("settled", &tasks).await;
    world.end(daemon).await;
}
