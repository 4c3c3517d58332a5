//! A database, and names on the broker, that only one test uses.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Child;
use tokio::sync::Mutex;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{Daemon, Events, Publisher, Task, daemon, eventually, servers, sibling, transfer, try_connect};
use crate::servers::PrivateServers;

/// A database and broker names of one test, with a configuration for daemons that use them.
pub struct World {
    pub name: String,
    pub amqp_uri: String,
    /// Further nodes of a cluster of brokers.
    pub other_amqp_uris: Vec<String>,
    /// The port for streams on the address of the broker.
    pub stream_port: u16,
    pub postgres_url: String,
    pub exchange: String,
    pub queue: String,
    pub dead_letter_exchange: String,
    pub dead_letter_queue: String,
    pub events_exchange: String,
    pub stream: String,
    dir: TempDir,
    daemons: AtomicU32,
    client: Mutex<Option<Client>>,
}

impl World {
    /// Creates a world on the shared servers. `overrides` are configuration lines such as `pipeline.lanes = 1`.
    pub async fn new(overrides: &[&str]) -> Self {
        Self::on(servers().await, overrides).await
    }

    /// Creates a world on these servers.
    pub async fn on(servers: &PrivateServers, overrides: &[&str]) -> Self {
        Self::between(servers, servers, overrides).await
    }

    /// Creates a world that uses the broker of `broker` and the database server of `servers`.
    pub async fn between(broker: &PrivateServers, servers: &PrivateServers, overrides: &[&str]) -> Self {
        let name = format!("w_{}", Uuid::now_v7().simple());
        let admin = try_connect(servers.postgres_url()).await.expect("a connection to PostgreSQL");
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a database");
        Self::named(&name, (broker.amqp_uri(), broker.stream_port()), servers.postgres_url(), overrides)
    }

    /// Returns the world with this database of the server at `postgres_url`.
    pub(super) fn named(
        name: &str,
        (amqp_uri, stream_port): (&str, u16),
        postgres_url: &str,
        overrides: &[&str],
    ) -> Self {
        let world = Self {
            amqp_uri: amqp_uri.to_owned(),
            other_amqp_uris: Vec::new(),
            stream_port,
            postgres_url: sibling(postgres_url, name),
            exchange: format!("{name}.payments"),
            queue: format!("{name}.tasks"),
            dead_letter_exchange: format!("{name}.dead"),
            dead_letter_queue: format!("{name}.tasks.dead"),
            events_exchange: format!("{name}.events"),
            stream: format!("{name}.events.log"),
            dir: tempfile::tempdir().expect("a directory"),
            daemons: AtomicU32::new(0),
            client: Mutex::new(None),
            name: name.to_owned(),
        };
        world.configure(overrides);
        world
    }

    /// Returns the URIs of all brokers.
    pub fn amqp_uris(&self) -> Vec<&str> {
        [&self.amqp_uri].into_iter().chain(&self.other_amqp_uris).map(String::as_str).collect()
    }

    /// Writes the configuration for daemons started from now on. It has four lanes unless overridden: what holds with
    /// four lanes also holds with one, the default.
    pub fn configure(&self, overrides: &[&str]) {
        let text = format!(
            "broker = {{ uris = {:?}, exchange = {:?}, queue = {:?}, dead_letter_exchange = {:?}, \
             dead_letter_queue = {:?} }}\npostgres = {{ url = {:?} }}\nevents = {{ exchange = {:?} }}\n\
             stream = {{ name = {:?}, port = {} }}\n\
             admin = {{ listen = \"127.0.0.1:0\" }}\n\
             pipeline = {{ lanes = 4, workers = 4, max_batch = 500 }}\n",
            self.amqp_uris(),
            self.exchange,
            self.queue,
            self.dead_letter_exchange,
            self.dead_letter_queue,
            self.postgres_url,
            self.events_exchange,
            self.stream,
            self.stream_port,
        );
        let mut config: toml::Table = toml::from_str(&text).expect("TOML");
        for line in overrides {
            let section: toml::Table = toml::from_str(line).expect("TOML");
            for (section, keys) in section {
                if keys.is_array() {
                    config.insert(section, keys);
                    continue;
                }
                let place = config.entry(section).or_insert_with(|| toml::Table::new().into());
                place.as_table_mut().expect("a section").extend(keys.as_table().expect("a section").clone());
            }
        }
        std::fs::write(self.config(), config.to_string()).expect("the configuration");
    }

    /// Returns the path of the configuration.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("settled.toml")
    }

    /// Starts a daemon and waits until it takes tasks.
    pub async fn daemon(&self) -> Daemon {
        let mut daemon = self.starting_daemon();
        daemon.ready().await;
        daemon
    }

    /// Starts a daemon without waiting.
    pub fn starting_daemon(&self) -> Daemon {
        self.starting_daemon_with(&[])
    }

    /// Starts a daemon with these environment variables besides, without waiting.
    pub fn starting_daemon_with(&self, variables: &[(&str, &Path)]) -> Daemon {
        let number = self.daemons.fetch_add(1, Ordering::Relaxed);
        Daemon::spawn_with(variables, &self.config(), self.dir.path().join(format!("daemon-{number}.log")))
    }

    /// Returns a path in a directory that lasts as long as the world.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub async fn publisher(&self) -> Publisher {
        Publisher::connect(self).await
    }

    /// Receives all events from now on.
    pub async fn events(&self) -> Events {
        Events::listen(self).await
    }

    /// Connects to the database of the world.
    pub async fn sql(&self) -> Client {
        try_connect(&self.postgres_url).await.expect("a connection to PostgreSQL")
    }

    /// Runs a query and returns its rows as JSON. Returns `None` if it fails, as while PostgreSQL is down or has no
    /// schema.
    pub async fn try_rows(&self, query: &str, params: &[&(dyn ToSql + Sync)]) -> Option<Vec<Value>> {
        let mut client = self.client.lock().await;
        if client.as_ref().is_none_or(Client::is_closed) {
            *client = try_connect(&self.postgres_url).await;
        }
        let query = format!("SELECT to_jsonb(t) FROM ({query}) t");
        let rows = client.as_ref()?.query(&query, params).await.ok()?;
        Some(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Runs a query and returns its rows as JSON.
    pub async fn rows(&self, query: &str, params: &[&(dyn ToSql + Sync)]) -> Vec<Value> {
        self.try_rows(query, params).await.unwrap_or_else(|| panic!("PostgreSQL doesn't answer {query}"))
    }

    /// Waits until a query returns a row.
    pub async fn row(&self, what: &str, query: &str, params: &[&(dyn ToSql + Sync)]) -> Value {
        let mut found = None;
        eventually(what, async || {
            found = self.try_rows(query, params).await.and_then(|mut rows| rows.pop());
            found.is_some()
        })
        .await;
        found.expect("a row")
    }

    /// Waits for the payment of this task. Returns its row, with names instead of account ids.
    pub async fn outcome(&self, task: &Task) -> Value {
        self.row(&format!("an outcome of {}", task.json), "SELECT * FROM payment_named WHERE id = $1", &[&task.id])
            .await
    }

    /// Waits until all these tasks have an outcome. Fails if the outcome of one has another state.
    pub async fn all_are(&self, state: &str, tasks: &[Task]) {
        let ids: Vec<Uuid> = tasks.iter().map(|task| task.id).collect();
        let count = "SELECT count(*) AS n, count(*) FILTER (WHERE state::text <> $2) AS other
                       FROM payment WHERE id = ANY($1)";
        eventually(&format!("{} tasks are {state}", tasks.len()), async || {
            let Some(rows) = self.try_rows(count, &[&ids, &state]).await else { return false };
            assert_eq!(rows[0]["other"], 0, "not {state}");
            rows[0]["n"] == tasks.len()
        })
        .await;
    }

    /// Waits until all these tasks are in this state, whatever their states before.
    pub async fn become_all(&self, state: &str, tasks: &[Task]) {
        let ids: Vec<Uuid> = tasks.iter().map(|task| task.id).collect();
        let count = "SELECT state::text, count(*) AS n FROM payment WHERE id = ANY($1) GROUP BY 1";
        let mut seen = Vec::new();
        super::within(super::SOON * 2, &format!("{} tasks are {state}", tasks.len()), async || {
            seen = self.try_rows(count, &[&ids]).await.unwrap_or_default();
            tasks.is_empty() || seen.len() == 1 && seen[0]["state"] == state && seen[0]["n"] == tasks.len()
        })
        .await;
    }

    /// Waits until a task is in this state. Returns its row.
    pub async fn becomes(&self, state: &str, task: &Task) -> Value {
        let query = "SELECT * FROM payment_named WHERE id = $1 AND state::text = $2";
        self.row(&format!("{} is {state}", task.json), query, &[&task.id, &state]).await
    }

    /// Waits until no task is scheduled or parked.
    pub async fn nothing_waits(&self) {
        eventually("nothing waits", async || {
            let rows = self.try_rows("SELECT count(*) AS n FROM agenda", &[]).await;
            rows.is_some_and(|rows| rows[0]["n"] == 0)
        })
        .await;
    }

    /// Waits for the dead letter with this body.
    pub async fn dead_letter(&self, body: &[u8]) -> Value {
        let what = format!("a dead letter of {}", String::from_utf8_lossy(&body[..body.len().min(200)]));
        self.row(&what, "SELECT * FROM dead_letter WHERE body = $1", &[&body]).await
    }

    /// Returns the row of the account with this name.
    pub async fn account(&self, name: &str) -> Value {
        let mut rows = self.rows("SELECT * FROM account WHERE name = $1", &[&name]).await;
        rows.pop().unwrap_or_else(|| panic!("nobody mentioned {name}"))
    }

    /// Pauses a daemon that has one lane until `publish` has put `count` messages into the lane, so that they become
    /// one batch.
    pub async fn in_one_batch(&self, daemon: &mut Daemon, count: u32, publish: impl AsyncFnOnce(&Publisher)) {
        let gate = format!("gate:{}", Uuid::now_v7().simple());
        let client = self.sql().await;
        let lock = format!(
            "INSERT INTO account (name) VALUES ('{gate}'); BEGIN; SELECT FROM account WHERE name = '{gate}' FOR UPDATE"
        );
        client.batch_execute(&lock).await.expect("the gate is shut");
        let publisher = self.publisher().await;
        publisher.publish(&transfer(&gate, "gate", 1)).await;
        eventually("the lane's worker stands at the gate", async || {
            let taken = daemon.metric("settled_tasks_in_flight", &[]).await == 1.0;
            taken && daemon.metric("settled_lane_depth", &[]).await == 0.0
        })
        .await;
        publish(&publisher).await;
        eventually(&format!("{count} messages stand behind it"), async || {
            daemon.metric("settled_lane_depth", &[]).await == f64::from(count)
        })
        .await;
        client.batch_execute("COMMIT").await.expect("the gate is open");
    }

    /// Returns the number of messages ready in the task queue, without those delivered to a daemon.
    pub async fn waiting(&self) -> u32 {
        self.messages(&self.queue).await
    }

    /// Returns the number of messages ready in a queue.
    pub async fn messages(&self, queue: &str) -> u32 {
        let connection = super::amqp::connect(&self.amqp_uri).await;
        let channel = connection.create_channel().await.expect("a channel");
        let passive = lapin::options::QueueDeclareOptions { passive: true, ..Default::default() };
        channel.queue_declare(queue.into(), passive, Default::default()).await.expect("a queue").message_count()
    }

    /// Runs a command of `settled`.
    pub async fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, "").await
    }

    /// Runs a command of `settled` with `input` as its standard input.
    pub async fn run_with(&self, arguments: &[&str], input: &str) -> Ended {
        let mut child = self.start(arguments, Stdio::piped());
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).await.expect("the command reads");
        drop(stdin);
        Ended::of(child).await
    }

    /// Runs a command of `settled` with these environment variables besides.
    pub async fn run_under(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Ended {
        Ended::of(self.start_under(variables, arguments, Stdio::null())).await
    }

    /// Starts a command of `settled`, to be waited for with [`Ended::of`].
    pub fn start(&self, arguments: &[&str], input: Stdio) -> Child {
        self.start_under(&[], arguments, input)
    }

    fn start_under(&self, variables: &[(&str, &str)], arguments: &[&str], input: Stdio) -> Child {
        let mut command = tokio::process::Command::from(daemon::command());
        command.envs(variables.iter().copied());
        command.args(arguments).arg("--config").arg(self.config()).kill_on_drop(true);
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts")
    }

    /// Runs `settled audit`, which must find nothing. Returns its report.
    pub async fn audit(&self) -> Value {
        let audit = self.run(&["audit", "--json"]).await;
        assert_eq!(audit.code, 0, "{audit:?}");
        let report = audit.json();
        assert_eq!(report["passed"], true, "{report}");
        report
    }
}

/// Result of a command.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Waits until a command ends.
    pub async fn of(child: Child) -> Self {
        let output = child.wait_with_output().await.expect("the command ends");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Self { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}
