//! After the storm: everything comes to its end, and the books are judged.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use settled_testkit::replay::{Replayed, Settings, replay};
use tokio::time::{Instant, sleep};

use super::Job;
use super::checks::{self, Facts};
use super::record::Struck;
use super::report::{Report, Tried};
use super::schedule::Strike;
use super::upstream::Upstream;
use crate::broker::{self, TASKS_QUEUE};
use crate::judge::{Evidence, books, verdict};
use crate::load::Flights;
use crate::progress::{Step, grouped};
use crate::rig::{Fleet, Rig};
use crate::scenario::{COSTLY_POLL, Case, POLL, left, reach_within};
use crate::sink::Sink;

pub(super) struct Done<'a> {
    pub(super) rig: &'a Rig,
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
    let Done { rig, job, case, fleet, upstream, sink, strikes, struck, deadlocks_before } = done;
    let connections = upstream.connections();
    let flights = all_confirmed(upstream, job.order.patience).await?;
    let step = Step::begin();
    let stuck = come_to_an_end(rig, job, &case, &sink).await?;
    step.done(&format!("{} messages came to their end", grouped(flights.sent.len() as u64)));
    let step = Step::begin();
    let fleet = fleet.stop().await?;
    let left = Some(left(rig).await?);
    let received = Some(sink.finish().await?);
    let database = rig.database().await?;
    let books = case.run.read(&database).await?;
    let audit = rig.audit().await;
    let replayed = replay(&database, &Settings::default()).await;
    let script = Arc::into_inner(case.script).context("somebody still publishes")?;
    let lines = script.into_lines();
    let evidence =
        Evidence { lines, flights, counted: None, books, received, audit, fleet, left, any_order: true, stuck };
    step.done("books read and audited");
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
    let (mut best, mut moved) = (0, Instant::now());
    while !upstream.is_done() {
        let (published, confirmed) = upstream.counts();
        if published + confirmed > best {
            (best, moved) = (published + confirmed, Instant::now());
        } else if moved.elapsed() > patience {
            bail!("the broker has confirmed {confirmed} of {published} messages, and no more for {patience:?}");
        }
        sleep(POLL).await;
    }
    upstream.finish().await
}

/// Waits for every outcome and every event; returns what did not come.
async fn come_to_an_end(rig: &Rig, job: &Job, case: &Case<'_>, sink: &Sink) -> Result<Option<String>> {
    let (database, patience) = (rig.database().await?, job.order.patience);
    let (decided, called_off, dead) =
        case.script.with(|lines| (lines.plan.decided(), lines.plan.called_off(), lines.plan.dead_letters()));
    let outcomes = (case.opening + decided + dead) as u64;
    // What is scheduled comes when it is due.
    sleep(job.order.shape.life.scheduled.within).await;
    if let Some(stuck) =
        reach_within(patience, outcomes, COSTLY_POLL, async || case.run.outcomes(&database).await).await?
    {
        return Ok(Some(format!("outcomes: {stuck}")));
    }
    let connection = broker::connect(rig.amqp_uri(), "settled-loadtest").await?;
    let channel = connection.create_channel().await?;
    let empty = async || Ok(u64::from(broker::waiting(&channel, TASKS_QUEUE).await? == 0));
    if reach_within(patience, 1, POLL, empty).await?.is_some() {
        return Ok(Some(format!("the queue did not become empty within {patience:?}")));
    }
    let events = (decided - called_off) as u64 + case.run.waiting_events(&database).await?;
    if let Some(stuck) = reach_within(patience, events, POLL, async || Ok(sink.unique())).await? {
        return Ok(Some(format!("events received: {stuck}")));
    }
    let empty = async || Ok(u64::from(books::outbox_events(&database).await? == 0));
    let told = reach_within(patience, 1, POLL, empty).await?;
    Ok(told.map(|_| format!("the outbox did not become empty within {patience:?}")))
}

/// How often PostgreSQL has ended a wait of two sessions for each other: from the logs of servers of our
/// own, which lose their count when they are killed, and nobody kills the others.
pub(super) async fn deadlocks(rig: &Rig) -> Result<usize> {
    let Some(servers) = rig.private_servers() else {
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
