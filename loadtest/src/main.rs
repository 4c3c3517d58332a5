//! `settled-loadtest`: the real daemon on private servers, under load, and a verdict.
//!
//! In the order of a run:
#![cfg_attr(rustfmt, rustfmt::skip)]

mod args;
mod plan;
mod rig;
mod broker;
mod publisher;
mod sink;
mod scenario;
mod books;
mod verdict;
mod report;
mod summary;
mod progress;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};

use args::{Cli, Command, Run};
use plan::Plan;
use progress::Step;
use report::{Report, compare};
use rig::Rig;
use scenario::Evidence;

/// What the daemon uses too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How a shell names an end by SIGINT.
const INTERRUPTED: u8 = 130;

/// On the main thread, which outlives all others: the daemon ends with the thread that started it.
#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(run) => judge(&run).await.map(|report| match report {
            Some(report) if report.passed => ExitCode::SUCCESS,
            Some(_) => ExitCode::FAILURE,
            None => ExitCode::from(INTERRUPTED),
        }),
        Command::Compare { a, b, json } => compare::run(&a, &b, json).map(|()| ExitCode::SUCCESS),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "settled-loadtest: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Carries out a run and prints its report; `None` if it was interrupted. In every case what
/// was started is stopped.
async fn judge(run: &Run) -> Result<Option<Report>> {
    let began = Instant::now();
    let mut stop = Stop::listen()?;
    let options = run.options();
    let plan = Plan::generate(&run.shape());
    let step = Step::begin();
    let rig = Rig::start(&options.binary()?, &options.settings).await?;
    step.done("PostgreSQL and RabbitMQ of our own");
    let evidence = tokio::select! {
        evidence = gather(run, &rig, &plan) => Some(evidence),
        () = stop.asked() => None,
    };
    let log = rig.log_tail();
    let cleanup = rig.end().await;
    let Some(evidence) = evidence else {
        cleanup?;
        return Ok(None);
    };
    let evidence = evidence.with_context(|| format!("the end of the daemon's log:\n{log}\n"))?;
    let mut report = Report::new(run, &plan, &evidence)?;
    report.close(cleanup, began.elapsed());
    publish(&report, options)?;
    Ok(Some(report))
}

async fn gather(run: &Run, rig: &Rig, plan: &Plan) -> Result<Evidence> {
    let queue = run.options().event_queue;
    match run {
        Run::Demo { .. } => scenario::demo(rig, plan, queue).await,
        Run::Drain { .. } => scenario::drain(rig, plan, queue).await,
    }
}

fn publish(report: &Report, options: &args::Options) -> Result<()> {
    let json = serde_json::to_string_pretty(report)?;
    if let Some(path) = &options.out {
        std::fs::write(path, format!("{json}\n")).with_context(|| format!("write {}", path.display()))?;
    }
    let mut stdout = io::stdout().lock();
    if options.json {
        writeln!(stdout, "{json}")?;
    } else {
        write!(stdout, "{}", summary::text(report, stdout.is_terminal()))?;
    }
    Ok(())
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
