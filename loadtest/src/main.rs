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
mod results;
mod report;
mod progress;
mod values;
mod stop;
mod reference;
mod speed;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use settled_testkit::servers::{VERB, guard};

use args::{ChaosArgs, Cli, Command, CompareArgs, ConsumerVerb, FloorArgs, SpeedArgs, Verb};
use judge::verdict;
use progress::Step;
use reference::floor;
use report::model::Results;
use report::{compare, folder, text};
use rig::Rig;
use scenario::{Job, Output};
use scenario::find_max::{Found, find_max};
use stop::Stop;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How a shell names an end by SIGINT.
const INTERRUPTED: u8 = 130;

enum Answer {
    Run(Box<Results>),
    Search(Found),
}

/// On the main thread, which outlives all others: a daemon ends with the thread that started it.
#[tokio::main]
async fn main() -> ExitCode {
    // The guardian of the private servers is this program, too.
    if std::env::args_os().nth(1).is_some_and(|verb| verb == VERB) {
        return guard().await;
    }
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

async fn chaos(options: &ChaosArgs) -> Result<Option<bool>> {
    let mut stop = Stop::listen()?;
    chaos::run(&options.job()?, &mut stop).await
}

/// The same for the floor, which needs no daemon.
async fn floor(options: &FloorArgs) -> Result<Option<bool>> {
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
async fn speed(options: &SpeedArgs) -> Result<Option<bool>> {
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

/// Writes and prints the result; returns whether it passed.
fn publish(answer: &Answer, job: &Job) -> Result<bool> {
    let Output { out, json, .. } = &job.output;
    match answer {
        Answer::Run(results) => conclude(results, out.as_deref(), *json),
        Answer::Search(found) => {
            let text = serde_json::to_string_pretty(found)? + "\n";
            if let Some(path) = out.as_ref().map(|out| out.join("find-max.json")) {
                std::fs::write(&path, &text).with_context(|| format!("write {}", path.display()))?;
            }
            write!(io::stdout().lock(), "{}", if *json { text } else { found.to_string() })?;
            Ok(found.passed())
        }
    }
}

fn conclude(results: &Results, out: Option<&Path>, json: bool) -> Result<bool> {
    if let Some(out) = out {
        results.write(out)?;
    }
    let mut stdout = io::stdout().lock();
    let (summary, terminal) = (&results.summary, stdout.is_terminal());
    match json {
        true => writeln!(stdout, "{}", serde_json::to_string_pretty(summary)?)?,
        false => write!(stdout, "{}", text::text(summary, terminal))?,
    }
    Ok(summary.passed)
}
