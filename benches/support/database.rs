//! A private PostgreSQL with databases that hold as much as is asked for.

use std::path::Path;

use settled::dev::{PrivateServers, ServersOptions};
use settled::store::queries::audit::audit;
use settled::store::{self, Client, Pool, PostgresSettings};
use tokio::sync::OnceCell;

/// The servers of this benchmark. They end with it, and leave nothing behind.
pub(crate) async fn servers() -> &'static PrivateServers {
    static SERVERS: OnceCell<PrivateServers> = OnceCell::const_new();
    let start =
        async || PrivateServers::start(Path::new(env!("CARGO_BIN_EXE_settled")), &ServersOptions::default()).await;
    SERVERS.get_or_init(async || start().await.expect("the servers start")).await
}

/// A database of its own.
pub(crate) struct Database {
    name: String,
    pub(crate) settings: PostgresSettings,
    pub(crate) pool: Pool,
}

/// The accounts 0 … $1 - 1 as `account:0` …, with the ids 1 … $1: open, without a limit and, as
/// everything paid was paid on, with a balance of 0. $2: how often each has paid.
const ACCOUNTS: &str = "
    INSERT INTO account (id, version, opened_at, status, currency, name) OVERRIDING SYSTEM VALUE
    SELECT n, 2 * $2::bigint, now(), 'open', 'USD', 'account:' || n - 1 FROM generate_series(1, $1::bigint) AS n";

const OPENINGS: &str = "
    INSERT INTO payment (id, debit_account, received_at, settled_at, type, state, currency, fingerprint)
    SELECT ('01910000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, n, now(), now(), 'open_account', 'settled',
           'USD', decode(lpad(to_hex(n), 32, '0'), 'hex')
      FROM generate_series(1, $1::bigint) AS n";

/// In each of $2 rounds every account pays the next one, the last one the first. Account 1 pays
/// before it is paid, the others after.
const PAYMENTS: &str = "
    INSERT INTO payment (id, debit_account, credit_account, amount, debit_seq, credit_seq, received_at, settled_at,
                         type, state, currency, fingerprint, publisher, reference)
    SELECT ('01920000-0000-7000-8000-' || lpad(to_hex(nth), 12, '0'))::uuid, debit, credit, 100,
           2 * round + CASE debit WHEN 1 THEN 1 ELSE 2 END, 2 * round + CASE credit WHEN 1 THEN 2 ELSE 1 END,
           now(), now(), 'transfer', 'settled', 'USD', decode(lpad(to_hex(nth), 32, '0'), 'hex'), 'shop', 'order-123'
      FROM (SELECT round * $1::bigint + debit AS nth, round, debit, debit % $1::bigint + 1 AS credit
              FROM generate_series(0, $2::bigint - 1) AS round, generate_series(1, $1::bigint) AS debit) AS p";

const ENTRIES: &str = "
    INSERT INTO entry (account, seq, amount, balance_after, payment_id)
    SELECT side.*, payment.id
      FROM payment,
           LATERAL (VALUES (debit_account, debit_seq, -amount, CASE debit_account WHEN 1 THEN -amount ELSE 0 END),
                           (credit_account, credit_seq, amount, CASE credit_account WHEN 1 THEN 0 ELSE amount END))
             AS side (account, seq, amount, balance_after)
     WHERE type = 'transfer'";

impl Database {
    /// With `accounts` accounts that have made at least `payments` payments together.
    pub(crate) async fn seeded(accounts: usize, payments: usize) -> Self {
        let servers = servers().await;
        let name = format!("bench_{accounts}_{payments}");
        let admin = connect(servers.postgres_url()).await;
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a database");
        let (server, _) = servers.postgres_url().rsplit_once('/').expect("a URL with a database");
        let settings = settings(&format!("{server}/{name}"));
        let mut client = store::connect(&settings).await.expect("a connection");
        store::migrate(&mut client).await.expect("migrated");
        seed(&client, accounts, payments.div_ceil(accounts)).await;
        Self { pool: store::pool(&settings).expect("a pool"), name, settings }
    }

    /// Panics unless the ledger keeps its promises.
    pub(crate) async fn audit(&self) {
        let mut client = store::connect(&self.settings).await.expect("a connection");
        let audit = audit(&mut client).await.expect("an audit");
        assert!(audit.passed, "{:?}", audit.checks);
    }

    pub(crate) async fn drop(self) {
        self.pool.close();
        let admin = connect(servers().await.postgres_url()).await;
        admin.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name)).await.expect("dropped");
    }
}

async fn seed(client: &Client, accounts: usize, rounds: usize) {
    let (accounts, rounds) = (i64::try_from(accounts).expect("few"), i64::try_from(rounds).expect("few"));
    let insert = async |statement, parameters: &[i64]| {
        let parameters: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
            parameters.iter().map(|parameter| parameter as _).collect();
        client.execute(statement, &parameters).await.expect("seeded");
    };
    // Whole ledgers are written at once.
    client.batch_execute("SET statement_timeout = 0").await.expect("set");
    insert(ACCOUNTS, &[accounts, rounds]).await;
    client.batch_execute(&format!("ALTER TABLE account ALTER id RESTART {}", accounts + 1)).await.expect("restarted");
    insert(OPENINGS, &[accounts]).await;
    insert(PAYMENTS, &[accounts, rounds]).await;
    insert(ENTRIES, &[]).await;
    // So that neither is done while somebody measures.
    client.batch_execute("VACUUM ANALYZE").await.expect("vacuumed");
    client.batch_execute("CHECKPOINT").await.expect("written");
}

async fn connect(url: &str) -> Client {
    store::connect(&settings(url)).await.expect("a connection")
}

fn settings(url: &str) -> PostgresSettings {
    let mut settings = PostgresSettings::default();
    settings.use_url(url).expect("a PostgreSQL URL");
    settings
}
