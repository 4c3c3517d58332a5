//! Steps that many tests have in common.

use lapin::options::{BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection};
use serde_json::Value;
use tokio_postgres::Client;

use super::{Daemon, Publisher, Task, World, eventually, open};

impl World {
    /// Creates a world and starts a daemon in it.
    pub async fn with_daemon(overrides: &[&str]) -> (Self, Daemon) {
        let world = Self::new(overrides).await;
        let daemon = world.daemon().await;
        (world, daemon)
    }

    /// Creates a world, starts a daemon in it, and connects a publisher.
    pub async fn at_work(overrides: &[&str]) -> (Self, Daemon, Publisher) {
        let (world, daemon) = Self::with_daemon(overrides).await;
        let publisher = world.publisher().await;
        (world, daemon, publisher)
    }

    /// Publishes tasks and waits until they are settled. Fails if one comes to anything else.
    pub async fn settle(&self, tasks: &[Task]) {
        Publisher::only(self).await.publish_all(tasks).await;
        self.all_are("settled", tasks).await;
    }

    /// Opens accounts in US dollars that may have any balance.
    pub async fn open(&self, accounts: impl IntoIterator<Item: AsRef<str>>) {
        let tasks: Vec<Task> = accounts.into_iter().map(|name| open(name.as_ref(), "USD", None)).collect();
        self.settle(&tasks).await;
    }

    /// Opens `world`, which may have any balance, and `alice`, who must not go below 0.
    pub async fn open_world_and_alice(&self) {
        self.settle(&[open("world", "USD", None), open("alice", "USD", Some(0))]).await;
    }

    /// Connects to the broker and opens a channel, which is closed with its connection.
    pub async fn channel(&self) -> (Connection, Channel) {
        let connection = super::amqp::connect(&self.amqp_uri).await;
        let channel = connection.create_channel().await.expect("a channel");
        (connection, channel)
    }

    /// Waits for the dead letter of a task.
    pub async fn dead_letter_of(&self, task: &Task) -> Value {
        self.dead_letter(task.body().as_bytes()).await
    }

    /// Publishes a message to the task queue itself, not through the exchange.
    pub async fn straight_to_its_queue(&self, body: &[u8], properties: BasicProperties) {
        let publisher = Publisher::only(self).await;
        let (options, queue) =
            (BasicPublishOptions { mandatory: true, ..Default::default() }, self.queue.as_str().into());
        let sent = publisher.channel.basic_publish("".into(), queue, options, body, properties);
        sent.await.expect("published").await.expect("confirmed");
    }

    /// Waits for the dead letter of a task, which must have these columns with these values. Returns its row.
    pub async fn is_dead_letter(&self, task: &Task, columns: Value) -> Value {
        let letter = self.dead_letter_of(task).await;
        assert_has(&letter, columns);
        letter
    }

    /// Runs a statement in a transaction that stays open until the client commits, for the locks that it takes.
    pub async fn lock(&self, statement: &str) -> Client {
        let client = self.sql().await;
        client.batch_execute(&format!("BEGIN; {statement}")).await.expect("locked");
        client
    }

    /// Returns the number of rows of a table.
    pub async fn count(&self, table: &str) -> u64 {
        let rows = self.rows(&format!("SELECT count(*) AS n FROM {table}"), &[]).await;
        rows[0]["n"].as_u64().expect("a count")
    }

    /// Runs a command of `settled` that must succeed. Returns what it prints.
    pub async fn succeeds(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments).await;
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.stdout
    }

    /// Runs a command of `settled` that prints JSON, and must succeed. Returns the JSON.
    pub async fn prints(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.succeeds(&[arguments, &["--json"]].concat()).await).expect("JSON")
    }

    /// Runs `settled audit`. Returns its examples of what breaks one check.
    pub async fn broken(&self, check: &str) -> Vec<String> {
        let report = self.run(&["audit", "--json"]).await.json();
        let mut checks = report["checks"].as_array().expect("checks").iter();
        let check = checks.find(|found| found["name"] == check).unwrap_or_else(|| panic!("no check {check}"));
        let examples = check["examples"].as_array().expect("examples").iter();
        examples.map(|example| example.as_str().expect("a text").to_owned()).collect()
    }

    /// Stops the daemon, which must leave no task in the queue, and audits the ledger.
    pub async fn end(&self, daemon: Daemon) {
        daemon.stop().await;
        assert_eq!(self.waiting().await, 0, "everything is acknowledged");
        self.audit().await;
    }
}

impl Daemon {
    /// Waits until the process ends by itself, which it must do with this code.
    pub async fn exits(&mut self, code: i32) {
        let status = self.wait_exit().await;
        assert_eq!(status.code(), Some(code), "{}", self.tail());
    }

    /// Waits until a metric has this value.
    pub async fn reaches(&mut self, metric: &str, value: f64) {
        eventually(&format!("{metric} is {value}"), async || self.metric(metric, &[]).await == value).await;
    }

    /// Returns a line of the kernel's account of the process's memory, in bytes: `VmRSS:` now, `VmHWM:` at most.
    pub fn memory(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let value = status.lines().find_map(|found| found.strip_prefix(line)?.strip_suffix("kB"));
        value.and_then(|value| value.trim().parse::<u64>().ok()).expect("a number of kilobytes") << 10
    }

    /// Waits until it has tasks in hand, all of them taken from their lanes.
    pub async fn has_in_hand(&mut self, tasks: f64) {
        self.reaches("settled_tasks_in_flight", tasks).await;
        self.reaches("settled_lane_depth", 0.0).await;
    }

    /// Waits until everything is published.
    pub async fn empties_the_outbox(&mut self) {
        self.reaches("settled_outbox_rows", 0.0).await;
    }

    /// Waits until intake is paused for a reason that contains this text.
    pub async fn pauses(&mut self, reason: &str) {
        eventually(&format!("it pauses: {reason}"), async || {
            let (_, report) = self.readiness().await;
            report["paused"]["reason"].as_str().is_some_and(|told| told.contains(reason))
        })
        .await;
    }
}

/// Declares a queue.
pub async fn declare_queue(channel: &Channel, name: &str, options: QueueDeclareOptions, arguments: FieldTable) {
    channel.queue_declare(name.into(), options, arguments).await.expect("a queue");
}

/// Fails unless `value` has these fields with these values, whatever else it has.
#[track_caller]
pub fn assert_has(value: &Value, fields: Value) {
    for (name, expected) in fields.as_object().expect("fields") {
        assert_eq!(&value[name], expected, "`{name}` of {value}");
    }
}
