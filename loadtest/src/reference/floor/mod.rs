//! The floor: what PostgreSQL alone takes for the daemon's batches. The same rows, written by the
//! same statements in the same two round trips, with everything decided beforehand: no broker,
//! no decoder and no ledger stand around them, and no event is published. A daemon can come
//! close to this rate on the same machine, and never above it.

mod tellers;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use futures_util::future::try_join_all;
use settled::dev::{PrivateServers, ServersOptions};
use settled::store::queries::audit::{Audit, audit};
use settled::store::{self, Client, Pool, PostgresSettings, Prepared};

use crate::args::at_least_one;
use tellers::Teller;

/// What is to be measured.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// How many payments to commit
    #[arg(long, default_value_t = 200_000, value_parser = at_least_one)]
    count: usize,
    /// How many payments to commit in one transaction
    #[arg(long, default_value_t = 1000, value_parser = at_least_one)]
    batch: usize,
    /// How many accounts take part
    #[arg(long, default_value_t = 1000, value_parser = at_least_one)]
    accounts: usize,
    /// How many connections commit at the same time, each between accounts of its own
    #[arg(long, default_value_t = 1, value_parser = at_least_one)]
    connections: usize,
    /// The same seed gives the same payments, but for their ids
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What was measured.
#[derive(Debug)]
pub(crate) struct Measured {
    /// From the first BEGIN to the last COMMIT.
    pub(crate) took: Duration,
    /// Of the ledger afterwards.
    pub(crate) audit: Audit,
}

/// Measures on servers that `binary` starts.
///
/// # Errors
/// Too few accounts, and whatever keeps PostgreSQL from it.
pub(crate) async fn measure(options: &Options, binary: &Path) -> Result<Measured> {
    let Options { accounts, connections, .. } = options;
    ensure!(
        *accounts >= 2 * connections,
        "--accounts {accounts}: expected at least two for each of {connections} connections"
    );
    let servers = PrivateServers::start(binary, &ServersOptions::default()).await?;
    let measured = on_servers(options, &servers).await;
    servers.shutdown().await?;
    measured
}

async fn on_servers(options: &Options, servers: &PrivateServers) -> Result<Measured> {
    // Even an idle broker takes time of the processors.
    servers.stop_rabbitmq().await?;
    let mut settings = PostgresSettings { pool_size: options.connections, ..PostgresSettings::default() };
    settings.use_url(servers.postgres_url()).map_err(anyhow::Error::msg)?;
    let mut client = store::connect(&settings).await?;
    store::migrate(&mut client).await?;
    let pool = store::pool(&settings)?;
    let tellers = tellers(options)?;
    let opening = tellers::store(&pool, &settings);
    // At the same time, so that every connection is there and has its statements prepared.
    try_join_all(tellers.iter().map(|teller| teller.open(&opening))).await.context("open the accounts")?;
    let prepared = tellers.iter().map(|teller| teller.prepare(&client, options.batch));
    let prepared = try_join_all(prepared).await.context("decide the payments")?;
    let began = Instant::now();
    try_join_all(prepared.iter().map(|batches| commit(&pool, batches))).await.context("commit the payments")?;
    let took = began.elapsed();
    // There is no daemon to publish what is in it.
    client.execute("DELETE FROM outbox", &[]).await?;
    Ok(Measured { took, audit: audited(options, &mut client).await? })
}

fn tellers(options: &Options) -> Result<Vec<Teller>> {
    let Options { count, accounts, connections, seed, .. } = *options;
    let mut rng = Rng::with_seed(seed);
    let share = |number| count / connections + usize::from(number < count % connections);
    (0..connections).map(|number| Teller::new(share(number), accounts, number, connections, &mut rng)).collect()
}

async fn commit(pool: &Pool, batches: &[Prepared<'_>]) -> Result<()> {
    for batch in batches {
        batch.commit(pool).await?;
    }
    Ok(())
}

async fn audited(options: &Options, client: &mut Client) -> Result<Audit> {
    let audit = audit(client).await?;
    let transfers = audit.totals.payments.iter().filter(|payment| payment.task_type == "transfer");
    let committed: i64 = transfers.map(|payment| payment.count).sum();
    ensure!(
        committed == i64::try_from(options.count)?,
        "{committed} payments are in the database, not {}",
        options.count
    );
    Ok(audit)
}
