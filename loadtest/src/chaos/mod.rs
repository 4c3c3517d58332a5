//! Breaks processes, servers and connections under load, and checks that nothing is lost or doubled,
//! and that all goes on, as soon as it is promised.
//!
//! Invariant: a run passes only if the load and every fault of its schedule were really there, each
//! with tasks in flight. The schedule is a pure function of the faults, the time and the seed.

mod checks;
mod fault;
mod pulse;
mod record;
mod report;
mod schedule;
mod settle;
mod strike;
mod upstream;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use settled::dev::ServersOptions;
use tokio::time::sleep;

use crate::Stop;
use crate::judge::verdict;
use crate::progress::{Step, say};
use crate::results::machine;
use crate::rig::{Blueprint, Fleet, Place, Rig};
use crate::scenario::{Case, Order, POLL};
use crate::sink::LastingSink;
use fault::Fault;
pub(crate) use fault::Wanted;
use record::Struck;
use report::Report;
use schedule::Strike;
use settle::Done;
use strike::{Lines, Storm};
pub(crate) use upstream::Tempo;
use upstream::Upstream;

/// How long the publisher may take for what it is behind, in the end.
const CATCHING_UP: Duration = Duration::from_secs(300);
/// A disk that is to become full when it is filled, not before: for PostgreSQL itself, and for the
/// rows of a message and what is left of them, in bytes.
const ROOM: u64 = 512 << 20;
const ROOM_OF_A_MESSAGE: f64 = 2048.0;

/// What a command line asks for.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// What strikes.
    pub(crate) faults: Vec<Wanted>,
    /// For how long.
    pub(crate) duration: Duration,
    /// How often a fault strikes that has no count of its own.
    pub(crate) usual: Option<usize>,
    /// How long faults last.
    pub(crate) hold: Option<Duration>,
    /// How fast messages come.
    pub(crate) tempo: Tempo,
    /// How many tasks have to be in flight.
    pub(crate) in_flight: u64,
    /// Whether what is promised is a part of the verdict.
    pub(crate) goals: bool,
    /// Whether the result is for programs.
    pub(crate) json: bool,
    /// Where results are kept.
    pub(crate) out: Option<PathBuf>,
    /// What is published.
    pub(crate) order: Order,
    /// What it runs on.
    pub(crate) blueprint: Blueprint,
}

impl Job {
    fn strikes(&self) -> Vec<Strike> {
        let faults = fault::wanted(&self.faults, self.blueprint.place == Place::Private);
        schedule::schedule(&faults, self.usual, (self.duration, self.hold), self.order.seed)
    }

    /// What the servers have to be like for these strikes.
    fn servers(&self, strikes: &[Strike]) -> ServersOptions {
        let has = |fault| strikes.iter().any(|strike| strike.fault == fault);
        let messages = self.tempo.rate * self.duration.as_secs_f64();
        let space = ROOM + (messages * ROOM_OF_A_MESSAGE) as u64;
        let postgres_space = has(Fault::DbFull).then_some(space);
        ServersOptions { standby: has(Fault::DbPromote), postgres_space, ..ServersOptions::default() }
    }

    /// What repeats it.
    fn command(&self) -> String {
        let mut words = machine::command(std::env::args()).join(" ");
        if !words.contains("--seed") {
            words += &format!(" --seed {}", self.order.seed);
        }
        match std::env::var("SETTLED_SABOTAGE") {
            Ok(defect) => format!("SETTLED_SABOTAGE={defect} {words}"),
            Err(_) => words,
        }
    }
}

/// Carries out a run and prints what it came to; whether it passed, or `None` if it was interrupted.
/// To be called on the main thread.
///
/// # Errors
/// When it could not be carried out to its end; with what struck up to then.
pub(crate) async fn run(job: &Job, stop: &mut Stop) -> Result<Option<bool>> {
    let strikes = job.strikes();
    if let Some(out) = &job.out {
        std::fs::create_dir_all(out).with_context(|| format!("create {}", out.display()))?;
    }
    let step = Step::begin();
    let blueprint = Blueprint { servers: job.servers(&strikes), ..job.blueprint.clone() };
    let mut rig = Rig::start(blueprint).await?;
    step.done(if rig.is_private() { "PostgreSQL and RabbitMQ of our own" } else { "PostgreSQL and RabbitMQ as given" });
    let mut struck = Vec::new();
    let measured = tokio::select! {
        measured = measure(&mut rig, job, &strikes, &mut struck) => Some(measured),
        () = stop.asked() => None,
    };
    let tails = rig.log_tails();
    let kept = job.out.as_deref().map_or(Ok(()), |out| rig.keep_logs(out));
    let cleanup = rig.end().await;
    let Some(measured) = measured else {
        cleanup?;
        return Ok(None);
    };
    let told = || {
        format!("{}the end of the daemon's log:\n{tails}", report::schedule(job.order.seed, &struck, &job.command()))
    };
    let mut report = measured.with_context(told)?;
    kept?;
    let left = cleanup.map_err(|error| format!("{error:#}"));
    report.close(verdict::check("no process, directory or port is left behind", left));
    publish(&report, job)?;
    Ok(Some(report.passed))
}

fn publish(report: &Report, job: &Job) -> Result<()> {
    let json = serde_json::to_string_pretty(report)?;
    if let Some(out) = &job.out {
        let put = |name: &str, text: &str| {
            let path: &Path = &out.join(name);
            std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
        };
        put("chaos.json", &json)?;
        put("chaos.txt", &report.to_string())?;
    }
    let mut stdout = std::io::stdout().lock();
    match job.json {
        true => writeln!(stdout, "{json}")?,
        false => write!(stdout, "{report}")?,
    }
    Ok(())
}

async fn measure(rig: &mut Rig, job: &Job, strikes: &[Strike], struck: &mut Vec<Struck>) -> Result<Report> {
    let (lines, route) = Lines::open(rig.amqp_uri(), rig.postgres_url()).await?;
    rig.route(route);
    let rig = &*rig;
    let deadlocks_before = settle::deadlocks(rig).await?;
    let case = Case::new(rig, &job.order);
    case.open_accounts(None).await?;
    let (uri, kind, mark) = (rig.amqp_uri(), job.order.event_queue, case.script.mark());
    let sink = LastingSink::open(uri, kind, mark, case.opening).await?;
    let step = Step::begin();
    let mut fleet = rig.crew().await?;
    step.done("daemons ready");
    let upstream = Upstream::start(uri, &case.script, job.tempo);
    rage(rig, job, &lines, &case, (&mut fleet, &upstream, &sink), strikes, struck).await?;
    let latest = upstream.elapsed().max(job.duration) + CATCHING_UP;
    let goes_on = || upstream.elapsed() < job.duration || !upstream.is_on_time() && upstream.elapsed() < latest;
    while struck.iter().all(Struck::counts) && goes_on() {
        sleep(POLL).await;
    }
    settle::settle(Done { rig, job, case, fleet, upstream, sink, strikes, struck, deadlocks_before }).await
}

/// Has everything strike that is to, until something does not as it should.
async fn rage(
    rig: &Rig,
    job: &Job,
    lines: &Lines,
    case: &Case<'_>,
    (fleet, upstream, sink): (&mut Fleet, &Upstream, &LastingSink),
    strikes: &[Strike],
    struck: &mut Vec<Struck>,
) -> Result<()> {
    let servers = rig.private_servers();
    let (script, run) = (Arc::clone(&case.script), case.run);
    let (in_flight, patience) = (job.in_flight, job.order.patience);
    let mut storm = Storm { rig, servers, lines, fleet, upstream, sink, script, run, in_flight, patience };
    for strike in strikes {
        sleep(strike.at.saturating_sub(upstream.elapsed())).await;
        let done = storm.strike(strike).await;
        say(&format!("  {done}"));
        let counts = done.counts();
        struck.push(done);
        if !counts {
            storm.calm().await;
            return Ok(());
        }
    }
    Ok(())
}
