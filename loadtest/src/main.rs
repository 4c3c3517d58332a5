//! `settled-loadtest`: the real daemon under load, and a verdict.
//!
//! In the order of a run:
#![cfg_attr(rustfmt, rustfmt::skip)]

mod args;
mod plan;
mod rig;
mod broker;
mod load;
mod sink;
mod watch;
mod scenario;
mod chaos;
mod judge;
// What the tests of the daemon include, too.
#[path = "../../tests/support/replay/mod.rs"]
mod replay;
mod results;
mod report;
mod progress;
mod reference;
mod speed;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};

use args::{ChaosArgs, Cli, Command, CompareArgs, ConsumerVerb, Job, Verb};
use judge::verdict;
use progress::Step;
use reference::floor;
use report::model::{Results, Summary};
use report::{compare, folder, text};
use rig::Rig;
use settled::contract;
use scenario::find_max::{Found, find_max};

/// What the daemon uses too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How a shell names an end by SIGINT.
const INTERRUPTED: u8 = 130;

/// What a command line comes to.
enum Answer {
    Run(Box<Results>),
    Search(Found),
}

/// On the main thread, which outlives all others: a daemon ends with the thread that started it.
#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Load(verb) => answer(&verb).await,
        Command::Chaos(options) => chaos(&options).await,
        Command::Floor(options) => floor(&options).await,
        Command::Speed(options) => speed(&options).await,
        Command::BaselineConsumer { verb: ConsumerVerb::Run { config } } => {
            reference::baseline::run(&config).await.map(|()| Some(true))
        }
        Command::Compare(CompareArgs { a, b, json }) => compare::run(&a, &b, json).map(|()| Some(true)),
    };
    match done {
        Ok(Some(true)) => ExitCode::SUCCESS,
        Ok(Some(false)) => ExitCode::FAILURE,
        Ok(None) => ExitCode::from(INTERRUPTED),
        Err(error) => {
            let _ = writeln!(io::stderr(), "settled-loadtest: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Carries out what is asked for and prints the result; whether it passed, or `None` if it was
/// interrupted. In every case what was started is stopped.
async fn answer(verb: &Verb) -> Result<Option<bool>> {
    let mut stop = Stop::listen()?;
    let job = verb.job()?;
    if let Some(out) = job.output.out.as_ref().filter(|_| job.search.is_none()) {
        folder::ensure_usable(out)?;
    }
    let step = Step::begin();
    let rig = Rig::start(job.blueprint.clone()).await?;
    step.done(if rig.is_private() { "PostgreSQL and RabbitMQ of our own" } else { "servers as given" });
    let measured = tokio::select! {
        measured = measure(&rig, &job) => Some(measured),
        () = stop.asked() => None,
    };
    let logs = rig.log_tails();
    let cleanup = rig.end().await;
    let Some(measured) = measured else {
        cleanup?;
        return Ok(None);
    };
    let mut measured = measured.with_context(|| format!("the end of the daemon's log:\n{logs}"))?;
    if let Answer::Run(results) = &mut measured {
        let left = cleanup.map_err(|error| format!("{error:#}"));
        results.close(verdict::check("no process, directory or port is left behind", left));
    }
    publish(&measured, &job).map(Some)
}

/// A run in which things break.
async fn chaos(options: &ChaosArgs) -> Result<Option<bool>> {
    let mut stop = Stop::listen()?;
    chaos::run(&options.job()?, &mut stop).await
}

/// The same for the floor, which needs no daemon.
async fn floor(options: &floor::Options) -> Result<Option<bool>> {
    let mut stop = Stop::listen()?;
    if let Some(out) = &options.out {
        folder::ensure_usable(out)?;
    }
    let results = tokio::select! {
        results = floor::measure(options) => results?,
        () = stop.asked() => return Ok(None),
    };
    conclude(&results, options.out.as_deref(), options.json).map(Some)
}

/// The table of the speed, of runs like these.
async fn speed(options: &speed::Options) -> Result<Option<bool>> {
    speed::run(options, &mut Stop::listen()?).await
}

async fn measure(rig: &Rig, job: &Job) -> Result<Answer> {
    let machine = results::describe(rig).await?;
    if let Some(range) = job.search {
        return find_max(rig, job, range, &machine).await.map(Answer::Search);
    }
    let outcome = match job.verb {
        "drain" => scenario::drain(rig, &job.order).await?,
        _ => scenario::run(rig, &job.order).await?,
    };
    Ok(Answer::Run(Box::new(results::assemble(job, &machine, &outcome))))
}

/// Writes and prints the result; whether it passed.
fn publish(answer: &Answer, job: &Job) -> Result<bool> {
    match answer {
        Answer::Run(results) => conclude(results, job.output.out.as_deref(), job.output.json),
        Answer::Search(found) => {
            if let Some(out) = &job.output.out {
                write_json(&out.join("find-max.json"), found)?;
            }
            print(&mut io::stdout().lock(), found, job.output.json, |to, found: &Found| found.print(to))?;
            Ok(found.passed())
        }
    }
}

fn conclude(results: &Results, out: Option<&Path>, json: bool) -> Result<bool> {
    if let Some(out) = out {
        results.write(out)?;
    }
    let mut stdout = io::stdout().lock();
    let terminal = stdout.is_terminal();
    print(&mut stdout, &results.summary, json, |to, summary: &Summary| {
        write!(to, "{}", text::text(summary, terminal))
    })?;
    Ok(results.summary.passed)
}

fn print<T: serde::Serialize, W: Write>(
    to: &mut W,
    result: &T,
    json: bool,
    human: impl FnOnce(&mut W, &T) -> io::Result<()>,
) -> Result<()> {
    if json {
        return Ok(writeln!(to, "{}", serde_json::to_string_pretty(result)?)?);
    }
    Ok(human(to, result)?)
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let json = serde_json::to_string_pretty(value)?;
    std::fs::write(path, format!("{json}\n")).with_context(|| format!("write {}", path.display()))
}

/// The signals that ask for an end, caught from the start on.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
