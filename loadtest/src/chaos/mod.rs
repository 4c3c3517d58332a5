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
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use settled_testkit::servers::ServersOptions;
use tokio::time::sleep;

use crate::progress::{Step, say};
use crate::report::folder::put;
use crate::results::machine;
use crate::rig::{Blueprint, Place, Rig};
use crate::scenario::Order;
use crate::scenario::case::{Case, POLL, reach};
use crate::stop::Stop;
use crate::values;
use fault::{Fault, Wanted};
use record::Struck;
use report::Report;
use schedule::Strike;
use settle::Done;
use strike::{Lines, Storm};
use upstream::{Tempo, Upstream};

/// How long the publisher may take for what it is behind, in the end.
const CATCHING_UP: Duration = Duration::from_secs(300);
/// A disk that is to become full when it is filled, not before: for PostgreSQL itself, and for the
/// rows of a message and what is left of them, in bytes.
const ROOM: u64 = 512 << 20;
const ROOM_OF_A_MESSAGE: f64 = 2048.0;

/// What strikes, how hard, and what is made of the result.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// What strikes: names of faults, each perhaps with a colon and how often, or all
    ///
    /// Of the daemon: kill, freeze, term. Of the broker: broker-kill, broker-restart, broker-close,
    /// broker-alarm, queue-delete, events-unbind, events-delete. Of PostgreSQL: db-stop, db-terminate,
    /// db-cut, db-full, db-read-only, db-lock, db-slow, db-promote. Between them: cut-before-commit,
    /// cut-after-commit, cut-before-ack, cut-after-ack, cut-before-confirm, delay, half-open. With
    /// --subscriber stream: cut-before-stream-confirm, cut-after-stream-confirm, stream-delete, and not
    /// cut-before-confirm, events-unbind, events-delete. What strikes the servers themselves is not for those of somebody else: broker-kill, broker-restart, broker-close,
    /// broker-alarm, db-stop, db-full, db-read-only, db-promote. The manual, docs/loadtest.md, says what
    /// each does.
    #[arg(long, value_name = "FAULT[:COUNT],…", value_delimiter = ',', default_value = "all")]
    pub(crate) faults: Vec<Wanted>,
    /// For how long; the strikes are spread over it. Longer if they need longer
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::duration)]
    pub(crate) duration: Duration,
    /// How often each fault strikes that has no count of its own [default: as often as there is time]
    #[arg(long, value_name = "N", value_parser = values::at_least_one)]
    count_per_fault: Option<usize>,
    /// How long each fault lasts that has a length, such as 10m [default: drawn for each strike]
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    hold: Option<Duration>,
    #[command(flatten)]
    pub(crate) tempo: Tempo,
    /// Strike only when so many tasks are in flight, at the daemon that is struck or at all together
    #[arg(long, value_name = "N", default_value_t = 50, help_heading = "Load")]
    in_flight: u64,
    /// Fail if anything takes longer to go on than the project promises, not only show it
    #[arg(long, help_heading = "Result")]
    goals: bool,
    /// Print the result as JSON
    #[arg(long, help_heading = "Result")]
    json: bool,
    /// Keep the result and the logs of all daemons in this folder
    #[arg(long, value_name = "DIR", help_heading = "Result")]
    out: Option<PathBuf>,
}

/// What a command line asks for.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) options: Options,
    pub(crate) order: Order,
    pub(crate) blueprint: Blueprint,
}

impl Job {
    fn strikes(&self) -> Vec<Strike> {
        let Options { count_per_fault, duration, hold, .. } = &self.options;
        let Blueprint { place, streams, .. } = &self.blueprint;
        let faults = fault::wanted(&self.options.faults, *place == Place::Private, *streams);
        schedule::schedule(&faults, *count_per_fault, (*duration, *hold), self.order.shape.seed)
    }

    /// What the servers have to be like for these strikes.
    fn servers(&self, strikes: &[Strike]) -> ServersOptions {
        let has = |fault| strikes.iter().any(|strike| strike.fault == fault);
        let messages = self.options.tempo.rate * self.options.duration.as_secs_f64();
        let space = ROOM + (messages * ROOM_OF_A_MESSAGE) as u64;
        let postgres_space = has(Fault::DbFull).then_some(space);
        ServersOptions { standby: has(Fault::DbPromote), postgres_space, ..ServersOptions::default() }
    }

    fn command(&self) -> String {
        let mut words = machine::command(std::env::args()).join(" ");
        if !words.contains("--seed") {
            words += &format!(" --seed {}", self.order.shape.seed);
        }
        match std::env::var("SETTLED_DEFECT") {
            Ok(defect) => format!("SETTLED_DEFECT={defect} {words}"),
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
    if let Some(out) = &job.options.out {
        std::fs::create_dir_all(out).with_context(|| format!("create {}", out.display()))?;
    }
    let blueprint = Blueprint { servers: job.servers(&strikes), ..job.blueprint.clone() };
    let mut struck = Vec::new();
    let work = async |rig: &mut Rig| measure(rig, job, &strikes, &mut struck).await;
    let Some(ended) = Rig::during(blueprint, stop, job.options.out.as_deref(), work).await? else { return Ok(None) };
    let left = ended.left_nothing();
    let told = || report::schedule(job.order.shape.seed, &struck, &job.command()) + &ended.logs;
    let mut report = ended.done.with_context(told)?;
    report.close(left);
    publish(&report, job)?;
    Ok(Some(report.passed))
}

fn publish(report: &Report, job: &Job) -> Result<()> {
    let json = serde_json::to_string_pretty(report)?;
    if let Some(out) = &job.options.out {
        put(out, "chaos.json", &json)?;
        put(out, "chaos.txt", report.to_string())?;
    }
    let mut stdout = std::io::stdout().lock();
    match job.options.json {
        true => writeln!(stdout, "{json}")?,
        false => write!(stdout, "{report}")?,
    }
    Ok(())
}

async fn measure(rig: &mut Rig, job: &Job, strikes: &[Strike], struck: &mut Vec<Struck>) -> Result<Report> {
    let (lines, route) = Lines::open(rig).await?;
    rig.route(route);
    let rig = &*rig;
    let deadlocks_before = settle::deadlocks(rig).await?;
    let case = Case::new(rig, &job.order);
    case.open_accounts(None).await?;
    let mut sink = case.sink().await?;
    sink.consume();
    let step = Step::begin();
    let mut fleet = rig.crew().await?;
    step.done("daemons ready");
    let upstream = Upstream::start(&rig.amqp_uri, &case.script, job.options.tempo);
    if rig.stream.is_some() {
        // RabbitMQ that is killed within a moment of making a stream is without a leader for it for a minute.
        let came = async || Ok(u64::from(sink.unique() > 0));
        ensure!(reach(job.order.patience, 1, POLL, came).await?.is_none(), "no event comes from the stream");
    }
    let in_flight = job.options.in_flight;
    let storm = Storm { case: &case, lines: &lines, fleet: &mut fleet, upstream: &upstream, sink: &sink, in_flight };
    rage(storm, strikes, struck).await;
    let latest = upstream.elapsed().max(job.options.duration) + CATCHING_UP;
    let goes_on = || upstream.elapsed() < job.options.duration || !upstream.is_on_time() && upstream.elapsed() < latest;
    while struck.iter().all(Struck::counts) && goes_on() {
        sleep(POLL).await;
    }
    settle::settle(Done { job, case, fleet, upstream, sink, strikes, struck, deadlocks_before }).await
}

/// Has everything strike that is to, until something does not as it should.
async fn rage(mut storm: Storm<'_>, strikes: &[Strike], struck: &mut Vec<Struck>) {
    for strike in strikes {
        sleep(strike.at.saturating_sub(storm.upstream.elapsed())).await;
        let done = storm.strike(strike).await;
        say(&format!("  {done}"));
        let counts = done.counts();
        struck.push(done);
        if !counts {
            storm.calm().await;
            return;
        }
    }
}
