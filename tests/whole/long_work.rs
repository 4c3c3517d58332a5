//! Commands that work for long: they keep little in memory, say how far they are, and can be interrupted and continued.
//! `SETTLED_TEST_LINES` is how many tasks are published, 100,000 unless it is set.

use std::io::{BufWriter, Write};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use settled_testkit::harness::{Ended, World, settled, transfer, within};
use tempfile::NamedTempFile;
use tokio::process::Child;

/// What a command may have in memory at any time, in bytes.
const MOST: u64 = 64 << 20;

/// How long a load may take.
const LONG: Duration = Duration::from_secs(600);

fn lines() -> usize {
    std::env::var("SETTLED_TEST_LINES").map_or(100_000, |lines| lines.parse().expect("a number"))
}

/// Writes so many tasks, then `last`.
fn input(tasks: usize, last: &str) -> NamedTempFile {
    let file = NamedTempFile::new().expect("a file");
    let mut out = BufWriter::new(&file);
    for number in 0..tasks {
        let task = transfer("world", "alice", 1).with("reference", format!("order-{number}"));
        writeln!(out, "{}", task.body()).expect("written");
    }
    write!(out, "{last}").and_then(|()| out.flush()).expect("written");
    drop(out);
    file
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().expect("UTF-8")
}

/// Returns the most memory that a running process has had, in bytes.
fn memory(child: &Child) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()?)).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
}

fn interrupt(child: &Child) {
    let pid = Pid::from_raw(child.id().expect("it runs").cast_signed()).expect("a process id");
    kill_process(pid, Signal::INT).expect("it is there");
}

/// Waits until a command ends, and checks the most memory it has had. What it prints has to fit into a pipe: it is read
/// only then.
async fn bounded(what: &str, mut child: Child) -> Ended {
    let mut most = 0;
    within(LONG, what, async || {
        most = most.max(memory(&child).unwrap_or_default());
        child.try_wait().expect("a child").is_some()
    })
    .await;
    println!("{what}: {} MiB", most >> 20);
    assert!(most > 1 << 20 && most <= MOST, "{what}: {} MiB", most >> 20);
    Ended::of(child).await
}

/// A world whose queue is there, and no daemon takes anything from it.
async fn with_queue() -> World {
    let (world, daemon, _) = World::at_work(&[]).await;
    world.open_world_and_alice().await;
    daemon.stop().await;
    world
}

#[tokio::test]
async fn a_long_input_is_published_in_little_memory_and_goes_on_where_it_was_interrupted() {
    let (world, lines) = (with_queue().await, lines());
    let file = input(lines, "");
    let child = world.start(&["publish", path(&file), "--json"], Stdio::null());
    within(LONG, "some are published", async || world.waiting().await > 1000).await;
    interrupt(&child);
    let ended = bounded("interrupted", child).await;
    assert_eq!(ended.code, 130, "{ended:?}");
    let (published, next) = (ended.json()["published"].as_u64(), ended.json()["next_line"].as_u64());
    let next = next.expect("where to go on");
    assert_eq!(published, Some(next - 1), "{ended:?}");
    assert!((1000..lines as u64).contains(&(next - 1)), "{ended:?}");
    assert!(ended.stderr.contains(&format!("go on with --from-line {next} ")), "{ended:?}");

    let from = next.to_string();
    let child = world.start(&["publish", path(&file), "--json", "--quiet", "--from-line", &from], Stdio::null());
    let ended = bounded("continued", child).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    assert_eq!(ended.json(), json!({"published": lines as u64 - (next - 1)}));

    let daemon = world.daemon().await;
    within(LONG, "all are paid", async || {
        let paid = "SELECT posted FROM account WHERE name = 'alice'";
        world.try_rows(paid, &[]).await.is_some_and(|rows| rows[0]["posted"] == lines)
    })
    .await;
    world.end(daemon).await;
}

#[tokio::test]
async fn one_invalid_line_at_the_end_of_a_long_pipe_keeps_all_of_it_from_being_published() {
    let (world, lines) = (with_queue().await, lines());
    let file = input(lines, "{\"id\": 5}\n");
    let mut cat = std::process::Command::new("cat");
    let mut cat = cat.arg(file.path()).stdout(Stdio::piped()).spawn().expect("cat");
    let child = world.start(&["publish"], cat.stdout.take().expect("piped").into());
    let ended = bounded("from a pipe", child).await;
    assert!(cat.wait().expect("cat ends").success());
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{ended:?}");
    let said = format!("nothing published:\n  line {}: `id`", lines + 1);
    assert!(ended.stderr.contains(&said), "{ended:?}");
    assert_eq!(world.waiting().await, 0);
}

#[tokio::test]
async fn the_outcomes_of_many_tasks_come_in_their_order() {
    let (world, daemon, _) = World::at_work(&[]).await;
    world.open_world_and_alice().await;
    let mut tasks: Vec<_> = (0..2500).map(|_| transfer("world", "alice", 1)).collect();
    tasks.push(tasks[0].clone());
    tasks.push(tasks[1].clone().with("amount", 2));
    let bodies: Vec<String> = tasks.iter().map(|task| task.body()).collect();
    let ended = world.run_with(&["publish", "--wait", "--json", "--quiet"], &bodies.join("\n")).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (1, ""), "{}", ended.stderr);
    let report = ended.json();
    assert_eq!(report["published"], 2502);
    let outcomes = report["outcomes"].as_array().expect("outcomes");
    let (found, expected): (Vec<String>, Vec<String>) = outcomes
        .iter()
        .zip(&tasks)
        .map(|(outcome, task)| (outcome["id"].to_string(), task.json["id"].to_string()))
        .unzip();
    assert_eq!((outcomes.len(), found), (2502, expected));
    assert!(outcomes[..2501].iter().all(|outcome| outcome["state"] == "settled"));
    assert_eq!(outcomes[2501]["state"], "dead_letter");

    let ended = world.run_with(&["publish", "--wait", "--from-line", "2501"], &bodies.join("\n")).await;
    assert!(ended.stdout.starts_with("2 tasks published and confirmed\n"), "{ended:?}");
    world.end(daemon).await;
}

#[tokio::test]
async fn waiting_for_outcomes_can_be_interrupted_and_repeated() {
    let world = with_queue().await;
    let task = transfer("world", "alice", 1);
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), task.body()).expect("written");
    let publish = ["publish", path(&file), "--wait"];
    let child = world.start(&publish, Stdio::null());
    within(LONG, "it is published", async || world.waiting().await == 1).await;
    // It may still wait for the confirm; then it waits for an outcome, which nobody makes.
    tokio::time::sleep(Duration::from_millis(300)).await;
    interrupt(&child);
    let ended = Ended::of(child).await;
    assert_eq!(ended.code, 130, "{ended:?}");
    assert!(ended.stderr.contains("all 1 tasks are published") && ended.stderr.contains("again"), "{ended:?}");
    let daemon = world.daemon().await;
    let ended = world.run(&publish).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    world.end(daemon).await;
}

#[tokio::test]
async fn a_bar_is_drawn_on_a_terminal_and_nowhere_else() {
    let world = with_queue().await;
    let file = input(3000, "");
    let publish = |options: &str| {
        let (settled, config) = (settled(), world.config());
        let command = format!("{} publish {} --config {}{options}", settled.display(), path(&file), config.display());
        tokio::process::Command::new("script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .stdin(Stdio::null())
            .output()
    };
    let shown = publish("").await.expect("script is in util-linux");
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.status.success() && text.contains("\u{1b}[") && text.contains("of 3,000"), "{text:?}");
    assert!(text.ends_with("3000 tasks published and confirmed\r\n"), "{text:?}");
    let shown = publish(" --json --quiet").await.expect("script");
    assert_eq!(String::from_utf8_lossy(&shown.stdout), "{\"published\":3000}\r\n");
    let piped = world.run(&["publish", path(&file), "--quiet"]).await;
    assert_eq!((piped.stderr.as_str(), piped.stdout.as_str()), ("", "3000 tasks published and confirmed\n"));
}

#[tokio::test]
async fn a_replay_and_a_discard_are_interrupted_and_go_on() {
    let world = with_queue().await;
    let letters = "INSERT INTO dead_letter (digest, reason, detail, body, properties, first_seen, last_seen)
                   SELECT sha256(n::text::bytea), 'malformed', 'a test', '{}', '{}', now(), now()
                     FROM generate_series(1, 6000) n";
    let sql = world.sql().await;
    sql.batch_execute(letters).await.expect("dead letters");
    let open = async || {
        let query = "SELECT count(*) AS n FROM dead_letter WHERE resolution IS NULL";
        world.rows(query, &[]).await[0]["n"].as_u64().expect("a count")
    };
    let child = world.start(&["dead-letters", "replay", "--all", "--json"], Stdio::null());
    within(LONG, "some are replayed", async || open().await < 6000).await;
    interrupt(&child);
    let ended = bounded("replay", child).await;
    assert_eq!(ended.code, 130, "{}", ended.stderr);
    let (report, left) = (ended.json(), open().await);
    let done = report["done"].as_array().expect("ids").len() as u64;
    assert!(done > 0 && left > 0, "{done} of 6000");
    assert_eq!((done + left, &report["interrupted"]), (6000, &json!(true)));
    assert!(ended.stderr.contains(&format!("interrupted: {done} replayed")), "{}", ended.stderr);

    let again = world.start(&["dead-letters", "replay", "--all", "--json"], Stdio::null());
    let again = bounded("replay", again).await;
    assert_eq!((again.code, again.json()["done"].as_array().map(Vec::len)), (0, Some(left as usize)));
    within(LONG, "each is published once", async || world.waiting().await == 6000).await;

    sql.batch_execute("UPDATE dead_letter SET resolution = NULL, resolved_at = NULL").await.expect("open again");
    let child = world.start(&["dead-letters", "discard", "--reason", "malformed", "--yes"], Stdio::null());
    let ended = bounded("discard", child).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "6000 dead letters discarded\n"), "{ended:?}");
    assert_eq!(open().await, 0);
}

#[tokio::test]
async fn each_migration_is_named_when_it_is_applied() {
    let world = World::new(&[]).await;
    let missing = world.prints(&["migrate", "--dry-run"]).await;
    let missing: Vec<&str> =
        missing["missing"].as_array().expect("names").iter().filter_map(|name| name.as_str()).collect();
    assert!(missing.len() > 2, "{missing:?}");
    let ended = world.run(&["migrate", "--quiet"]).await;
    let lines: Vec<String> = missing.iter().map(|name| format!("applied {name}\n")).collect();
    assert_eq!((ended.code, ended.stderr), (0, lines.concat()));
    assert_eq!(ended.stdout, format!("applied: {}\n", missing.join(", ")));
    assert_eq!(world.run(&["migrate"]).await.stdout, "the schema is up to date\n");
}
