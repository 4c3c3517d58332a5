//! The floor: what PostgreSQL alone takes for the daemon's batches. The same rows, written by the
//! same statements in the same two round trips, with everything decided beforehand: no broker,
//! no decoder and no ledger stand around them, and no event is published. A daemon can come
//! close to this rate on the same machine, and never above it.

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
use crate::report::model::{self, Check, Histograms, Load, ProcessUse, Results, Sample, Summary};
use crate::results::machine::{command, this_machine};
use crate::rig::process::{Family, of_myself};
use tellers::Teller;

/// On the command line and in the results.
const NAME: &str = "floor";

#[derive(Clone, Copy, Debug)]
struct Committed {
    at: Duration,
    payments: u64,
}

/// What PostgreSQL and this program have used up to now; of memory, what there is now.
fn used(servers: &PrivateServers) -> [ProcessUse; 2] {
    let postgres = servers.postgres_pid().map(|pid| Family::now().of_tree(pid));
    [postgres.unwrap_or_default(), of_myself()]
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
    measured
}

async fn on_servers(options: &FloorArgs, servers: &PrivateServers) -> Result<Results> {
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
    let before = used(servers);
    let (began, clock) = (Timestamp::now(), Instant::now());
    let commits = prepared.iter().map(|batches| commit(&pool, batches, clock));
    let commits = try_join_all(commits).await.context("commit the payments")?.concat();
    let took = clock.elapsed();
    let mut used = used(servers);
    for (used, before) in used.iter_mut().zip(before) {
        used.cpu_seconds -= before.cpu_seconds;
    }
    // There is no daemon to publish what is in it.
    client.execute("DELETE FROM outbox", &[]).await?;
    let audit = audited(options, &mut client).await?;
    let [postgres, generator] = used;
    let summary = Summary { machine, postgres, generator, ..summary(options, began, took, &audit) };
    Ok(Results { summary, series: series(&commits, took), histograms: Histograms::new() })
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
    let transfers =
        audit.totals.iter().flat_map(|totals| &totals.payments).filter(|payment| payment.task_type == "transfer");
    let committed: i64 = transfers.map(|payment| payment.count).sum();
    let count = options.count;
    ensure!(committed == i64::try_from(count)?, "{committed} payments are in the database, not {count}");
    Ok(audit)
}

fn summary(options: &FloorArgs, began: Timestamp, took: Duration, audit: &Audit) -> Summary {
    let settled = options.count as u64;
    let broken = audit.checks.iter().filter(|check| check.violations > 0);
    let broken: Vec<String> = broken.map(|check| format!("{}: {}", check.name, check.examples.join("; "))).collect();
    Summary {
        verb: NAME.to_owned(),
        subject: NAME.to_owned(),
        label: options.label.clone(),
        command: command(std::env::args()),
        started_at: began.to_string(),
        duration_s: took.as_secs_f64(),
        load: Load {
            rate: format!("batches of {}, {} at a time", options.batch, options.connections),
            arrival: "none".to_owned(),
            accounts: options.accounts as u64,
            skew: "uniform".to_owned(),
            seed: options.seed,
            mix: [("good".to_owned(), 1.0)].into(),
            ..Load::default()
        },
        settled,
        by_type: [("transfer".to_owned(), [("settled".to_owned(), settled)].into())].into(),
        rate_committed_per_s: settled as f64 / took.as_secs_f64(),
        audit: model::Audit { passed: audit.passed, checks: audit.checks.len() as u64 },
        passed: audit.passed,
        checks: vec![Check {
            holds: "settled audit passes".to_owned(),
            found: (!audit.passed).then(|| broken.join("; ")),
        }],
        ..Summary::of_this_version()
    }
}

/// What was committed by each second, and at the end. There is nothing else to watch.
fn series(commits: &[Committed], took: Duration) -> Vec<Sample> {
    let whole = (1..=took.as_secs()).map(Duration::from_secs);
    let ends = whole.chain((took.subsec_nanos() > 0).then_some(took));
    let by = |end: Duration| commits.iter().filter(|commit| commit.at <= end).map(|commit| commit.payments).sum();
    ends.map(|end| Sample { at_s: end.as_secs_f64(), settled: by(end), ..Sample::default() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_series_ends_with_everything() {
        let commit = |millis| Committed { at: Duration::from_millis(millis), payments: 10 };
        // In any order: several connections commit.
        let commits = [commit(400), commit(1000), commit(1700), commit(900)];
        let series = series(&commits, Duration::from_millis(1700));
        let points: Vec<(f64, u64)> = series.iter().map(|sample| (sample.at_s, sample.settled)).collect();
        assert_eq!(points, [(1.0, 30), (1.7, 40)]);
    }
}
