//! The floor: what PostgreSQL alone takes for the daemon's batches. The same rows, written by the
//! same statements in the same two round trips, with everything decided beforehand: no broker,
//! no decoder and no ledger stand around them, and no event is published. A daemon can come
//! close to this rate on the same machine, and never above it.

mod figures;
mod tellers;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use futures_util::future::try_join_all;
use jiff::Timestamp;
use settled::dev::{PrivateServers, ServersOptions};
use settled::store::queries::audit::{Audit, audit};
use settled::store::{self, Client, Pool, PostgresSettings, Prepared};

use crate::args::values::at_least_one;
use crate::args::{refuse, settled_path};
use crate::report::model::{Machine, Results};
use crate::results::machine::this_machine;
use crate::rig::process::{Family, Use, of_myself};
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
    /// The settled that starts the servers [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    daemon: Option<PathBuf>,
    /// What to call it in the results
    #[arg(long)]
    label: Option<String>,
    /// Print the summary as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the results into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// What was measured.
#[derive(Debug)]
struct Measured {
    began: Timestamp,
    /// From the first BEGIN to the last COMMIT.
    took: Duration,
    commits: Vec<Committed>,
    used: Uses,
    machine: Machine,
    audit: Audit,
}

/// A batch that was committed.
#[derive(Clone, Copy, Debug)]
struct Committed {
    /// When, since the first BEGIN.
    at: Duration,
    payments: u64,
}

/// What those who do the work have used.
#[derive(Clone, Copy, Debug)]
struct Uses {
    postgres: Use,
    generator: Use,
}

impl Uses {
    fn now(servers: &PrivateServers) -> Self {
        let postgres = servers.postgres_pid().map(|pid| Family::now().of_tree(pid));
        Self { postgres: postgres.unwrap_or_default(), generator: of_myself() }
    }

    /// The time since `before`; of memory, what there is now.
    fn since(self, before: &Self) -> Self {
        let since = |now: Use, before: Use| Use { cpu_seconds: now.cpu_seconds - before.cpu_seconds, ..now };
        Self { postgres: since(self.postgres, before.postgres), generator: since(self.generator, before.generator) }
    }
}

/// Measures on a private PostgreSQL.
///
/// # Errors
/// Whatever keeps PostgreSQL from it. Too few accounts end the program, as a usage error.
pub(crate) async fn measure(options: &Options) -> Result<Results> {
    let Options { accounts, connections, .. } = options;
    if *accounts < 2 * connections {
        refuse(&format!("--accounts {accounts}: expected at least two for each of {connections} connections"));
    }
    let settled = settled_path(options.daemon.as_deref())?;
    // Even an idle broker takes time of the processors.
    let without_broker = ServersOptions { without_broker: true, ..ServersOptions::default() };
    let servers = PrivateServers::start(&settled, &without_broker).await?;
    let measured = on_servers(options, &servers).await;
    servers.shutdown().await?;
    Ok(figures::results(options, measured?))
}

async fn on_servers(options: &Options, servers: &PrivateServers) -> Result<Measured> {
    let mut settings = PostgresSettings { pool_size: options.connections, ..PostgresSettings::default() };
    settings.use_url(servers.postgres_url()).map_err(anyhow::Error::msg)?;
    let machine = this_machine(store::probe(&settings).await?.version, "not running".to_owned());
    let mut client = store::connect(&settings).await?;
    store::migrate(&mut client).await?;
    let pool = store::pool(&settings)?;
    let tellers = tellers(options)?;
    let opening = tellers::store(&pool, &settings);
    // At the same time, so that every connection is there and has its statements prepared.
    try_join_all(tellers.iter().map(|teller| teller.open(&opening))).await.context("open the accounts")?;
    let prepared = tellers.iter().map(|teller| teller.prepare(&client, options.batch));
    let prepared = try_join_all(prepared).await.context("decide the payments")?;
    let before = Uses::now(servers);
    let (began, clock) = (Timestamp::now(), Instant::now());
    let commits = prepared.iter().map(|batches| commit(&pool, batches, clock));
    let commits = try_join_all(commits).await.context("commit the payments")?.concat();
    let took = clock.elapsed();
    let used = Uses::now(servers).since(&before);
    // There is no daemon to publish what is in it.
    client.execute("DELETE FROM outbox", &[]).await?;
    let audit = audited(options, &mut client).await?;
    Ok(Measured { began, took, commits, used, machine, audit })
}

fn tellers(options: &Options) -> Result<Vec<Teller>> {
    let Options { count, accounts, connections, seed, .. } = *options;
    let mut rng = Rng::with_seed(seed);
    let share = |number| count / connections + usize::from(number < count % connections);
    (0..connections).map(|number| Teller::new(share(number), accounts, number, connections, &mut rng)).collect()
}

async fn commit(pool: &Pool, batches: &[Prepared<'_>], began: Instant) -> Result<Vec<Committed>> {
    let mut commits = Vec::with_capacity(batches.len());
    for batch in batches {
        batch.commit(pool).await?;
        commits.push(Committed { at: began.elapsed(), payments: batch.payments() as u64 });
    }
    Ok(commits)
}

async fn audited(options: &Options, client: &mut Client) -> Result<Audit> {
    let audit = audit(client).await?;
    let transfers = audit.totals.payments.iter().filter(|payment| payment.task_type == "transfer");
    let committed: i64 = transfers.map(|payment| payment.count).sum();
    let count = options.count;
    ensure!(committed == i64::try_from(count)?, "{committed} payments are in the database, not {count}");
    Ok(audit)
}
