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

use args::{Cli, Command, ConsumerVerb, FloorArgs, Verb};
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
    let done = carry_out(Cli::parse().command).await;
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

/// Carries out what is asked for; whether it passed, or `None` if it was interrupted.
async fn carry_out(command: Command) -> Result<Option<bool>> {
    match command {
        Command::Load(verb) => answer(&verb, &mut Stop::listen()?).await,
        Command::Chaos(options) => chaos::run(&options.job()?, &mut Stop::listen()?).await,
        Command::Floor(options) => floor(&options, &mut Stop::listen()?).await,
        Command::Speed(options) => speed::run(&options, &mut Stop::listen()?).await,
        Command::BaselineConsumer { verb: ConsumerVerb::Run { config } } => {
            reference::baseline::run(&config).await.map(|()| Some(true))
        }
        Command::Compare { a, b, json } => compare::run(&a, &b, json).map(|()| Some(true)),
    }
}

/// Carries out a run and prints its result. In every case what was started is stopped.
async fn answer(verb: &Verb, stop: &mut Stop) -> Result<Option<bool>> {
    let job = verb.job()?;
    if let Some(out) = job.output.out.as_ref().filter(|_| job.search.is_none()) {
        folder::ensure_usable(out)?;
    }
    let Some(ended) = Rig::during(job.blueprint.clone(), stop, None, async |rig| measure(rig, &job).await).await?
    else {
        return Ok(None);
    };
    let left = ended.left_nothing();
    let mut measured = ended.done.context(ended.logs)?;
    if let Answer::Run(results) = &mut measured {
        results.close(left);
    }
    publish(&measured, &job).map(Some)
}

/// The same for the floor, which needs no daemon.
async fn floor(options: &FloorArgs, stop: &mut Stop) -> Result<Option<bool>> {
    if let Some(out) = &options.out {
        folder::ensure_usable(out)?;
    }
    let results = tokio::select! {
        results = floor::measure(options) => results?,
        () = stop.asked() => return Ok(None),
    };
    conclude(&results, options.out.as_deref(), options.json).map(Some)
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
            if let Some(out) = out {
                folder::put(out, "find-max.json", &text)?;
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
