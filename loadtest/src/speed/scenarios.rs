//! The scenario file `speed.toml`: the runs, and the rows of the table that are made of them.

use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::report::folder::SERIES;
use crate::report::model::Summary;
use crate::report::numbers::decimal;

const SCENARIOS: &str = include_str!("speed.toml");
const MEBIBYTE: f64 = 1_048_576.0;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scenarios {
    #[serde(rename = "run")]
    pub(super) runs: Vec<Run>,
    #[serde(rename = "row")]
    pub(super) rows: Vec<Row>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Run {
    /// Also the name of its results folder.
    pub(super) name: String,
    #[serde(default)]
    pub(super) often: Often,
    /// Command line with placeholders.
    line: String,
    #[serde(default)]
    pub(super) starts: usize,
    #[serde(default)]
    pub(super) kills: usize,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Often {
    #[default]
    Round,
    Once,
    GrownRound,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    pub(super) name: String,
    only: Option<String>,
    pub(super) run: String,
    pub(super) figure: Figure,
    /// Run and figure that the figure is divided by.
    pub(super) against: Option<(String, Figure)>,
    pub(super) at_least: Option<f64>,
    pub(super) at_most: Option<f64>,
    pub(super) aim: Option<f64>,
}

/// A figure of a run.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub(super) enum Figure {
    /// Outcomes committed per second.
    Committed,
    /// Outcomes committed or events received per second: the slower of the two.
    Outcomes,
    CommitP50,
    CommitP99,
    /// Processor time of RabbitMQ per payment.
    RabbitmqCpu,
    /// Processor time of PostgreSQL per payment.
    PostgresCpu,
    /// Peak resident memory of the daemon.
    MaxMemory,
    /// Median memory of the daemon in the last quarter of the work, divided by that in the second.
    MemoryGrowth,
    /// Time from the start of the daemon to readiness.
    Ready,
    /// Time from SIGKILL to the first commit of the next daemon.
    FirstCommit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unit {
    PerSecond,
    Microseconds,
    Milliseconds,
    Seconds,
    Mebibytes,
    Ratio,
}

/// Share of the usual load, above 0 and up to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale(pub(super) f64);

impl Scenarios {
    /// Reads the file, and keeps the rows that are asked for: those named, or all, but those of the grown ledger only on
    /// demand.
    pub(super) fn load(only: &[String], grown: bool) -> Result<Self> {
        let mut all: Self = toml::from_str(SCENARIOS)?;
        if let Some(unknown) = only.iter().find(|name| all.rows.iter().all(|row| row.only() != name.as_str())) {
            let mut names: Vec<&str> = all.rows.iter().map(Row::only).collect();
            names.dedup();
            anyhow::bail!("--only: `{unknown}` is no row, expected {}", names.join(", "));
        }
        let is_grown = |run: &str| all.runs.iter().any(|other| other.name == run && other.often == Often::GrownRound);
        all.rows.retain(|row| {
            let is_grown = is_grown(&row.run);
            is_grown && grown || if only.is_empty() { !is_grown } else { only.iter().any(|name| name == row.only()) }
        });
        Ok(all)
    }

    /// Returns the runs that the rows need, each with its round, counted from 1. What is compared takes turns, so that a
    /// machine that becomes slower or faster does so for both.
    pub(super) fn turns(&self, rounds: usize, grown_rounds: usize) -> Vec<(&Run, usize)> {
        let mut turns = Vec::new();
        for (often, rounds) in [(Often::Round, rounds), (Often::Once, 1), (Often::GrownRound, grown_rounds)] {
            for round in 1..=rounds {
                let needed = |run: &&Run| run.often == often && self.rows.iter().any(|row| row.needs(&run.name, None));
                turns.extend(self.runs.iter().filter(needed).map(|run| (run, round)));
            }
        }
        turns
    }

    /// Returns the command line of a run, as the table shows it.
    pub(super) fn command(&self, name: &str, scale: Scale) -> String {
        self.runs.iter().find(|run| run.name == name).map(|run| run.command(scale)).unwrap_or_default()
    }
}

impl Run {
    /// Returns the command line without the program.
    pub(super) fn line(&self, scale: Scale) -> String {
        let scaled = |text: &str| match text.strip_suffix("ms") {
            // Below a second there is no 99th percentile.
            Some(millis) => match scale.count(millis.parse().unwrap_or_default()).max(1000) {
                whole if whole % 1000 == 0 => format!("{}s", whole / 1000),
                millis => format!("{millis}ms"),
            },
            None => scale.count(text.parse().unwrap_or_default()).to_string(),
        };
        let parts = self.line.split(['{', '}']).enumerate();
        parts.map(|(at, part)| if at % 2 == 1 { scaled(part) } else { part.to_owned() }).collect()
    }

    /// Returns the command line as the table shows it.
    pub(super) fn command(&self, scale: Scale) -> String {
        let line = self.line(scale);
        let [starts, kills] = [self.starts, self.kills].map(|times| scale.count(times));
        match self.starts {
            0 => format!("settled-loadtest {line}"),
            _ => format!("settled run ({starts} starts, then {kills} kills amid the backlog of {line})"),
        }
    }
}

impl Row {
    fn only(&self) -> &str {
        self.only.as_deref().unwrap_or(&self.name)
    }

    /// Returns whether the row uses that figure of a run, or any of them.
    pub(super) fn needs(&self, run: &str, figure: Option<Figure>) -> bool {
        let pairs = [(self.run.as_str(), self.figure)].into_iter();
        let reference = self.against.as_ref().map(|(run, figure)| (run.as_str(), *figure));
        pairs.chain(reference).any(|pair| pair.0 == run && figure.is_none_or(|figure| figure == pair.1))
    }

    /// Returns whether the target holds for a value; `None` without a target. A value that is missing holds nothing.
    pub(super) fn holds(&self, value: Option<f64>) -> Option<bool> {
        let least = self.at_least.map(|least| value.is_some_and(|value| value >= least));
        let most = self.at_most.map(|most| value.is_some_and(|value| value <= most));
        least.or(most)
    }
}

impl Figure {
    /// Returns whether it is what a server spends on a payment: it is told of every run that measures a rate.
    pub(super) const fn is_cost(self) -> bool {
        matches!(self, Self::RabbitmqCpu | Self::PostgresCpu)
    }

    pub(super) const fn unit(self) -> Unit {
        match self {
            Self::Committed | Self::Outcomes => Unit::PerSecond,
            Self::CommitP50 | Self::CommitP99 | Self::Ready => Unit::Milliseconds,
            Self::RabbitmqCpu | Self::PostgresCpu => Unit::Microseconds,
            Self::MaxMemory => Unit::Mebibytes,
            Self::MemoryGrowth => Unit::Ratio,
            Self::FirstCommit => Unit::Seconds,
        }
    }

    /// Reads the figure from the results of a run; `None` if they do not have it.
    pub(super) fn of(self, summary: &Summary, out: &Path) -> Option<f64> {
        let commit = summary.latency_ms.commit;
        match self {
            Self::Committed => Some(summary.rate_committed_per_s),
            Self::Outcomes => Some(summary.rate_committed_per_s.min(summary.rate_events_per_s)),
            Self::CommitP50 => commit.map(|times| times.p50),
            Self::CommitP99 => commit.map(|times| times.p99),
            Self::RabbitmqCpu => per_payment(summary, summary.rabbitmq.cpu_seconds),
            Self::PostgresCpu => per_payment(summary, summary.postgres.cpu_seconds),
            Self::MaxMemory => Some(summary.daemon.max_rss_bytes as f64 / MEBIBYTE),
            Self::MemoryGrowth => memory_growth(&std::fs::read_to_string(out.join(SERIES)).ok()?),
            Self::Ready | Self::FirstCommit => None,
        }
    }
}

impl Unit {
    /// Returns what stands before a value, the number of its decimals, and what stands behind it.
    const fn format(self) -> (&'static str, usize, &'static str) {
        match self {
            Self::PerSecond => ("", 0, "/s"),
            Self::Microseconds => ("", 1, " µs"),
            Self::Milliseconds => ("", 2, " ms"),
            Self::Seconds => ("", 2, " s"),
            Self::Mebibytes => ("", 1, " MiB"),
            Self::Ratio => ("×", 2, ""),
        }
    }

    pub(super) fn show(self, value: f64) -> String {
        let (before, decimals, behind) = self.format();
        format!("{before}{}{behind}", decimal(value, decimals))
    }

    pub(super) const fn suffix(self) -> &'static str {
        self.format().2
    }
}

impl Scale {
    pub(super) fn count(self, usual: usize) -> usize {
        ((usual as f64 * self.0).round() as usize).max(1)
    }
}

/// Returns processor time in microseconds per payment that was posted or declined.
fn per_payment(summary: &Summary, cpu_seconds: f64) -> Option<f64> {
    let payments = summary.settled + summary.rejected.values().sum::<u64>();
    (payments > 0).then(|| cpu_seconds * 1e6 / payments as f64)
}

/// Computes [`Figure::MemoryGrowth`] from a series; `None` of a run that was too short. What comes after the work, when a
/// late subscriber reads its events, does not count.
fn memory_growth(csv: &str) -> Option<f64> {
    let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next()?;
    let places = ["settled", "outbox_events", "daemon_rss_bytes"].map(|name| header.iter().position(|it| *it == name));
    let value = |line: &[&str], place: Option<usize>| line.get(place?)?.parse::<f64>().ok();
    let samples: Vec<_> = lines.map(|line| places.map(|place| value(&line, place).unwrap_or_default())).collect();
    let all = samples.last()?[0];
    let end = samples.iter().position(|[settled, outbox, _]| *settled >= all && *outbox == 0.0);
    let work: Vec<f64> = samples[..end.map_or(samples.len(), |end| end + 1)].iter().map(|sample| sample[2]).collect();
    let quarter = work.len() / 4;
    Some(median(work.get(work.len() - quarter..)?)? / median(work.get(quarter..2 * quarter)?)?)
}

/// Returns the middle value, or the mean of the two in the middle.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 { Some(upper) } else { Some(f64::midpoint(values[middle - 1], upper)) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Cli;
    use crate::report::fixture;

    fn scenarios(only: &[&str], grown: bool) -> Scenarios {
        let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
        Scenarios::load(&only, grown).expect("scenarios")
    }

    fn rows(only: &[&str], grown: bool) -> Vec<String> {
        scenarios(only, grown).rows.into_iter().map(|row| row.name).collect()
    }

    #[test]
    fn the_grown_ledger_is_measured_when_it_is_asked_for() {
        assert_eq!(rows(&[], false).len(), rows(&[], true).len() - 1);
        assert!(!rows(&[], false).contains(&"grown".to_owned()));
        assert_eq!(rows(&["grown"], false), ["grown"]);
        assert_eq!(rows(&["start", "single-live"], false), ["single-live", "start", "restart"]);
        assert_eq!(rows(&["single"], true), ["single", "grown"]);
        let unknown = Scenarios::load(&["singel".to_owned()], false).expect_err("no row").to_string();
        assert!(unknown.contains("`singel`") && unknown.contains("memory, stream-memory, grown, start"), "{unknown}");
    }

    #[test]
    fn what_a_row_needs_is_run_and_nothing_else_is() {
        let all = scenarios(&[], true);
        let turns = all.turns(1, 1);
        assert_eq!(turns.len(), all.runs.len());
        for row in &all.rows {
            for run in std::iter::once(&row.run).chain(row.against.as_ref().map(|(run, _)| run)) {
                assert!(turns.iter().any(|(turn, _)| turn.name == *run), "{run}");
            }
            assert!(row.at_least.is_none() || row.at_most.is_none(), "{row:?}");
        }
    }

    #[test]
    fn every_run_is_a_command_line_that_is_understood_at_any_scale() {
        for scale in [1.0, 0.1, 0.001, 0.000_000_1] {
            for run in scenarios(&[], true).runs {
                let line = run.line(Scale(scale));
                let words = std::iter::once("settled-loadtest").chain(line.split(' '));
                assert!(Cli::try_parse_from(words).is_ok(), "{line}");
            }
        }
    }

    #[test]
    fn a_reference_takes_turns_with_what_it_is_for() {
        let turns = |scenarios: &Scenarios, rounds, grown_rounds| -> Vec<String> {
            let turns = scenarios.turns(rounds, grown_rounds);
            turns.into_iter().map(|(run, round)| format!("{}-{round}", run.name)).collect()
        };
        assert_eq!(turns(&scenarios(&["single"], false), 2, 1), ["r1-1", "single-1", "r1-2", "single-2"]);
        let expected = ["memory-1", "empty-1e6-1", "grown-1", "empty-1e6-2", "grown-2"];
        assert_eq!(turns(&scenarios(&["grown", "memory"], false), 3, 2), expected);
    }

    #[test]
    fn a_scale_leaves_something_to_measure() {
        let line = |line: &str, scale| {
            Run { line: line.to_owned(), ..scenarios(&[], false).runs[0].clone() }.line(Scale(scale))
        };
        assert_eq!(line("run --duration {30000ms} --rate 5", 1.0), "run --duration 30s --rate 5");
        assert_eq!((line("{30000ms}", 0.05), line("{30000ms}", 1e-6)), ("1500ms".to_owned(), "1s".to_owned()));
        assert_eq!((Scale(0.1).count(200_000), Scale(1e-9).count(200_000)), (20_000, 1));
    }

    #[test]
    fn a_target_is_held_by_the_value_that_it_names() {
        let row = |at_least, at_most| Row { at_least, at_most, ..scenarios(&[], false).rows[0].clone() };
        let (least, most) = (row(Some(6.0), None), row(None, Some(0.5)));
        assert_eq!([6.0, 5.99, f64::NAN].map(|value| least.holds(Some(value))), [Some(true), Some(false), Some(false)]);
        assert_eq!([0.5, 0.51, f64::NAN].map(|value| most.holds(Some(value))), [Some(true), Some(false), Some(false)]);
        assert_eq!((least.holds(None), row(None, None).holds(Some(1.0))), (Some(false), None));
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!((median(&[]), median(&[3.0]), median(&[9.0, 1.0, 3.0])), (None, Some(3.0), Some(3.0)));
        assert_eq!(median(&[4.0, 1.0, 3.0, 9.0]), Some(3.5));
    }

    #[test]
    fn figures_are_those_of_the_results() {
        let out = tempfile::tempdir().expect("a directory");
        let (mut drained, run) = (fixture::drain(), fixture::good_run());
        (drained.summary.rate_committed_per_s, drained.summary.rate_events_per_s) = (31_000.0, 20_000.0);
        let of = |figure: Figure| figure.of(&drained.summary, out.path());
        assert_eq!((of(Figure::Outcomes), of(Figure::Committed)), (Some(20_000.0), Some(31_000.0)));
        // A backlog has no latency.
        assert_eq!((of(Figure::CommitP99), of(Figure::Ready), of(Figure::MemoryGrowth)), (None, None, None));
        (drained.summary.settled, drained.summary.rabbitmq.cpu_seconds) = (100_000, 1.5);
        drained.summary.rejected = [("insufficient_funds".to_owned(), 50_000)].into();
        assert_eq!(Figure::RabbitmqCpu.of(&drained.summary, out.path()), Some(10.0));
        assert!(Figure::CommitP99.of(&run.summary, out.path()).is_some());
        run.write(out.path()).expect("written");
        assert!(Figure::MemoryGrowth.of(&run.summary, out.path()).is_some_and(|growth| growth > 1.0));
    }

    /// A series with these payments settled, events in the outbox, and bytes of memory.
    fn series(samples: &[(usize, u64, u64)]) -> String {
        let lines = samples.iter().map(|(settled, outbox, rss)| format!("1.0,{settled},{outbox},,{rss}\n"));
        format!("at_s,settled,outbox_events,commit_p50_ms,daemon_rss_bytes\n{}", lines.collect::<String>())
    }

    #[test]
    fn memory_grows_from_the_second_quarter_of_the_work_to_the_last() {
        let growth = |memory: &[u64], idle: &[(usize, u64, u64)]| {
            let work = memory.iter().enumerate().map(|(second, rss)| (second, 0, *rss));
            memory_growth(&series(&work.chain(idle.iter().copied()).collect::<Vec<_>>()))
        };
        assert_eq!(growth(&[1, 9, 40, 40, 7, 7, 60, 60], &[]), Some(1.5));
        assert_eq!((growth(&[1, 40, 9], &[]), growth(&[], &[])), (None, None));
        // After the work it is not looked at; while events wait it still works.
        assert_eq!(growth(&[1, 40, 9, 60], &[(3, 0, 20), (3, 0, 20), (3, 0, 20)]), Some(1.5));
        assert_eq!(memory_growth(&series(&[(0, 0, 1), (1, 0, 40), (2, 0, 9), (3, 5, 60), (3, 0, 20)])), Some(0.5));
    }
}
