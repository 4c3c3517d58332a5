//! The client examples, run as they are, by their own languages, against a real daemon: what
//! they are told in a reply and in an event is what `settled payment show` says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use settled_testkit::harness::servers;
use settled_testkit::servers::PrivateServers;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// A configuration in which nothing is set.
const DEFAULTS: [&str; 2] = ["--config", "/dev/null"];

/// The servers, and on them one daemon with all settings at their defaults.
struct Settled {
    servers: &'static PrivateServers,
    /// One daemon at a time: between two on the same queue there is no order, and the examples
    /// fund and spend back to back.
    turn: Mutex<()>,
}

/// The only daemon; it ends with its test, whatever happens.
struct Daemon<'a> {
    process: std::process::Child,
    _turn: MutexGuard<'a, ()>,
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn settled() -> &'static Settled {
    static SETTLED: OnceCell<Settled> = OnceCell::const_new();
    SETTLED.get_or_init(async || Settled { servers: servers().await, turn: Mutex::default() }).await
}

impl Settled {
    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .env("SETTLED_AMQP_URI", self.servers.amqp_uri())
            .env("SETTLED_POSTGRES_URL", self.servers.postgres_url())
            .env("SETTLED_ADMIN_LISTEN", "127.0.0.1:0")
            .stdin(Stdio::null());
        command
    }

    fn settled(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(env!("CARGO_BIN_EXE_settled"));
        command.args(arguments).args(DEFAULTS).output().expect("it runs")
    }

    async fn daemon(&self) -> Daemon<'_> {
        let turn = self.turn.lock().await;
        let mut command = self.command(env!("CARGO_BIN_EXE_settled"));
        let command = command.arg("run").args(DEFAULTS).stderr(Stdio::null());
        let daemon = Daemon { process: command.spawn().expect("the daemon starts"), _turn: turn };
        for _ in 0..200 {
            let opened = self.settled(&["account", "open", "the-first", "--currency", "EUR"]);
            // By another test before, perhaps.
            if opened.status.success() || text(&opened.stdout).contains("account_exists") {
                return daemon;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the daemon takes no tasks");
    }

    fn shown(&self, id: &str) -> Value {
        let shown = self.settled(&["payment", "show", id, "--json"]);
        assert!(shown.status.success(), "{}", text(&shown.stderr));
        serde_json::from_slice(&shown.stdout).expect("JSON")
    }

    /// Publishes a task, and waits until it is settled.
    fn publish(&self, task: &Value) {
        let file = scratch("tasks").join(format!("{}.json", task["id"].as_str().expect("an id")));
        std::fs::write(&file, task.to_string()).expect("written");
        let published = self.settled(&["publish", "--wait", file.to_str().expect("a path")]);
        assert!(published.status.success(), "{}{}", text(&published.stdout), text(&published.stderr));
        std::fs::remove_file(file).expect("removed");
    }

    /// Runs an example and compares what it was told with what the ledger holds. Returns what it
    /// printed.
    fn try_out(&self, program: &Path, script: &Path) -> String {
        let output = self.command(program).arg(script).output().expect("it runs");
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
            let shown = without_held(self.shown(&id));
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
    fn lower(&self, account: &str, to: &str, balance: i64) {
        let shown = self.settled(&["account", "show", account, "--json"]);
        let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
        let mut missing = shown["posted"].as_i64().expect("a balance") - balance;
        let mut legs = Vec::new();
        while missing > 0 {
            let amount = missing.min(1_000_000_000_000_000);
            legs.push(json!({"debit_account": account, "credit_account": to, "amount": amount, "currency": "USD"}));
            missing -= amount;
        }
        self.publish(&json!({"id": uuid::Uuid::now_v7(), "type": "transfer", "legs": legs}));
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

#[tokio::test(flavor = "multi_thread")]
async fn python_pays_and_is_told() {
    let place = scratch("python");
    let python = place.join("bin/python3");
    if !Command::new(&python).args(["-c", "import pika"]).output().is_ok_and(|output| output.status.success()) {
        let mut venv = Command::new("python3");
        set_up(venv.args(["-m", "venv", "--clear"]).arg(&place), "apt install python3-venv");
    }
    let requirements = examples("python").join("requirements.txt");
    let mut pip = Command::new(&python);
    let pip = pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    set_up(pip.arg(&requirements), "pip needs a package index");
    let settled = settled().await;
    let _daemon = settled.daemon().await;
    let script = examples("python").join("pay.py");
    settled.try_out(&python, &script);
    // The accounts are there; the same ids are duplicates, and are answered all the same.
    settled.try_out(&python, &script);
    assert!(settled.settled(&["audit"]).status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn node_pays_and_is_told() {
    if !has("node") || !has("npm") {
        eprintln!("SKIPPED: node and npm are not installed, so examples/clients/node was not run");
        return;
    }
    let place = scratch("node");
    for file in ["package.json", "pay.mjs"] {
        std::fs::copy(examples("node").join(file), place.join(file)).expect("copied");
    }
    let mut npm = Command::new("npm");
    let npm = npm.args(["install", "--no-package-lock", "--no-audit", "--no-fund", "--prefer-offline"]);
    set_up(npm.current_dir(&place), "npm needs a package registry");
    let settled = settled().await;
    let _daemon = settled.daemon().await;
    let script = place.join("pay.mjs");
    settled.try_out(Path::new("node"), &script);
    // What JavaScript's own numbers can't hold: the next payment of 10,000 makes this balance.
    assert!(settled.settled(&["account", "open", "node:vault", "--currency", "USD"]).status.success());
    settled.lower("node:world", "node:vault", -10_000_000_000_000_001 + 10_000);
    let told = settled.try_out(Path::new("node"), &script);
    assert!(told.contains(r#""posted":-10000000000000001,"#), "{told}");
    assert!(settled.settled(&["audit"]).status.success());
}

/// What was held at the moment of a balance is told in the event, and not kept.
fn without_held(mut data: Value) -> Value {
    for balance in data["balances"].as_array_mut().expect("a list") {
        balance.as_object_mut().expect("a balance").remove("held");
    }
    data
}
