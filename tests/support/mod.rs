//! What the tests on real servers share: one pair of servers per test binary, a database per test.
#![allow(dead_code, unused_imports, reason = "no test binary uses all of it")]

pub(crate) mod amqp;
mod daemon;
pub(crate) mod life;
pub(crate) mod pooler;
pub(crate) mod raw;
pub(crate) mod task;
mod world;

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use settled::dev::{PrivateServers, ServersOptions};
use tokio::sync::OnceCell;
use tokio_postgres::{Client, Config, NoTls};

pub(crate) use amqp::{Events, Publisher, Received};
pub(crate) use daemon::Daemon;
pub(crate) use task::{Task, authorize, change, follow_up, open, split, transfer};
pub(crate) use world::World;

/// What a step may take before a test gives up on it: generous, for a machine that compiles.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The least pause between two looks at what is waited for.
const PAUSE: Duration = Duration::from_millis(10);

/// The servers of this test binary; they end with it.
pub(crate) async fn servers() -> &'static PrivateServers {
    static SERVERS: OnceCell<PrivateServers> = OnceCell::const_new();
    SERVERS.get_or_init(own_servers).await
}

/// Servers for a test that breaks them. They end with the value.
pub(crate) async fn own_servers() -> PrivateServers {
    servers_with(&ServersOptions::default()).await
}

/// A PostgreSQL of one's own that is as these options say. It ends with the value.
pub(crate) async fn postgres_with(options: ServersOptions) -> PrivateServers {
    servers_with(&ServersOptions { without_broker: true, ..options }).await
}

async fn servers_with(options: &ServersOptions) -> PrivateServers {
    let binary = Path::new(env!("CARGO_BIN_EXE_settled"));
    PrivateServers::start(binary, options).await.expect("the servers start")
}

/// Waits until `holds`; fails with `what` if that takes longer than [`SOON`].
pub(crate) async fn eventually(what: &str, holds: impl AsyncFnMut() -> bool) {
    within(SOON, what, holds).await;
}

/// Waits until `holds`; fails with `what` if that takes longer than `limit`. Of the time a fifth is spent
/// on looking: what is waited for needs the processors, too.
pub(crate) async fn within(limit: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + limit;
    loop {
        let looked = Instant::now();
        if holds().await {
            return;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep((looked.elapsed() * 4).clamp(PAUSE, PAUSE * 20)).await;
    }
}

/// Connects to a database of the servers.
pub(crate) async fn connect(database: Option<&str>) -> Client {
    let mut config: Config = servers().await.postgres_url().parse().expect("a PostgreSQL URL");
    if let Some(database) = database {
        config.dbname(database);
    }
    let (client, connection) = config.connect(NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// A new database: empty of payments, or a copy of `template`, to which nobody may be connected.
pub(crate) async fn database(template: Option<&str>) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let admin = connect(None).await;
    let create = format!("CREATE DATABASE {name} TEMPLATE {}", template.unwrap_or("template1"));
    admin.batch_execute(&create).await.expect("a database");
    if template.is_none() {
        let mut client = connect(Some(&name)).await;
        settled::store::migrate(&mut client).await.expect("migrated");
    }
    name
}

/// A `settled` of its own database, and the daemon on it.
pub(crate) struct Installation {
    config: tempfile::NamedTempFile,
    pub(crate) database: String,
}

/// What a command ended with.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Installation {
    /// A database, and names on the broker, that no other test uses.
    pub(crate) async fn new() -> Self {
        Self::of(database(None).await).await
    }

    /// The same installation, with other servers in its configuration.
    pub(crate) fn elsewhere(&self, amqp_uri: &str, postgres_url: &str) -> Self {
        Self::at(self.database.clone(), amqp_uri, postgres_url)
    }

    fn at(database: String, amqp_uri: &str, postgres_url: &str) -> Self {
        let text = format!(
            "[broker]\nuris = [{amqp_uri:?}]\nexchange = \"{database}\"\nqueue = \"{database}.tasks\"\n\
             dead_letter_exchange = \"{database}.dead\"\ndead_letter_queue = \"{database}.dead\"\n\
             [postgres]\nurl = {postgres_url:?}\n[events]\nexchange = \"{database}.events\"\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n"
        );
        let config = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(config.path(), text).expect("the configuration");
        Self { config, database }
    }

    fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_settled"));
        command.args(arguments).arg("--config").arg(self.config.path()).kill_on_drop(true);
        for variable in ["SETTLED_AMQP_URI", "SETTLED_POSTGRES_URL", "SETTLED_ADMIN_LISTEN"] {
            command.env_remove(variable);
        }
        command
    }

    /// The installation of this database, for whoever has made it already.
    pub(crate) async fn of(database: String) -> Self {
        let servers = servers().await;
        let (server, _) = servers.postgres_url().rsplit_once('/').expect("a URL with a database");
        Self::at(database.clone(), servers.amqp_uri(), &format!("{server}/{database}"))
    }

    /// The daemon. It ends when this is dropped.
    pub(crate) fn daemon(&self) -> tokio::process::Child {
        self.command(&["run"]).stderr(std::process::Stdio::null()).spawn().expect("the daemon starts")
    }

    /// Runs a command with this input.
    pub(crate) async fn run(&self, arguments: &[&str], input: &str) -> Ended {
        use tokio::io::AsyncWriteExt;
        let piped = std::process::Stdio::piped;
        let mut command = self.command(arguments);
        let mut child = command.stdin(piped()).stdout(piped()).stderr(piped()).spawn().expect("the command starts");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).await.expect("the command reads");
        drop(stdin);
        let output = child.wait_with_output().await.expect("the command ends");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Ended {
            code: output.status.code().expect("an exit code"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}
