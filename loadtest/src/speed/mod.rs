//! Measures the speed as one table: each row by a run of this program in a process of its own, against references that
//! take turns with it on the same machine.

mod cost;
mod scenarios;
mod table;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command as Process;

use crate::args::{Cli, Command, SpeedArgs, refuse, settled_path};
use crate::progress::say;
use crate::report::folder::put;
use crate::report::model::{Machine, Summary};
use crate::rig::{Rig, tail};
use crate::scenario::{StartUp, start_up};
use crate::stop::Stop;
use scenarios::{Figure, Run, Scale, Scenarios};
use table::{Book, Table};

/// Share of the load that `--quick` leaves.
const QUICK: f64 = 0.1;

/// What a run was measured with: the figures it has, and what its results say of them.
struct Taken {
    figures: Vec<(Figure, f64)>,
    machine: Option<Machine>,
    generator_was_late: bool,
}

/// Measures, and prints the table. Returns whether every target was held, or `None` if it was interrupted. A run that
/// fails is a row that does not hold; the others are measured nevertheless. To be called on the main thread.
pub(crate) async fn run(options: &SpeedArgs, stop: &mut Stop) -> Result<Option<bool>> {
    let scale = Scale(options.scale.unwrap_or(if options.quick { QUICK } else { 1.0 }));
    let scenarios = Scenarios::load(&options.only, options.grown).unwrap_or_else(|error| refuse(&error.to_string()));
    let turns = scenarios.turns(options.rounds, options.grown_rounds);
    let settled = settled_path(options.daemon.as_deref())?;
    let passing = tempfile::tempdir()?;
    let folder = options.out.as_deref().map_or_else(|| Ok(passing.path().to_owned()), std::path::absolute)?;
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let mut book = Book::default();
    let mut table = Table::new(&scenarios, &book, scale);
    for (nth, (run, round)) in turns.iter().enumerate() {
        let turn = format!("{}-{round}", run.name);
        say(&format!("[{}/{}] {turn}: {}", nth + 1, turns.len(), run.command(scale)));
        let began = Instant::now();
        let taken = match run.starts {
            0 => child(&run.line(scale), &settled, &folder.join(&turn), stop).await,
            _ => starts(run, scale, &settled, stop).await,
        };
        match taken {
            Ok(None) => return Ok(None),
            Ok(Some(taken)) => {
                let needed = |figure: Figure| {
                    figure.is_cost() || scenarios.rows.iter().any(|row| row.needs(&run.name, Some(figure)))
                };
                let figures: Vec<_> = taken.figures.into_iter().filter(|(figure, _)| needed(*figure)).collect();
                let texts: Vec<_> = figures.iter().map(|(figure, value)| figure.unit().show(*value)).collect();
                say(&format!("  = {} ({:.0} s)", texts.join(", "), began.elapsed().as_secs_f64()));
                for (figure, value) in figures {
                    book.figures.entry((run.name.clone(), figure)).or_default().push(value);
                }
                book.machine = book.machine.take().or(taken.machine);
                if taken.generator_was_late {
                    book.doubts.push(format!("{turn}: the load generator could not keep to its schedule"));
                }
            }
            Err(error) => {
                say(&format!("  ✗ {error:#}"));
                book.failures.entry(run.name.clone()).or_default().push(format!("{turn}: {error:#}"));
            }
        }
        // Each time: what was measured is not lost when the rest is interrupted.
        table = Table::new(&scenarios, &book, scale);
        put(&folder, "speed.md", table.to_string())?;
        put(&folder, "speed.json", serde_json::to_string_pretty(&table)? + "\n")?;
    }
    write!(io::stdout().lock(), "{table}")?;
    Ok(Some(table.held))
}

/// Runs a command line of this program, with results in `out` and all that it prints in a log beside it. To be called on
/// the main thread: the kernel asks the child to stop when the thread that started it ends.
async fn child(line: &str, settled: &Path, out: &Path, stop: &mut Stop) -> Result<Option<Taken>> {
    // Beside the folder, which takes results only.
    let log = out.with_extension("log");
    let log_file = File::create(&log).with_context(|| format!("write {}", log.display()))?;
    let mut command = Process::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(std::env::current_exe()?).args(line.split(' '));
    command.arg("--daemon").arg(settled).arg("--out").arg(out);
    command.stdin(Stdio::null()).stdout(log_file.try_clone()?).stderr(log_file);
    // Ctrl-C in a terminal reaches this process alone, and is passed on once.
    let mut child = command.process_group(0).spawn().context("start setpriv (Debian package util-linux)")?;
    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let status = tokio::select! {
        status = child.wait() => status?,
        () = stop.asked() => {
            if let Some(pid) = pid {
                kill_process(pid, Signal::TERM)?;
            }
            // It removes its servers first.
            child.wait().await?;
            return Ok(None);
        }
    };
    if !status.success() {
        bail!("{line}: {status}; the end of {}:\n{}", log.display(), tail(&log));
    }
    let summary = Summary::read(out)?;
    use Figure::{CommitP50, CommitP99, Committed, MaxMemory, MemoryGrowth, Outcomes, PostgresCpu, RabbitmqCpu};
    let figures = [Committed, Outcomes, CommitP50, CommitP99, RabbitmqCpu, PostgresCpu, MaxMemory, MemoryGrowth];
    let figures = figures.into_iter();
    Ok(Some(Taken {
        figures: figures.filter_map(|figure| Some((figure, figure.of(&summary, out)?))).collect(),
        generator_was_late: summary.generator_was_the_bottleneck,
        // The floor does not know the broker.
        machine: Some(summary.machine).filter(|_| summary.subject != "floor"),
    }))
}

/// Starts and kills daemons in this process, on servers of its own.
async fn starts(run: &Run, scale: Scale, settled: &Path, stop: &mut Stop) -> Result<Option<Taken>> {
    let line = run.line(scale);
    let mut words: Vec<_> = std::iter::once("settled-loadtest").chain(line.split(' ')).map(Into::into).collect();
    words.extend(["--daemon".into(), settled.as_os_str().to_owned()]);
    let Command::Load(verb) = Cli::try_parse_from(words)?.command else { bail!("{line} is no run") };
    let job = verb.job()?;
    let (starts, kills) = (scale.count(run.starts), scale.count(run.kills));
    let work = async |rig: &mut Rig| start_up(rig, &job.order, starts, kills).await;
    let Some(ended) = Rig::during(job.blueprint, stop, None, work).await? else { return Ok(None) };
    let StartUp { ready, first_commit } = ended.done.context(ended.logs)?;
    ended.cleanup?;
    let ready = ready.iter().map(|time| (Figure::Ready, time.as_secs_f64() * 1e3));
    let first_commit = first_commit.iter().map(|time| (Figure::FirstCommit, time.as_secs_f64()));
    Ok(Some(Taken { figures: ready.chain(first_commit).collect(), machine: None, generator_was_late: false }))
}
