//! The floor: what PostgreSQL alone takes for the daemon's batches. The same rows, written by the
//! same statements in the same two round trips, with everything decided beforehand: no broker,
//! no decoder and no ledger stand around them, and no event is published. A daemon can come
//! close to this rate on the same machine, and never above it.

mod figures;
mod tellers;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use futures_util::future::try_join_all;
use jiff::Timestamp;
use settled_store::queries::audit::{Audit, audit};
use settled_store::{Client, Pool, PostgresSettings};
use settled_testkit::prepared::Prepared;
use settled_testkit::servers::{PrivateServers, ServersOptions};

use crate::args::{FloorArgs, refuse};
use crate::report::model::{Machine, Results};
use crate::results::machine::this_machine;
use crate::rig::process::{Family, Use, of_myself};
use tellers::Teller;

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

#[derive(Clone, Copy, Debug)]
struct Committed {
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
pub(crate) async fn measure(options: &FloorArgs) -> Result<Results> {
    let FloorArgs { accounts, connections, .. } = options;
    if *accounts < 2 * connections {
        refuse(&format!("--accounts {accounts}: expected at least two for each of {connections} connections"));
    }
    // Even an idle broker takes time of the processors.
    let without_broker = ServersOptions { without_broker: true, ..ServersOptions::default() };
    let servers = PrivateServers::start(&std::env::current_exe()?, &without_broker).await?;
    let measured = on_servers(options, &servers).await;
    servers.shutdown().await?;
    Ok(figures::results(options, measured?))
}

async fn on_servers(options: &FloorArgs, servers: &PrivateServers) -> Result<Measured> {
    let mut settings = PostgresSettings { pool_size: options.connections, ..PostgresSettings::default() };
    settings.use_url(servers.postgres_url()).map_err(anyhow::Error::msg)?;
    let machine = this_machine(settled_store::probe(&settings).await?.version, "not running".to_owned());
    let mut client = settled_store::connect(&settings).await?;
    settled_store::migrate(&mut client).await?;
    let pool = settled_store::pool(&settings)?;
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

fn tellers(options: &FloorArgs) -> Result<Vec<Teller>> {
    let FloorArgs { count, accounts, connections, seed, .. } = *options;
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

async fn audited(options: &FloorArgs, client: &mut Client) -> Result<Audit> {
    let audit = audit(client).await?;
    let transfers = audit.totals.payments.iter().filter(|payment| payment.task_type == "transfer");
    let committed: i64 = transfers.map(|payment| payment.count).sum();
    let count = options.count;
    ensure!(committed == i64::try_from(count)?, "{committed} payments are in the database, not {count}");
    Ok(audit)
}
