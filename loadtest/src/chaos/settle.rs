//! After the storm: everything comes to its end, and the books are judged.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use settled_testkit::replay::{Replayed, Settings, replay};
use tokio::time::sleep;

use super::Job;
use super::checks::{self, Facts};
use super::record::Struck;
use super::report::{Report, Tried};
use super::schedule::Strike;
use super::upstream::Upstream;
use crate::broker::{self, TASKS_QUEUE};
use crate::judge::{Evidence, verdict};
use crate::load::Flights;
use crate::progress::Step;
use crate::report::numbers::count;
use crate::rig::{Fleet, Rig};
use crate::scenario::case::{self, COSTLY_POLL, Case, POLL, left, reach};
use crate::sink::Sink;

pub(super) struct Done<'a> {
    pub(super) job: &'a Job,
    pub(super) case: Case<'a>,
    pub(super) fleet: Fleet,
    pub(super) upstream: Upstream,
    pub(super) sink: Sink,
    pub(super) strikes: &'a [Strike],
    pub(super) struck: &'a [Struck],
    pub(super) deadlocks_before: usize,
}

/// Waits until all that was published has its outcome and its event, and judges it.
pub(super) async fn settle(done: Done<'_>) -> Result<Report> {
    let Done { job, mut case, fleet, upstream, sink, strikes, struck, deadlocks_before } = done;
    let (rig, connections) = (case.rig, upstream.connections());
    let flights = all_confirmed(upstream, job.order.patience).await?;
    let step = Step::begin();
    let stuck = come_to_an_end(&case, &sink).await?;
    case.note(stuck);
    step.done(&format!("{} messages came to their end", count(flights.sent.len() as u64)));
    let (fleet, left) = (fleet.stop().await?, Some(left(rig).await?));
    let done = case::Done { flights, counted: None, sink: Some(sink), fleet, left, any_order: true };
    let evidence = case.evidence(done).await?;
    let replayed = replay(&rig.database().await?, &Settings::default()).await;
    let deadlocks = deadlocks(rig).await?.saturating_sub(deadlocks_before);
    let told = Told { connections, deadlocks, replayed };
    Ok(report(job, &evidence, told, (strikes, struck)))
}

/// What is known beside the evidence of every run.
struct Told {
    connections: u64,
    deadlocks: usize,
    replayed: std::result::Result<Replayed, String>,
}

fn report(job: &Job, evidence: &Evidence, told: Told, (strikes, struck): (&[Strike], &[Struck])) -> Report {
    let Told { connections, deadlocks, replayed } = told;
    let findings = evidence.find();
    let Flights { start, sent, confirmed } = &evidence.flights;
    let last = confirmed.iter().map(|confirmed| confirmed.at).max().unwrap_or(*start);
    let duration_s = (last - start).max(1) as f64 / 1e6;
    let rate_per_s = confirmed.len() as f64 / duration_s;
    let mut checks = verdict::checks(evidence, &findings);
    let steps = replayed.as_ref().map_or(0, |replayed| replayed.steps);
    checks.push(verdict::check(
        "another ledger, of one thread, comes to the same states, balances and entries",
        replayed.map(|_| ()),
    ));
    checks.extend(checks::checks(&Facts {
        strikes,
        struck,
        in_flight: job.options.in_flight,
        rates: [job.options.tempo.rate, rate_per_s],
        deadlocks,
        goals: job.options.goals,
    }));
    let received = evidence.received.as_ref();
    Report {
        tool_version: env!("CARGO_PKG_VERSION"),
        command: job.command(),
        seed: job.order.shape.seed,
        daemons: job.blueprint.daemons(),
        duration_s,
        published: sent.len() as u64,
        confirmed: confirmed.len() as u64,
        rate_per_s,
        connections,
        settled: findings.tally.named("settled"),
        rejected: findings.tally.named("rejected"),
        dead_lettered: findings.tally.named("dead_lettered"),
        events: received.map_or(0, |received| received.unique),
        events_received: received.map_or(0, |received| received.total),
        lost: findings.lost,
        doubled: evidence.books.doubled,
        events_missing: findings.events_missing,
        deadlocks,
        replayed: steps,
        looked_up: struck.iter().map(|struck| struck.looked_up).sum(),
        faults: Tried::all(strikes, struck),
        strikes: struck.to_vec(),
        passed: checks.iter().all(|check| check.found.is_none()),
        checks,
    }
}

/// Has the system upstream end, when the broker has confirmed all of it.
async fn all_confirmed(upstream: Upstream, patience: Duration) -> Result<Flights> {
    upstream.end();
    let position = async || {
        let (published, confirmed) = upstream.counts();
        Ok(if upstream.is_done() { u64::MAX } else { published + confirmed })
    };
    if reach(patience, u64::MAX, POLL, position).await?.is_some() {
        let (published, confirmed) = upstream.counts();
        bail!("the broker has confirmed {confirmed} of {published} messages, and no more for {patience:?}");
    }
    upstream.finish().await
}

/// Waits for every outcome and every event; returns what did not come.
async fn come_to_an_end(case: &Case<'_>, sink: &Sink) -> Result<Option<String>> {
    let (rig, patience) = (case.rig, case.order.patience);
    let database = rig.database().await?;
    let outcomes = case.script.with(|lines| case.opening + lines.plan.decided() + lines.plan.dead_letters()) as u64;
    // What is scheduled comes when it is due.
    sleep(case.order.shape.life.scheduled.within).await;
    let stuck = reach(patience, outcomes, COSTLY_POLL, async || case.run.outcomes(&database).await).await?;
    if let Some(stuck) = stuck {
        return Ok(Some(format!("outcomes: {stuck}")));
    }
    let (_connection, channel) = broker::channel(&rig.amqp_uri, "settled-loadtest").await?;
    let empty = async || Ok(u64::from(broker::waiting(&channel, TASKS_QUEUE).await? == 0));
    if reach(patience, 1, POLL, empty).await?.is_some() {
        return Ok(Some(format!("the queue did not become empty within {patience:?}")));
    }
    match case.await_events(sink).await? {
        None => case.await_outbox().await,
        stuck => Ok(stuck),
    }
}

/// How often PostgreSQL has ended a wait of two sessions for each other: from the logs of servers of our
/// own, which lose their count when they are killed, and nobody kills the others.
pub(super) async fn deadlocks(rig: &Rig) -> Result<usize> {
    let Some(servers) = &rig.private else {
        let counted = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
        let counted: i64 = rig.database().await?.query_one(counted, &[]).await?.get(0);
        return Ok(usize::try_from(counted)?);
    };
    // As their guardian sees it, who may have mounts of his own.
    let dir = format!("/proc/{}/root{}", servers.guardian_pid(), servers.dir().display());
    Ok(deadlocks_logged(Path::new(&dir)))
}

fn deadlocks_logged(dir: &Path) -> usize {
    let rooms = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = rooms.filter_map(|room| std::fs::read_dir(room).ok()).flatten().flatten().map(|entry| entry.path());
    let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    let count = |log| {
        let bytes = std::fs::read(log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).matches("ERROR:  deadlock detected").count()
    };
    logs.map(count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlocks_are_counted_in_the_logs_of_all_servers() {
        let dir = tempfile::tempdir().expect("a directory");
        for (room, lines) in [("postgres", 2), ("standby", 1)] {
            let room = dir.path().join(room);
            std::fs::create_dir(&room).expect("a room");
            std::fs::write(room.join("x.log"), "12:00 ERROR:  deadlock detected\n".repeat(lines)).expect("a log");
        }
        assert_eq!(deadlocks_logged(dir.path()), 3);
    }
}
