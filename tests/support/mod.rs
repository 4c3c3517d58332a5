//! What the tests on real servers share: one pair of servers per test binary, a database per test.
#![allow(dead_code, reason = "no test binary uses all of it")]

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use settled::dev::{PrivateServers, ServersOptions};
use tokio::sync::OnceCell;
use tokio_postgres::{Client, Config, NoTls};

/// The servers of this test binary; they end with it.
pub(crate) async fn servers() -> &'static PrivateServers {
    static SERVERS: OnceCell<PrivateServers> = OnceCell::const_new();
    SERVERS
        .get_or_init(|| async {
            let binary = Path::new(env!("CARGO_BIN_EXE_settled"));
            PrivateServers::start(binary, &ServersOptions::default()).await.expect("the servers start")
        })
        .await
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
