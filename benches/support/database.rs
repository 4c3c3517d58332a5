//! A private PostgreSQL with databases that hold as much as is asked for.

use settled_store::queries::audit::audit;
use settled_store::{Client, Pool, PostgresSettings};
use settled_testkit::harness::postgres_with;
use settled_testkit::seed;
use settled_testkit::servers::{PrivateServers, ServersOptions};
use tokio::sync::OnceCell;

/// The servers of this benchmark, of which the broker is stopped. They end with it, and leave nothing
/// behind.
pub(crate) async fn servers() -> &'static PrivateServers {
    static SERVERS: OnceCell<PrivateServers> = OnceCell::const_new();
    SERVERS.get_or_init(|| postgres_with(ServersOptions::default())).await
}

pub(crate) struct Database {
    name: String,
    pub(crate) settings: PostgresSettings,
    pub(crate) pool: Pool,
}

impl Database {
    /// With `accounts` accounts that have made at least `payments` payments together.
    pub(crate) async fn seeded(accounts: usize, payments: usize) -> Self {
        let servers = servers().await;
        let name = format!("bench_{accounts}_{payments}");
        let admin = connect(servers.postgres_url()).await;
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a database");
        let (server, _) = servers.postgres_url().rsplit_once('/').expect("a URL with a database");
        let settings = settings(&format!("{server}/{name}"));
        let mut client = settled_store::connect(&settings).await.expect("a connection");
        settled_store::migrate(&mut client).await.expect("migrated");
        seed::accounts(&client, accounts).await.expect("accounts");
        seed::payments(&mut client, payments).await.expect("payments");
        // So that neither is done while somebody measures.
        seed::settle(&client).await.expect("vacuumed and written");
        Self { pool: settled_store::pool(&settings).expect("a pool"), name, settings }
    }

    /// Panics unless the ledger keeps its promises.
    pub(crate) async fn audit(&self) {
        let mut client = settled_store::connect(&self.settings).await.expect("a connection");
        let audit = audit(&mut client).await.expect("an audit");
        assert!(audit.passed, "{:?}", audit.checks);
    }

    pub(crate) async fn drop(self) {
        self.pool.close();
        let admin = connect(servers().await.postgres_url()).await;
        admin.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name)).await.expect("dropped");
    }
}

async fn connect(url: &str) -> Client {
    settled_store::connect(&settings(url)).await.expect("a connection")
}

fn settings(url: &str) -> PostgresSettings {
    let mut settings = PostgresSettings::default();
    settings.use_url(url).expect("a PostgreSQL URL");
    settings
}
