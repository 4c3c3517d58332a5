//! Looking inside: the registry of daemons, taking one of them out of service while others work, `top`, and profiles.

use std::cell::Cell;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use settled_testkit::harness::{Daemon, Publisher, SOON, Task, World, assert_has, eventually, settled, transfer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What `settled instances` says of a daemon.
async fn instance(world: &World, daemon: &Daemon) -> Option<Value> {
    let listed = world.prints(&["instances"]).await;
    listed.as_array().expect("a list").iter().find(|found| found["pid"] == daemon.pid()).cloned()
}

/// Waits until a daemon is listed with this state. Returns its row.
async fn is_listed(world: &World, daemon: &Daemon, state: &str) -> Value {
    let mut found = None;
    eventually(&format!("a daemon is {state}"), async || {
        found = instance(world, daemon).await.filter(|found| found["state"] == state);
        found.is_some()
    })
    .await;
    found.expect("it is there")
}

async fn id(world: &World, daemon: &Daemon) -> String {
    is_listed(world, daemon, "running").await["id"].to_string()
}

#[tokio::test]
async fn daemons_are_listed_with_what_they_do_and_the_dead_ones_are_gone() {
    let world = World::new(&[]).await;
    world.succeeds(&["migrate"]).await;
    assert_eq!(world.succeeds(&["instances"]).await, "no daemon uses this database\n");
    let (mut first, mut second) = (world.daemon().await, world.daemon().await);
    let listed = is_listed(&world, &first, "running").await;
    let admin = first.admin().expect("it listens").to_string();
    assert_has(&listed, json!({"version": settled::VERSION, "admin": admin, "reason": null, "in_flight": 0}));
    is_listed(&world, &second, "running").await;
    let table = world.succeeds(&["instances"]).await;
    assert!(table.contains("running") && table.contains(&admin), "{table}");

    // Nothing can be committed.
    let sql = world.sql().await;
    sql.batch_execute("ALTER TABLE payment ADD CONSTRAINT made_up CHECK (amount <> 77)").await.expect("altered");
    world.open_world_and_alice().await;
    world.publisher().await.publish(&transfer("world", "alice", 77)).await;
    eventually("one of them pauses, and says why", async || {
        let listed = world.prints(&["instances"]).await;
        let mut paused = listed.as_array().expect("a list").iter().filter(|found| found["state"] == "paused");
        paused.any(|found| found["reason"].as_str().is_some_and(|reason| reason.contains("made_up")))
    })
    .await;
    sql.batch_execute("ALTER TABLE payment DROP CONSTRAINT made_up").await.expect("altered");
    is_listed(&world, &first, "running").await;
    is_listed(&world, &second, "running").await;

    second.kill();
    let row = is_listed(&world, &second, "gone").await;
    let gone = row["id"].to_string();
    assert_eq!(world.run(&["drain", &gone]).await.code, 1);
    // A day later the next daemon to start, or this one within the hour, deletes the row.
    let long_ago = format!("UPDATE instance SET lease_until = now() - interval '25 hours' WHERE id = {gone}");
    sql.batch_execute(&long_ago).await.expect("a day later");
    let third = world.daemon().await;
    is_listed(&world, &third, "running").await;
    assert!(instance(&world, &second).await.is_none());
    third.stop().await;
    world.end(first).await;
    assert_eq!(world.prints(&["instances"]).await, json!([]), "whoever stops leaves nothing");
}

#[tokio::test]
async fn a_drained_daemon_finishes_what_it_has_and_takes_nothing_until_it_is_resumed() {
    let (world, mut daemon, publisher) = World::at_work(&["payments.interval = '50ms'"]).await;
    world.open_world_and_alice().await;
    let id = id(&world, &daemon).await;
    let soon = in_seconds(6);
    let due = transfer("world", "alice", 3).with("execute_at", soon.to_string());
    publisher.publish(&due).await;
    world.outcome(&due).await;
    // It has a task in hand that it cannot finish yet.
    let lock = world.lock("SELECT FROM account WHERE name = 'alice' FOR UPDATE").await;
    let in_hand = transfer("world", "alice", 1);
    publisher.publish(&in_hand).await;
    daemon.has_in_hand(1.0).await;
    eventually("it drains, and the command says what it waits for", async || {
        let ended = world.run(&["drain", &id, "--wait", "--timeout", "100ms"]).await;
        assert_eq!(ended.code, 1, "{ended:?}");
        ended.stdout.contains(&format!("still draining: {id}, 1 task in hand"))
    })
    .await;
    assert_eq!(daemon.readiness().await.1["status"], "draining");
    lock.batch_execute("COMMIT").await.expect("unlocked");
    assert_eq!(world.succeeds(&["drain", &id, "--wait"]).await, "1 daemon drained\n");
    world.becomes("settled", &in_hand).await;
    let (status, report) = daemon.readiness().await;
    assert_eq!((status, &report["status"]), (503, &json!("drained")));
    assert_eq!(daemon.metric("settled_maintenance", &[]).await, 1.0);
    assert_has(&is_listed(&world, &daemon, "drained").await, json!({"in_flight": 0}));

    // Neither what comes nor what is due.
    let later = transfer("world", "alice", 2);
    publisher.publish(&later).await;
    eventually("it waits in the queue", async || world.waiting().await == 1).await;
    let sql = world.sql().await;
    // On a machine on which all this took longer than those seconds, nothing is due any more.
    let waits = world.count("agenda").await;
    let lease = async || -> String {
        let row = sql.query_one("SELECT lease_until::text FROM instance", &[]).await.expect("a row");
        row.get(0)
    };
    let (before, mut renewals) = (lease().await, 0);
    let mut last = before;
    eventually("it lives, and has been at its tables", async || {
        let now = lease().await;
        renewals += usize::from(now != last);
        last = now;
        renewals >= 2 && jiff::Timestamp::now() > soon + Duration::from_secs(1)
    })
    .await;
    assert_eq!((world.waiting().await, world.count("payment").await), (1, 4), "nothing was taken");
    assert_eq!(world.count("agenda").await, waits, "nothing that is due was done");
    assert!(daemon.is_running());

    assert!(world.succeeds(&["resume", "--all"]).await.starts_with("1 daemon to take tasks again"));
    world.becomes("settled", &later).await;
    world.becomes("settled", &due).await;
    daemon.ready().await;
    assert_eq!(daemon.metric("settled_maintenance", &[]).await, 0.0);

    // Drained, it stops as always.
    world.succeeds(&["drain", "--all", "--wait"]).await;
    world.end(daemon).await;
    for command in ["drain", "resume"] {
        let ended = world.run(&[command, "99999", "--json"]).await;
        assert_eq!((ended.code, ended.json()), (1, json!({"asked": [], "missing": [99999]})), "{ended:?}");
        assert_eq!(world.run(&[command]).await.code, 2);
    }
}

/// Returns a time in so many seconds, whole, as a task has it.
fn in_seconds(seconds: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + seconds).expect("a time")
}

/// Publishes tasks for as long as `work` takes. Returns what that came to, and the tasks.
async fn under_load<T>(publisher: &Publisher, work: impl Future<Output = T>) -> (T, Vec<Task>) {
    let over = Cell::new(false);
    let load = async {
        let mut tasks = Vec::new();
        while !over.get() {
            let task = transfer("world", "alice", 1);
            publisher.publish(&task).await;
            tasks.push(task);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tasks
    };
    let work = async {
        let done = work.await;
        over.set(true);
        done
    };
    tokio::join!(work, load)
}

/// Does something while a daemon takes tasks all the time.
async fn while_it_serves<T>(daemon: &mut Daemon, work: impl Future<Output = T>) -> T {
    let mut looks = 0;
    let serving = async {
        loop {
            let (status, report) = daemon.readiness().await;
            assert_eq!(status, 200, "a gap: {report}");
            looks += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let done = tokio::select! {
        done = work => done,
        () = serving => unreachable!("it serves for ever"),
    };
    assert!(looks > 10, "{looks} looks");
    done
}

/// Takes a daemon out of service and puts another one in its place.
async fn replaced(world: &World, old: Daemon) -> Daemon {
    let id = id(world, &old).await;
    assert_eq!(world.succeeds(&["drain", &id, "--wait"]).await, "1 daemon drained\n");
    old.stop().await;
    let new = world.daemon().await;
    is_listed(world, &new, "running").await;
    new
}

#[tokio::test]
async fn two_daemons_are_restarted_one_after_the_other_without_a_gap() {
    /// How long a task may wait from when it is made to its commit, and the longest time without any commit.
    const LONGEST: f64 = 5.0;
    let world = World::new(&[]).await;
    let (mut first, mut second) = (world.daemon().await, world.daemon().await);
    world.open_world_and_alice().await;
    let publisher = world.publisher().await;
    let restarts = async {
        first = while_it_serves(&mut second, replaced(&world, first)).await;
        second = while_it_serves(&mut first, replaced(&world, second)).await;
        (first, second)
    };
    let ((first, second), tasks) = under_load(&publisher, restarts).await;
    world.all_are("settled", &tasks).await;
    // An id has the time when it was made, in milliseconds.
    let waits = "SELECT max(extract(epoch FROM settled_at) - made)::float8 AS wait, max(gap)::float8 AS gap,
                        count(*) AS n
                   FROM (SELECT settled_at, ('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0 AS made,
                                extract(epoch FROM settled_at - lag(settled_at) OVER (ORDER BY settled_at)) AS gap
                           FROM payment WHERE type = 'transfer') t";
    let found = &world.rows(waits, &[]).await[0];
    println!("{} tasks, the longest wait {} s, the longest gap {} s", found["n"], found["wait"], found["gap"]);
    assert_eq!(found["n"], tasks.len());
    for what in ["wait", "gap"] {
        assert!(found[what].as_f64().is_some_and(|seconds| seconds < LONGEST), "{found}");
    }
    second.stop().await;
    world.end(first).await;
}

/// What `settled top --once --json` shows.
async fn top(world: &World, arguments: &[&str]) -> Value {
    world.prints(&[&["top", "--once"], arguments].concat()).await
}

fn named<'v>(list: &'v Value, name: &str) -> &'v Value {
    let found = list.as_array().expect("a list").iter().find(|each| each["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {list}"))
}

#[tokio::test]
async fn top_shows_what_the_daemons_do_once_and_as_json() {
    let (world, mut daemon, publisher) = World::at_work(&[]).await;
    world.open_world_and_alice().await;
    is_listed(&world, &daemon, "running").await;
    let later = transfer("world", "alice", 1).with("execute_at", in_seconds(3600).to_string());
    publisher.publish(&later).await;
    world.becomes("scheduled", &later).await;
    daemon.reaches("settled_scheduled", 1.0).await;

    let (shown, _) = under_load(&publisher, top(&world, &["--interval", "2s"])).await;
    let admin = daemon.admin().expect("it listens").to_string();
    let instance = &shown["instances"][0];
    assert_has(instance, json!({"pid": daemon.pid(), "admin": admin, "state": "running", "reason": null}));
    assert_eq!(instance["lanes"].as_array().map(Vec::len), Some(4));
    let is_up = |connection: &Value| connection["up"] == true;
    let connections = instance["connections"].as_array().expect("a list");
    assert!(connections.len() == 3 && connections.iter().all(is_up), "{instance}");
    for rate in ["received", "committed"] {
        assert!(named(&shown["rates"], rate)["per_second"].as_f64().is_some_and(|rate| rate > 0.5), "{shown}");
    }
    for latency in ["receive to commit", "transaction"] {
        let found = named(&shown["latencies"], latency);
        let (p50, p99) = (found["p50_seconds"].as_f64(), found["p99_seconds"].as_f64());
        assert!(p50 > Some(0.0) && p99 >= p50 && p99 < Some(60.0), "{found}");
    }
    assert_eq!(named(&shown["stages"], "scheduled")["depth"], 1.0);
    assert_eq!(named(&shown["stages"], "dead letters")["depth"], 0.0);
    let first = &shown["outcomes"][0];
    assert_has(first, json!({"outcome": "settled", "reason": "none"}));
    assert!(first["total"].as_f64() >= Some(3.0), "{first}");

    let table = world.succeeds(&["top", "--once", "--interval", "100ms"]).await;
    for word in ["COMMITS/s", "running", "receive to commit", "dead letters", "settled"] {
        assert!(table.contains(word), "{word}: {table}");
    }
    let named_by_address = top(&world, &["--interval", "100ms", "--admin", &admin]).await;
    assert_has(&named_by_address["instances"][0], json!({"id": null, "admin": admin, "state": "running"}));
    let nobody = world.run(&["top", "--once", "--interval", "100ms", "--admin", "127.0.0.1:1"]).await;
    assert!(nobody.code == 69 && nobody.stdout.contains("unreachable"), "{nobody:?}");
    let no_screen = world.run(&["top"]).await;
    assert!(no_screen.code == 2 && no_screen.stderr.contains("--once"), "{no_screen:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn top_draws_on_a_terminal_and_leaves_it_as_it_was() {
    let (world, daemon) = World::with_daemon(&[]).await;
    is_listed(&world, &daemon, "running").await;
    let (settled, config) = (settled(), world.config());
    let command = format!("stty rows 45 cols 160; {} top --config {}; stty", settled.display(), config.display());
    let mut child = tokio::process::Command::new("script")
        .args(["--quiet", "--return", "--flush", "--command", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("script is in util-linux");
    let (mut keys, mut screen) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let mut shown = Vec::new();
    let drawn = async {
        // What is drawn first has no daemon yet.
        while !String::from_utf8_lossy(&shown).contains("running") {
            assert!(screen.read_buf(&mut shown).await.expect("a terminal") > 0, "it ended: {shown:?}");
        }
    };
    tokio::time::timeout(SOON, drawn).await.expect("it is drawn");
    // An arrow, then the end.
    keys.write_all(b"\x1b[Bq").await.expect("it reads keys");
    let ended = tokio::time::timeout(SOON, screen.read_to_end(&mut shown)).await;
    ended.expect("it ends").expect("a terminal");
    assert!(child.wait().await.expect("it ends").success());
    let text = String::from_utf8_lossy(&shown);
    for part in ["daemons", "latencies", "outcomes", "quit"] {
        assert!(text.contains(part), "{part}: {text:?}");
    }
    // The other screen, and back; and what `stty` says of a terminal in its usual mode.
    let (_, after) = text.rsplit_once("\u{1b}[?1049l").expect("the screen of before");
    assert!(text.contains("\u{1b}[?1049h") && !after.contains("-icanon") && !after.contains("-echo "), "{after:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_running_daemon_is_profiled_on_its_private_socket() {
    let world = World::new(&[]).await;
    let none = world.run(&["profile", "memory"]).await;
    assert!(none.code == 78 && none.stderr.contains("admin.profile_socket"), "{none:?}");
    let directory = tempfile::tempdir().expect("a directory");
    let (socket, file) = (directory.path().join("profile.sock"), directory.path().join("cpu.folded"));
    let file = file.to_str().expect("UTF-8");
    world.configure(&[&format!("admin.profile_socket = '{}'", socket.display())]);
    let away = world.run(&["profile", "memory"]).await;
    assert_eq!(away.code, 69, "{away:?}");

    let daemon = world.daemon().await;
    world.open_world_and_alice().await;
    let mode = std::fs::metadata(&socket).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let sizes = world.prints(&["profile", "memory"]).await;
    assert!(sizes["Rss"].as_u64() > Some(1 << 20) && sizes["Pss_Anon"].as_u64() > Some(0), "{sizes}");
    let publisher = world.publisher().await;
    let command = ["profile", "cpu", file, "--seconds", "2"];
    let (profiled, tasks) = under_load(&publisher, world.run(&command)).await;
    world.all_are("settled", &tasks).await;
    if cfg!(feature = "profiling") {
        assert_eq!(profiled.code, 0, "{profiled:?}");
        let stacks = std::fs::read_to_string(file).expect("a profile");
        assert!(stacks.lines().count() > 0 && stacks.lines().all(|line| line.contains(';')), "{stacks}");
        // Without frame pointers only some stacks are whole.
        println!("{} stacks, {} of them through main", stacks.lines().count(), stacks.matches("tokio::").count());
        // One after the other, and none ends the daemon.
        let pprof = directory.path().join("cpu.pb");
        let pprof = pprof.to_str().expect("UTF-8");
        for _ in 0..5 {
            world.succeeds(&["profile", "cpu", pprof, "--seconds", "1"]).await;
        }
        assert!(std::fs::metadata(pprof).expect("a profile").len() > 100);
    } else {
        assert!(profiled.code == 1 && profiled.stderr.contains("without the feature `profiling`"), "{profiled:?}");
    }
    world.end(daemon).await;
    assert!(!socket.exists(), "it is removed");
}
