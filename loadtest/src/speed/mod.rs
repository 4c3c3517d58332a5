//! The speed of the product as one table: each row measured by a run of this same program, against
//! references that take turns with it on the same machine.

mod child;
mod figures;
mod rows;
mod start;
mod table;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::ValueEnum;
use tempfile::TempDir;

use crate::Stop;
use crate::args::settled_path;
use crate::args::values::at_least_one;
use crate::progress::say;
use crate::report::model::Machine;
use figures::Figure;
use rows::{Often, Row, Run, Scale, Turn};
use table::{Book, Table};

/// How much `--quick` leaves of the load.
const QUICK: f64 = 0.1;

/// What is to be measured.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// How often each run is done; the median counts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one)]
    rounds: usize,
    /// Only these rows, with what they are compared with
    #[arg(long, value_name = "ROW", value_enum, value_delimiter = ',')]
    only: Vec<Row>,
    /// The row of the grown ledger, too: some minutes and ten gigabytes
    #[arg(long)]
    grown: bool,
    /// How often the grown ledger is measured
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    grown_rounds: usize,
    /// A tenth of the load: shows that all of it works, not how fast it is
    #[arg(long)]
    quick: bool,
    /// The part of the usual load
    #[arg(long, value_name = "SHARE", hide = true, conflicts_with = "quick", value_parser = scale)]
    scale: Option<f64>,
    /// The settled to measure [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    daemon: Option<PathBuf>,
    /// Keep the table and the results of every run in this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn scale(text: &str) -> Result<f64, String> {
    let scale = text.parse().ok().filter(|scale| *scale > 0.0 && *scale <= 1.0);
    scale.ok_or_else(|| "expected a part above 0 and up to 1, such as 0.01".to_owned())
}

impl Options {
    fn rows(&self) -> Vec<Row> {
        let all = Row::value_variants().iter().copied();
        let wanted = |row: &Row| match self.only.as_slice() {
            [] => *row != Row::Grown || self.grown,
            only => only.contains(row) || *row == Row::Grown && self.grown,
        };
        all.filter(wanted).collect()
    }

    fn scale(&self) -> Scale {
        Scale(self.scale.unwrap_or(if self.quick { QUICK } else { 1.0 }))
    }

    fn rounds(&self, run: Run) -> usize {
        match run.often() {
            Often::EachRound => self.rounds,
            Often::EachGrownRound => self.grown_rounds,
            Often::Once => 1,
        }
    }
}

/// Where the results of the runs go.
enum Folder {
    Kept(PathBuf),
    Passing(TempDir),
}

impl Folder {
    fn open(out: Option<&Path>) -> Result<Self> {
        let Some(out) = out else { return Ok(Self::Passing(tempfile::tempdir()?)) };
        fs::create_dir_all(out).with_context(|| format!("create {}", out.display()))?;
        Ok(Self::Kept(std::path::absolute(out)?))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Passing(dir) => dir.path(),
        }
    }
}

/// Measures, and prints the table; whether every target was held, or `None` if it was
/// interrupted. A run that fails is a row that does not hold, and the others are measured
/// nevertheless. To be called on the main thread.
///
/// # Errors
/// When there is no folder, or it cannot be written to.
pub(crate) async fn run(options: &Options, stop: &mut Stop) -> Result<Option<bool>> {
    let scale = options.scale();
    let lines = rows::lines(&options.rows());
    let turns = rows::turns(&lines, options.rounds, options.grown_rounds);
    let settled = settled_path(options.daemon.as_deref())?;
    let folder = Folder::open(options.out.as_deref())?;
    let mut book = Book::default();
    let mut table = Table::new(&lines, &book, scale);
    for (nth, turn) in turns.iter().enumerate() {
        let Turn { run, round } = *turn;
        let (of, rounds) = (turns.len(), options.rounds(run));
        say(&format!("[{}/{of}] {}, round {round} of {rounds}: {}", nth + 1, run.name(), run.command(scale)));
        let begun = Instant::now();
        match measure(*turn, scale, &settled, folder.path(), stop).await {
            Ok(None) => return Ok(None),
            Ok(Some(mut taken)) => {
                taken.figures.retain(|(figure, _)| lines.iter().any(|line| line.needs(run, *figure)));
                say(&format!("  = {} ({:.0} s)", taken.text(), begun.elapsed().as_secs_f64()));
                taken.enter(*turn, &mut book);
            }
            Err(error) => {
                say(&format!("  ✗ {error:#}"));
                book.fail(run, format!("{}-{round}: {error:#}", run.name()));
            }
        }
        table = Table::new(&lines, &book, scale);
        // Each time: what was measured is not lost when the rest is interrupted.
        write(folder.path(), &table)?;
    }
    write!(io::stdout().lock(), "{table}")?;
    Ok(Some(table.held()))
}

/// What a run came to.
struct Taken {
    figures: Vec<(Figure, f64)>,
    machine: Option<Machine>,
    generator_was_late: bool,
}

impl Taken {
    fn text(&self) -> String {
        let figures = self.figures.iter().map(|(figure, value)| figure.show(*value));
        figures.collect::<Vec<_>>().join(", ")
    }

    fn enter(self, Turn { run, round }: Turn, book: &mut Book) {
        book.add(run, self.figures);
        book.machine = book.machine.take().or(self.machine);
        if self.generator_was_late {
            book.doubt(format!("{}-{round}: the load generator could not keep to its schedule", run.name()));
        }
    }
}

async fn measure(turn: Turn, scale: Scale, settled: &Path, dir: &Path, stop: &mut Stop) -> Result<Option<Taken>> {
    let Turn { run, round } = turn;
    let line = run.line(scale);
    if run == Run::Start {
        let figures = tokio::select! {
            figures = start::figures(&line, scale, settled) => figures?,
            () = stop.asked() => return Ok(None),
        };
        return Ok(Some(Taken { figures, machine: None, generator_was_late: false }));
    }
    let out = dir.join(format!("{}-{round}", run.name()));
    let results = child::results(&line, settled, &out, stop).await?;
    Ok(results.map(|results| {
        // Of the floor it is not known, for there is no broker.
        let machine = Some(results.summary.machine.clone()).filter(|_| run != Run::R2);
        let generator_was_late = results.summary.generator_was_the_bottleneck;
        Taken { figures: Figure::all_of(&results), machine, generator_was_late }
    }))
}

fn write(dir: &Path, table: &Table) -> Result<()> {
    let put = |name: &str, text: String| {
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    };
    put("speed.md", table.to_string())?;
    put("speed.json", format!("{}\n", serde_json::to_string_pretty(table)?))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn rows(line: &str) -> Vec<Row> {
        let words = line.split_whitespace();
        let cli = Cli::try_parse_from(["settled-loadtest", "speed"].into_iter().chain(words)).expect(line);
        let Command::Speed(options) = cli.command else { panic!("{line} is something else") };
        options.rows()
    }

    #[test]
    fn the_grown_ledger_is_measured_when_it_is_asked_for() {
        assert_eq!(rows("").len(), Row::value_variants().len() - 1);
        assert!(!rows("").contains(&Row::Grown));
        assert_eq!(rows("--grown").len(), Row::value_variants().len());
        assert_eq!(rows("--only grown"), [Row::Grown]);
        assert_eq!(rows("--only start,single-live"), [Row::SingleLive, Row::Start]);
        assert_eq!(rows("--only single --grown"), [Row::Single, Row::Grown]);
    }
}
