//! Shared code of the tests on real servers: one pair of servers per test binary, one database per test.

pub mod amqp;
mod daemon;
pub mod life;
pub mod pooler;
pub mod prometheus;
pub mod raw;
mod scenes;
pub mod task;
mod world;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;
use tokio_postgres::{Client, Config, NoTls};

use crate::servers::{PrivateServers, ServersOptions};
pub use amqp::{Events, Publisher, Received, bind};
pub use daemon::Daemon;
pub use scenes::{assert_has, declare_queue};
pub use task::{Task, authorize, change, follow_up, open, split, transfer};
pub use world::{Ended, World};

/// Time limit for one step of a test. It is generous, because the machine may be compiling meanwhile.
pub const SOON: Duration = Duration::from_secs(30);

/// Minimum pause between two checks of a condition.
const PAUSE: Duration = Duration::from_millis(10);

/// SQL script that creates a ledger written by earlier versions.
pub const LEDGER: &str = include_str!("ledger.sql");

/// Returns the path of the `settled` built with this test or benchmark: two directories up from its binary.
pub fn settled() -> PathBuf {
    let own = std::env::current_exe().expect("a test has a binary");
    let settled = own.parent().and_then(|deps| deps.parent()).map(|profile| profile.join("settled"));
    settled.filter(|path| path.exists()).expect("cargo builds `settled` for the tests of its package")
}

/// Returns the path of `settled-test-servers`, next to `settled`. Builds it first: cargo builds it only for the tests
/// of its own package.
pub fn test_servers() -> PathBuf {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| built("patches"));
    settled().with_file_name("settled-test-servers")
}

/// Builds the binaries of the package that has the test `test`. The command is the one of a run of all tests, so that
/// after such a run nothing is left to build.
pub fn built(test: &str) {
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["test", "--no-run", "--workspace", "--quiet", "--test", test]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    assert!(build.status().expect("cargo starts").success(), "what stands beside `{test}` cannot be built");
}

/// Returns the shared servers of this test binary, which are stopped when it ends.
pub async fn servers() -> &'static PrivateServers {
    static SERVERS: OnceCell<PrivateServers> = OnceCell::const_new();
    SERVERS.get_or_init(own_servers).await
}

/// Starts servers for a test that breaks them. They are stopped when the value is dropped.
pub async fn own_servers() -> PrivateServers {
    servers_with(&ServersOptions::default()).await
}

/// Starts a PostgreSQL with these options, without a broker. It is stopped when the value is dropped.
pub async fn postgres_with(options: ServersOptions) -> PrivateServers {
    servers_with(&ServersOptions { without_broker: true, ..options }).await
}

async fn servers_with(options: &ServersOptions) -> PrivateServers {
    PrivateServers::start(&test_servers(), options).await.expect("the servers start")
}

/// Waits until `holds` returns true. Fails with `what` if that takes longer than [`SOON`].
pub async fn eventually(what: &str, holds: impl AsyncFnMut() -> bool) {
    within(SOON, what, holds).await;
}

/// Waits until `holds` returns true. Fails with `what` if that takes longer than `limit`. At most a fifth of the time
/// is spent on checking, to leave the processors to the code under test.
pub async fn within(limit: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) {
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

/// Connects to a database of the shared servers.
pub async fn connect(database: Option<&str>) -> Client {
    let url = servers().await.postgres_url();
    let url = database.map_or_else(|| url.to_owned(), |database| sibling(url, database));
    connect_to(&url).await
}

/// Connects to the database of this URL.
pub async fn connect_to(url: &str) -> Client {
    try_connect(url).await.expect("a connection to PostgreSQL")
}

/// Connects to a PostgreSQL. Returns `None` if it takes no connections.
async fn try_connect(url: &str) -> Option<Client> {
    let config: Config = url.parse().expect("a PostgreSQL URL");
    let (client, connection) = config.connect(NoTls).await.ok()?;
    tokio::spawn(connection);
    Some(client)
}

/// Returns the URL of another database on the same server.
fn sibling(url: &str, database: &str) -> String {
    let (server, other) = url.rsplit_once('/').expect("a URL with a database");
    format!("{server}/{database}{}", &other[other.find('?').unwrap_or(other.len())..])
}

/// Creates a database: migrated and empty, or a copy of `template`, which must have no connections. Returns its name.
pub async fn database(template: Option<&str>) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let admin = connect(None).await;
    let create = format!("CREATE DATABASE {name} TEMPLATE {}", template.unwrap_or("template1"));
    admin.batch_execute(&create).await.expect("a database");
    if template.is_none() {
        let mut client = connect(Some(&name)).await;
        settled_store::migrate(&mut client).await.expect("migrated");
    }
    name
}
