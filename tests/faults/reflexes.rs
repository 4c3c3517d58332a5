//! What the daemon does by itself: each reflex of a real daemon after its real cause, and how it ends.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Signal, geteuid};
use serde_json::{Value, json};
use settled_testkit::harness::{
    self, Daemon, Publisher, SOON, World, eventually, postgres_with, servers, transfer, within,
};
use settled_testkit::servers::ServersOptions;

use crate::{seconds, turn};

/// Five seconds are promised; twice that for a machine that compiles.
const PROMISED: Duration = Duration::from_secs(10);

/// A constraint that is stricter than the ledger.
pub(crate) const REFUSE: &str = "ALTER TABLE payment DROP CONSTRAINT payment_amount,
    ADD CONSTRAINT payment_amount CHECK (reference IS DISTINCT FROM 'poison')";

/// Waits until a reflex acts that pauses intake. Returns what `/readyz` says of it.
async fn acts(daemon: &mut Daemon, reflex: &str) -> Value {
    let (began, mut action) = (Instant::now(), Value::Null);
    within(PROMISED, &format!("{reflex} acts"), async || {
        let (status, report) = daemon.readiness().await;
        action = report["reflexes"][0].clone();
        assert!(action.is_null() || report["status"] == "paused" && status == 503, "{report}");
        action["reflex"] == reflex
    })
    .await;
    println!("{reflex}: acted {} after its cause: {}", seconds(began.elapsed()), action["reason"]);
    action
}

/// Waits until nothing that a reflex did is in effect.
async fn undone(daemon: &mut Daemon, reflex: &str) {
    let began = Instant::now();
    let gone = async || daemon.metric("settled_reflex_active", &[("reflex", reflex)]).await == 0.0;
    within(PROMISED, &format!("{reflex} is undone"), gone).await;
    println!("{reflex}: undone {} later", seconds(began.elapsed()));
}

async fn count(daemon: &mut Daemon, reflex: &str, action: &str) -> f64 {
    daemon.metric("settled_reflex_actions_total", &[("reflex", reflex), ("action", action)]).await
}

/// A daemon that has just made a dead letter of a task that the ledger finds correct.
async fn that_disagrees(overrides: &[&str]) -> (World, Daemon) {
    let (world, daemon) = World::with_daemon(overrides).await;
    world.open_world_and_alice().await;
    world.sql().await.batch_execute(REFUSE).await.expect("a constraint");
    let poison = transfer("world", "alice", 1).with("reference", "poison");
    world.publisher().await.publish(&poison).await;
    world.is_dead_letter(&poison, json!({"reason": "unprocessable"})).await;
    (world, daemon)
}

#[tokio::test]
async fn while_ledger_and_database_disagree_no_task_is_taken_until_the_dead_letter_is_resolved() {
    let _turn = turn().await;
    let (world, mut daemon) = that_disagrees(&["reflexes.invariant = \"act\""]).await;
    let action = acts(&mut daemon, "invariant").await;
    assert!(action["reason"].as_str().is_some_and(|reason| reason.contains("--reason unprocessable")), "{action}");
    assert_eq!(daemon.get("/livez").await.0, 200, "a restart would not help");
    let (now, due) = (transfer("world", "alice", 2), transfer("world", "alice", 3));
    world.publisher().await.publish_all([&now, &due]).await;
    eventually("they lie in the queue", async || world.waiting().await == 2).await;

    // Another daemon sees it, too.
    let mut second = world.starting_daemon();
    eventually("it says why", async || {
        second.try_get("/readyz").await.is_some_and(|(_, report)| report.contains("\"reflex\":\"invariant\""))
    })
    .await;
    second.stop().await;
    assert_eq!(world.waiting().await, 2);

    let letters = world.prints(&["dead-letters", "list", "--reason", "unprocessable"]).await;
    let id = letters[0]["id"].to_string();
    world.succeeds(&["dead-letters", "discard", &id]).await;
    undone(&mut daemon, "invariant").await;
    world.all_are("settled", &[now, due]).await;
    daemon.ready().await;
    assert_eq!(
        (count(&mut daemon, "invariant", "acted").await, count(&mut daemon, "invariant", "undone").await),
        (1.0, 1.0)
    );
    let told = world.prints(&["reflexes"]).await;
    let told: Vec<_> = told.as_array().expect("a list").iter().map(|row| [&row["reflex"], &row["action"]]).collect();
    assert_eq!(
        told,
        [["invariant", "undone"], ["invariant", "acted"], ["invariant", "acted"]],
        "of both, the last one first"
    );
    assert!(daemon.log().contains("a reflex acts") && daemon.log().contains("is undone"), "{}", daemon.tail());
    daemon.stop().await;
}

#[tokio::test]
async fn by_default_it_is_only_told_what_would_be_done() {
    let _turn = turn().await;
    let (world, mut daemon) = that_disagrees(&[]).await;
    let told = async || count(&mut daemon, "invariant", "observed").await == 1.0;
    within(PROMISED, "it is told", told).await;
    assert_eq!(daemon.metric("settled_reflex_cause", &[("reflex", "invariant")]).await, 1.0);
    assert!(daemon.log().contains("a reflex would act"), "{}", daemon.tail());
    world.settle(&[transfer("world", "alice", 2)]).await;
    assert_eq!(daemon.readiness().await.0, 200);
    daemon.stop().await;
}

#[tokio::test]
async fn a_reload_calls_off_what_a_reflex_did() {
    let _turn = turn().await;
    let (world, mut daemon) = that_disagrees(&["reflexes.invariant = \"act\""]).await;
    acts(&mut daemon, "invariant").await;
    world.configure(&["reflexes.invariant = \"observe\""]);
    daemon.signal(Signal::HUP);
    undone(&mut daemon, "invariant").await;
    world.settle(&[transfer("world", "alice", 2)]).await;
    assert!(daemon.log().contains("another mode was set"), "{}", daemon.tail());
    daemon.stop().await;
}

/// The disk of a PostgreSQL that has its own, as seen from here.
pub(crate) async fn data_directory(world: &World) -> PathBuf {
    let client = world.sql().await;
    let row = client.query_one("SELECT current_setting('data_directory'), pg_backend_pid()", &[]).await.expect("a row");
    let (directory, backend): (String, i32) = (row.get(0), row.get(1));
    let parent = |process: &str| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
        status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent").trim().to_owned()
    };
    // Who has started the postmaster has the disk, too, and stays when PostgreSQL is stopped.
    let guardian = parent(&parent(&backend.to_string()));
    PathBuf::from(format!("/proc/{guardian}/root{directory}"))
}

/// Makes a file as long or short as leaves this part of the disk free.
pub(crate) fn leave_free(file: &Path, part: f64) {
    let disk = rustix::fs::statvfs(file.parent().expect("a directory")).expect("a disk");
    let more = (disk.f_bavail as f64 - disk.f_blocks as f64 * part) * disk.f_frsize as f64;
    let mut ballast = fs::File::options().create(true).append(true).open(file).expect("a file");
    if more < 0.0 {
        let length = ballast.metadata().expect("its length").len();
        ballast.set_len(length.saturating_sub((-more) as u64)).expect("shorter");
    } else {
        ballast.write_all(&vec![0; more as usize]).expect("longer");
    }
}

#[tokio::test]
async fn before_the_disk_is_full_no_more_tasks_are_taken_until_there_is_room() {
    if !geteuid().is_root() {
        println!("skipped: only root can give PostgreSQL a disk that is full soon");
        return;
    }
    let _turn = turn().await;
    let servers = postgres_with(ServersOptions { postgres_space: Some(320 << 20), ..ServersOptions::default() }).await;
    let world = World::between(harness::servers().await, &servers, &[]).await;
    let directory = data_directory(&world).await;
    world.configure(&[
        "reflexes.disk = \"act\"",
        &format!("reflexes.disk_paths = [{:?}]", directory.display().to_string()),
    ]);
    let mut daemon = world.daemon().await;
    world.open_world_and_alice().await;
    let ballast = directory.join("ballast-of-a-test");
    leave_free(&ballast, 0.04);
    acts(&mut daemon, "disk").await;
    let waits = transfer("world", "alice", 1);
    world.publisher().await.publish(&waits).await;
    eventually("it lies in the queue", async || world.waiting().await == 1).await;
    assert_eq!(daemon.metric("settled_paused", &[]).await, 0.0, "PostgreSQL still writes");

    // A little more is not enough, or it would begin and end all the time.
    leave_free(&ballast, 0.07);
    eventually("it is seen", async || daemon.metric("settled_disk_free_ratio", &[]).await > 0.06).await;
    assert_eq!(daemon.metric("settled_reflex_active", &[("reflex", "disk")]).await, 1.0);
    fs::remove_file(&ballast).expect("removed");
    undone(&mut daemon, "disk").await;
    world.all_are("settled", &[waits]).await;
    daemon.stop().await;
    servers.shutdown().await.expect("nothing is left");
}

#[tokio::test]
async fn a_publisher_of_rubbish_is_set_aside_and_others_go_on() {
    let _turn = turn().await;
    let may = "types = [\"*\"], debit = [\"*\"], credit = [\"*\"], accounts = [\"*\"], replies = [\"*\"]";
    let good = format!("good_{}", uuid::Uuid::now_v7().simple());
    servers().await.rabbitmqctl(&["add_user", &good, "secret"]).await.expect("a user");
    servers().await.rabbitmqctl(&["set_permissions", &good, ".*", ".*", ".*"]).await.expect("permissions");
    let publishers = format!("publisher = [{{name = \"guest\", {may}}}, {{name = {good:?}, {may}}}]");
    let anybody = "authority.verified = true";
    let mut world =
        World::new(&[&publishers, anybody, "reflexes = { publisher = \"act\", quarantine = \"1h\" }"]).await;
    let mut daemon = world.daemon().await;
    let bad = world.publisher().await;
    let own = world.amqp_uri.clone();
    world.amqp_uri = own.replace("guest:guest", &format!("{good}:secret"));
    let other = world.publisher().await;
    world.amqp_uri = own;
    let by = |task, name: &str| Publisher::properties(task).with_user_id(name.into());
    let publish = async |publisher: &Publisher, task, name: &str| publisher.publish_with(task, by(task, name)).await;
    let opening = [harness::open("world", "USD", None), harness::open("alice", "USD", Some(0))];
    for task in &opening {
        publish(&other, task, &good).await;
    }
    world.all_are("settled", &opening).await;

    for number in 0..150 {
        let body = format!("{{\"nonsense\": {number}}}");
        let properties = lapin::BasicProperties::default().with_user_id("guest".into());
        bad.raw("task.transfer", body.as_bytes(), properties).await;
    }
    let began = Instant::now();
    let active = async || daemon.metric("settled_reflex_active", &[("reflex", "publisher")]).await == 1.0;
    within(PROMISED, "it is in quarantine", active).await;
    println!("publisher: set aside {} after its last message", seconds(began.elapsed()));
    let (status, report) = daemon.readiness().await;
    assert_eq!((status, &report["reflexes"][0]["publisher"]), (200, &json!("guest")), "{report}");

    let (set_aside, goes_on) = (transfer("world", "alice", 1), transfer("world", "alice", 2));
    publish(&bad, &set_aside, "guest").await;
    publish(&other, &goes_on, &good).await;
    world.all_are("settled", std::slice::from_ref(&goes_on)).await;
    let letter = world.is_dead_letter(&set_aside, json!({"reason": "quarantined", "task_id": set_aside.id})).await;
    assert!(letter["detail"].as_str().is_some_and(|detail| detail.contains("guest")), "{letter}");
    let counted = [("publisher", "guest"), ("outcome", "dead_lettered")];
    daemon.counts("settled_publisher_outcomes_total", &counted, 151).await;

    world.configure(&[&publishers, anybody]);
    daemon.signal(Signal::HUP);
    undone(&mut daemon, "publisher").await;
    world.succeeds(&["dead-letters", "replay", "--reason", "quarantined"]).await;
    world.all_are("settled", &[set_aside]).await;
    world.end(daemon).await;
}

/// The library that gives a process another time, of Debian's package libfaketime.
pub(crate) fn faketime() -> PathBuf {
    let libraries = fs::read_dir("/usr/lib").expect("a directory").flatten();
    let mut found =
        libraries.map(|place| place.path().join("faketime/libfaketimeMT.so.1")).filter(|path| path.exists());
    found.next().expect("there is no libfaketime: run `make servers`")
}

/// Has a process take its time, but not that of its timers, from the file `time`: the difference to the real one.
pub(crate) fn faketime_variables<'p>(library: &'p Path, time: &'p Path) -> [(&'static str, &'p Path); 6] {
    let yes = Path::new("1");
    [
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", time),
        ("FAKETIME_NO_CACHE", yes),
        ("FAKETIME_DONT_FAKE_MONOTONIC", yes),
        ("DONT_FAKE_MONOTONIC", yes),
        ("FAKETIME_DISABLE_SHM", yes),
    ]
}

#[tokio::test]
async fn while_the_clock_is_back_no_task_is_taken() {
    let _turn = turn().await;
    let world = World::new(&["reflexes.clock = \"act\""]).await;
    let (time, library) = (world.file("time"), faketime());
    fs::write(&time, "+0").expect("written");
    let mut daemon = world.starting_daemon_with(&faketime_variables(&library, &time));
    daemon.ready().await;
    world.open_world_and_alice().await;
    fs::write(&time, "-3600").expect("written");
    let action = acts(&mut daemon, "clock").await;
    assert!(action["reason"].as_str().is_some_and(|reason| reason.contains("daemon")), "{action}");
    assert!(daemon.metric("settled_clock_behind_seconds", &[("clock", "daemon")]).await > 3000.0);
    let waits = transfer("world", "alice", 1);
    world.publisher().await.publish(&waits).await;
    within(SOON, "it lies in the queue", async || world.waiting().await == 1).await;
    fs::write(&time, "+0").expect("written");
    undone(&mut daemon, "clock").await;
    world.all_are("settled", &[waits]).await;
    world.end(daemon).await;
}

#[tokio::test]
async fn a_disk_that_cannot_be_seen_is_said_once() {
    let _turn = turn().await;
    let (_world, daemon) = World::with_daemon(&["reflexes.disk_paths = [\"/nowhere\"]"]).await;
    let said = || daemon.log().matches("can't be seen, and isn't watched").count();
    within(SOON, "it is said", async || said() == 1).await;
    daemon.stop().await;
}
