//! The client examples, run as they are, by their own languages, against a real daemon: what
//! they are told in a reply and in an event is what `settled payment show` says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use jiff::Timestamp;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use serde_json::{Value, json};
use settled_amqp::{BrokerSettings, StreamSettings};
use settled_pipeline::outbox::EventSettings;
use settled_testkit::harness::amqp::declare_exchange;
use settled_testkit::harness::{Events, Publisher, World, bind, declare_queue, open, split, transfer};
use tokio::sync::{Mutex, MutexGuard};

/// A world with the names on the broker that are the defaults, which the examples use. One test at a time has it.
struct Shop {
    world: World,
    _turn: MutexGuard<'static, ()>,
}

impl Shop {
    async fn new() -> Self {
        static TURN: Mutex<()> = Mutex::const_new(());
        let turn = TURN.lock().await;
        let (broker, mut world) = (BrokerSettings::default(), World::new(&[]).await);
        (world.exchange, world.queue) = (broker.exchange, broker.queue);
        world.dead_letter_exchange = broker.dead_letter_exchange;
        world.dead_letter_queue = broker.dead_letter_queue;
        world.events_exchange = EventSettings::default().exchange;
        // As by default: what doesn't depend on each other may otherwise settle in another order.
        world.configure(&["pipeline.lanes = 1", "pipeline.workers = 1"]);
        Self { world, _turn: turn }
    }

    /// Runs an example and compares what it was told with what the ledger holds. Returns what it
    /// printed.
    async fn try_out(&self, program: &Path, script: &Path) -> String {
        let mut example = Command::new(program);
        let output = example.env("SETTLED_AMQP_URI", &self.world.amqp_uri).arg(script).output().expect("it runs");
        assert!(output.status.success(), "{}: {}", script.display(), text(&output.stderr));
        let mut told: BTreeMap<String, Vec<(String, Value)>> = BTreeMap::new();
        for line in text(&output.stdout).lines() {
            let line: BTreeMap<String, Value> = serde_json::from_str(line).expect("a line of JSON");
            for (kind, data) in line {
                told.entry(data["id"].as_str().expect("an id").to_owned()).or_default().push((kind, data));
            }
        }
        assert_eq!(told.len(), 5, "{told:?}");
        let mut states = Vec::new();
        for (id, outcomes) in told {
            let shown = self.world.succeeds(&["payment", "show", &id, "--json"]).await;
            let shown = without_held(serde_json::from_str(&shown).expect("JSON"));
            // What only the ledger knows.
            assert!(shown["received_at"].is_string() && shown["entries"].is_array(), "{shown}");
            let transfer = shown["type"] == "transfer";
            assert_eq!(outcomes.len(), if transfer { 2 } else { 1 }, "{outcomes:?}");
            for (kind, data) in outcomes {
                let data = without_held(data);
                for (field, told) in data.as_object().expect("an object") {
                    assert_eq!(&shown[field], told, "`{field}` of the {kind}");
                }
                assert_eq!(data["publisher"], "shop");
            }
            states.push((shown["reference"].clone(), shown["state"].clone(), shown["reason_code"].clone()));
        }
        states.sort_by_key(|(reference, ..)| reference.to_string());
        let settled = |reference: &str| (json!(reference), json!("settled"), Value::Null);
        assert_eq!(states[..2], [settled("order-123"), (json!("too-much"), json!("rejected"), json!("AM04"))]);
        assert_eq!(states[2], settled("top-up-7"));
        assert!(states[3..].iter().all(|(_, state, _)| state == "settled"), "{states:?}");
        text(&output.stdout)
    }

    /// Has `account` pay so much to `to` that its balance is `balance`.
    async fn lower(&self, account: &str, to: &str, balance: i64) {
        let mut missing = self.world.account(account).await["posted"].as_i64().expect("a balance") - balance;
        let mut legs = Vec::new();
        while missing > 0 {
            let amount = missing.min(1_000_000_000_000_000);
            legs.push((account, to, amount));
            missing -= amount;
        }
        self.world.settle(&[split(&legs)]).await;
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn examples(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/clients").join(language)
}

/// A directory below `target/` for what an example needs, kept for the next time.
fn scratch(language: &str) -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients").join(language);
    std::fs::create_dir_all(&place).expect("a directory");
    place
}

/// Runs what sets an example up; `hint` is for whoever lacks it.
fn set_up(command: &mut Command, hint: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; {hint}"));
    assert!(output.status.success(), "{command:?}: {}{}{hint}", text(&output.stdout), text(&output.stderr));
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Installs what the Python examples need. Returns the interpreter that finds it.
fn python() -> PathBuf {
    static INSTALLED: LazyLock<PathBuf> = LazyLock::new(|| {
        let place = scratch("python");
        let python = place.join("bin/python3");
        if !Command::new(&python)
            .args(["-c", "import pika, rstream"])
            .output()
            .is_ok_and(|output| output.status.success())
        {
            let mut venv = Command::new("python3");
            set_up(venv.args(["-m", "venv", "--clear"]).arg(&place), "apt install python3-venv");
        }
        let requirements = examples("python").join("requirements.txt");
        let mut pip = Command::new(&python);
        let pip = pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
        set_up(pip.arg(&requirements), "pip needs a package index");
        python
    });
    INSTALLED.clone()
}

/// Installs what the Node.js examples need. Returns the directory with them, or `None` if there is no Node.js.
fn node() -> Option<PathBuf> {
    static INSTALLED: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        if !has("node") || !has("npm") {
            eprintln!("SKIPPED: node and npm are not installed, so examples/clients/node was not run");
            return None;
        }
        let place = scratch("node");
        for file in ["package.json", "pay.mjs", "subscribe.mjs", "follow.mjs"] {
            std::fs::copy(examples("node").join(file), place.join(file)).expect("copied");
        }
        let mut npm = Command::new("npm");
        let npm = npm.args(["install", "--no-package-lock", "--no-audit", "--no-fund", "--prefer-offline"]);
        set_up(npm.current_dir(&place), "npm needs a package registry");
        Some(place)
    });
    INSTALLED.clone()
}

/// Has payments made by a daemon with these settings, and the events read by a subscriber. Compares what it read with
/// the events themselves.
async fn subscribe(program: &Path, script: &Path, overrides: &[&str]) {
    let world = World::new(overrides).await;
    let (_connection, channel) = world.channel().await;
    declare_exchange(&channel, &world.events_exchange).await;
    let queue = format!("{}.sdk", world.name);
    declare_queue(&channel, &queue, QueueDeclareOptions::default(), FieldTable::default()).await;
    bind(&channel, &queue, &world.events_exchange, "payment.*").await;
    let mut daemon = world.daemon().await;
    let replies = Events::replies(&world).await;
    world.settle(&[open("world", "USD", None), open("alice", "USD", Some(0))]).await;
    let payments = [
        // More than what JavaScript's numbers can hold.
        transfer("world", "alice", 1_000_000_000_000_000).with("metadata", json!({ "key": "ä" })),
        transfer("alice", "world", 1),
        transfer("alice", "nobody", 1),
    ];
    let publisher = world.publisher().await;
    for payment in &payments {
        let properties = Publisher::properties(payment).with_reply_to(replies.queue.as_str().into());
        publisher.publish_with(payment, properties).await;
    }
    let told = replies.count(payments.len()).await;
    daemon.empties_the_outbox().await;

    let mut subscriber = Command::new(program);
    let output = subscriber.env("SETTLED_AMQP_URI", &world.amqp_uri).arg(script).arg(&queue).output().expect("it runs");
    assert!(output.status.success(), "{}: {}", script.display(), text(&output.stderr));
    let read: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    assert_eq!(read.len(), payments.len(), "{read:?}");
    let source = world.row("the ledger", "SELECT 'settled/' || incarnation AS source FROM ledger", &[]).await;
    for reply in told {
        let id = reply.body["id"].as_str().expect("an id");
        let event = read.iter().find(|event| event["subject"] == id).expect("the event of each");
        assert_eq!(event["data"], reply.body);
        assert_eq!((&event["id"], &event["source"]), (&json!(format!("{id}/1")), &source["source"]));
        let kind = if reply.body["state"] == "settled" { "payment.settled" } else { "payment.rejected" };
        assert_eq!(event["type"], kind);
        // JavaScript's times have milliseconds.
        let time = |text: &Value| text.as_str().expect("a time").parse::<Timestamp>().expect("RFC 3339");
        assert_eq!(time(&event["time"]).as_millisecond(), time(&reply.body["settled_at"]).as_millisecond());
    }
}

/// The settings that decide how events are written.
const ENCODINGS: [&str; 4] = [
    "events.header_prefix = \"cloudEvents:\"",
    "events.header_prefix = \"cloudEvents_\"",
    "events.header_prefix = \"ce-\"",
    "events.format = \"batch\"",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_of_python_reads_events_of_every_encoding() {
    for encoding in ENCODINGS {
        subscribe(&python(), &examples("python").join("subscribe.py"), &[encoding]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_of_node_reads_events_of_every_encoding() {
    let Some(place) = node() else { return };
    for encoding in ENCODINGS {
        subscribe(Path::new("node"), &place.join("subscribe.mjs"), &[encoding]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn python_pays_and_is_told() {
    let python = python();
    let shop = Shop::new().await;
    let _daemon = shop.world.daemon().await;
    let script = examples("python").join("pay.py");
    shop.try_out(&python, &script).await;
    // The accounts are there; the same ids are duplicates, and are answered all the same.
    shop.try_out(&python, &script).await;
    shop.world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_pays_and_is_told() {
    let Some(place) = node() else { return };
    let shop = Shop::new().await;
    let _daemon = shop.world.daemon().await;
    let script = place.join("pay.mjs");
    shop.try_out(Path::new("node"), &script).await;
    // What JavaScript's own numbers can't hold: the next payment of 10,000 makes this balance.
    shop.world.open(["node:vault"]).await;
    shop.lower("node:world", "node:vault", -10_000_000_000_000_001 + 10_000).await;
    let told = shop.try_out(Path::new("node"), &script).await;
    assert!(told.contains(r#""posted":-10000000000000001,"#), "{told}");
    shop.world.audit().await;
}

/// A subscriber of the stream: how it is run with where it begins, and after how many seconds of silence it ends.
type Follower<'a> = &'a dyn Fn(&str, &str) -> Command;

/// Runs a subscriber. Returns the offset and the id of each event that it printed.
fn follow(shop: &Shop, follower: Follower<'_>, begin: &str) -> Vec<(u64, String)> {
    let mut subscriber = follower(begin, "2");
    subscriber.env("SETTLED_AMQP_URI", &shop.world.amqp_uri);
    let output = subscriber.env("SETTLED_STREAM_PORT", shop.world.stream_port.to_string()).output().expect("it runs");
    assert!(output.status.success(), "{begin}: {}", text(&output.stderr));
    let lines = text(&output.stdout);
    let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
    events
        .map(|event| {
            let id = event["id"].as_str().expect("an id").to_owned();
            assert!(id.starts_with(event["data"]["id"].as_str().expect("an id")), "{event}");
            assert!(event["type"].as_str().expect("a type").contains('.'), "{event}");
            (event["offset"].as_u64().expect("an offset"), id)
        })
        .collect()
}

/// Has subscribers read the stream from its beginning, from an offset and from a time.
async fn streams_to(followers: &[Follower<'_>], read_model: Option<&Path>) {
    let mut shop = Shop::new().await;
    shop.world.stream = StreamSettings::default().name;
    let (_connection, channel) = shop.world.channel().await;
    channel.queue_delete(shop.world.stream.as_str().into(), Default::default()).await.expect("it begins from nothing");
    shop.world.configure(&["events.transport = \"stream\""]);
    let mut daemon = shop.world.daemon().await;
    shop.world.settle(&[open("world", "USD", None), open("alice", "USD", Some(0))]).await;
    let payments: Vec<_> = (1..=30).map(|amount| transfer("world", "alice", amount)).collect();
    shop.world.settle(&payments).await;
    daemon.empties_the_outbox().await;
    let ids = shop.world.rows("SELECT id || '/1' AS id FROM payment ORDER BY id", &[]).await;
    let ids: Vec<&str> = ids.iter().map(|row| row["id"].as_str().expect("an id")).collect();
    for follower in followers {
        let all = follow(&shop, *follower, "first");
        let mut told: Vec<&str> = all.iter().map(|(_, id)| &**id).collect();
        told.sort_unstable();
        assert_eq!(told, ids, "each event once");
        let places: Vec<u64> = (0..all.len() as u64).collect();
        assert_eq!(all.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), places);
        assert_eq!(follow(&shop, *follower, "20"), all[20..]);
        assert_eq!(follow(&shop, *follower, "2020-01-01T00:00:00+00:00"), all);
    }
    let Some(script) = read_model else { return };
    let file = shop.world.file("model.db");
    let model = |_: &str, idle: &str| {
        let mut command = Command::new(python());
        command.arg(script).arg(&file).args(["--idle", idle]);
        command
    };
    assert_eq!(follow(&shop, &model, "").len(), ids.len());
    assert!(follow(&shop, &model, "").is_empty(), "it goes on behind its last event");
    shop.world.settle(&[transfer("alice", "world", 5)]).await;
    daemon.empties_the_outbox().await;
    assert_eq!(follow(&shop, &model, "").len(), 1);
    let balance = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute(
                   \"SELECT posted, version FROM balance WHERE account = 'alice'\").fetchone())";
    let balance = Command::new(python()).args(["-c", balance]).arg(&file).output().expect("it runs");
    let alice = shop.world.account("alice").await;
    assert_eq!(text(&balance.stdout).trim(), format!("{} {}", alice["posted"], alice["version"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn python_reads_the_stream_and_keeps_a_read_model() {
    let (python, scripts) = (python(), examples("python"));
    let by_stream = |begin: &str, idle: &str| {
        let mut command = Command::new(&python);
        command.arg(scripts.join("follow_stream.py")).args([begin, idle]);
        command
    };
    streams_to(&[&by_stream], Some(&scripts.join("follow.py"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_reads_the_stream() {
    let Some(place) = node() else { return };
    let follower = |begin: &str, idle: &str| {
        let mut command = Command::new("node");
        command.arg(place.join("follow.mjs")).args([begin, idle]);
        command
    };
    streams_to(&[&follower], None).await;
}

/// What was held at the moment of a balance is told in the event, and not kept.
fn without_held(mut data: Value) -> Value {
    for balance in data["balances"].as_array_mut().expect("a list") {
        balance.as_object_mut().expect("a balance").remove("held");
    }
    data
}
