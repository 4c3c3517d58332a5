//! The rows of the table, and the runs that they are made of.

use std::fmt;

use super::figures::{Figure, Unit};

/// How often the daemon is started, how often it is killed, and amid how many payments.
pub(super) const STARTS: usize = 10;
pub(super) const KILLS: usize = 5;
const START_BACKLOG: usize = 200_000;

/// What can be asked for. One row may be several lines of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Row {
    /// A reference: the usual consumer, with one transaction per payment
    R1,
    /// A reference: what PostgreSQL alone takes
    R2,
    /// A backlog, one message for each event
    Single,
    /// The same with a subscriber that consumes meanwhile
    SingleLive,
    /// A backlog, events in batches
    Batch,
    /// A backlog with nobody to hear of it
    Discard,
    /// A backlog between the same two accounts
    Hot,
    /// A backlog of which half is transfers, and half holds and their captures
    Mix,
    /// The time to the commit at 1000 payments per second
    Latency,
    /// Resident memory over a million payments
    Memory,
    /// A ledger with ten million payments and a million accounts
    Grown,
    /// From the start to readiness, from a kill to the next commit
    Start,
}

/// What is run for the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Run {
    R1,
    R2,
    Single,
    SingleLive,
    Batch,
    Discard,
    Hot,
    Mix,
    Latency,
    R1Latency,
    Memory,
    Empty,
    Grown,
    Start,
}

/// How often something is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Often {
    /// In each round.
    EachRound,
    /// As often as the grown ledger is to be measured.
    EachGrownRound,
    Once,
}

/// What a figure has to be for its line to hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

/// A line of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) row: Row,
    pub(super) name: &'static str,
    pub(super) run: Run,
    pub(super) figure: Figure,
    /// What the figure is divided by, for the target.
    pub(super) reference: Option<(Run, Figure)>,
    pub(super) target: Option<Target>,
    /// What is hoped for beyond the target.
    pub(super) aim: Option<Target>,
}

impl Line {
    const fn new(row: Row, name: &'static str, run: Run, figure: Figure) -> Self {
        Self { row, name, run, figure, reference: None, target: None, aim: None }
    }

    const fn against(self, run: Run, figure: Figure) -> Self {
        Self { reference: Some((run, figure)), ..self }
    }

    const fn at_least(self, least: f64) -> Self {
        Self { target: Some(Target::AtLeast(least)), ..self }
    }

    const fn at_most(self, most: f64) -> Self {
        Self { target: Some(Target::AtMost(most)), ..self }
    }

    const fn aim(self, least: f64) -> Self {
        Self { aim: Some(Target::AtLeast(least)), ..self }
    }

    /// What its target is in: a ratio, if it has a reference.
    pub(super) const fn target_unit(&self) -> Unit {
        if self.reference.is_some() { Unit::Ratio } else { self.figure.unit() }
    }

    /// Whether that figure of that run is in it.
    pub(super) fn needs(&self, run: Run, figure: Figure) -> bool {
        (self.run, self.figure) == (run, figure) || self.reference == Some((run, figure))
    }

    /// What has to be run for it, references included.
    pub(super) fn runs(&self) -> impl Iterator<Item = Run> {
        [Some(self.run), self.reference.map(|(run, _)| run)].into_iter().flatten()
    }
}

/// The whole table.
pub(super) const LINES: [Line; 16] = {
    use Figure::{CommitP50, CommitP99, Committed, FirstCommit, MaxMemory, MemoryGrowth, Outcomes, Ready};
    [
        Line::new(Row::R1, "r1", Run::R1, Committed),
        Line::new(Row::R2, "r2", Run::R2, Committed),
        Line::new(Row::Single, "single", Run::Single, Outcomes).against(Run::R1, Committed).at_least(6.0).aim(8.0),
        Line::new(Row::SingleLive, "single-live", Run::SingleLive, Outcomes).against(Run::R1, Committed),
        Line::new(Row::Batch, "batch", Run::Batch, Outcomes).against(Run::R1, Committed).at_least(10.0).aim(15.0),
        Line::new(Row::Discard, "discard", Run::Discard, Committed).against(Run::R2, Committed).at_least(0.8),
        Line::new(Row::Hot, "hot", Run::Hot, Committed).against(Run::Single, Committed).at_least(1.0),
        Line::new(Row::Mix, "mix", Run::Mix, Committed).against(Run::Single, Committed).at_least(0.5),
        Line::new(Row::Latency, "latency p50", Run::Latency, CommitP50).at_most(2.0),
        Line::new(Row::Latency, "latency p99", Run::Latency, CommitP99).at_most(10.0),
        Line::new(Row::Latency, "latency p99 to r1", Run::Latency, CommitP99)
            .against(Run::R1Latency, CommitP99)
            .at_most(0.5),
        Line::new(Row::Memory, "memory", Run::Memory, MaxMemory).at_most(64.0),
        Line::new(Row::Memory, "memory growth", Run::Memory, MemoryGrowth).at_most(1.10),
        Line::new(Row::Grown, "grown", Run::Grown, Committed).against(Run::Empty, Committed).at_least(0.8),
        Line::new(Row::Start, "start", Run::Start, Ready).at_most(300.0),
        Line::new(Row::Start, "restart", Run::Start, FirstCommit).at_most(2.0),
    ]
};

/// In the order in which they take turns.
const RUNS: [Run; 14] = [
    Run::R1,
    Run::R2,
    Run::Single,
    Run::SingleLive,
    Run::Batch,
    Run::Discard,
    Run::Hot,
    Run::Mix,
    Run::Latency,
    Run::R1Latency,
    Run::Memory,
    Run::Empty,
    Run::Grown,
    Run::Start,
];

impl Run {
    /// Its name, also of its results folder.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::R1 => "r1",
            Self::R2 => "r2",
            Self::Single => "single",
            Self::SingleLive => "single-live",
            Self::Batch => "batch",
            Self::Discard => "discard",
            Self::Hot => "hot",
            Self::Mix => "mix",
            Self::Latency => "latency",
            Self::R1Latency => "r1-latency",
            Self::Memory => "memory",
            Self::Empty => "empty-1e6",
            Self::Grown => "grown",
            Self::Start => "start",
        }
    }

    pub(super) const fn often(self) -> Often {
        match self {
            Self::Empty | Self::Grown => Often::EachGrownRound,
            Self::Memory | Self::Start => Often::Once,
            _ => Often::EachRound,
        }
    }

    /// The command line that it is, without the program.
    pub(super) fn line(self, scale: Scale) -> String {
        let count = |usual| scale.count(usual);
        let heard = "--subscriber late --event-queue quorum";
        match self {
            Self::R1 => format!("drain --subject baseline --count {}", count(40_000)),
            Self::R2 => format!("floor --count {}", count(400_000)),
            Self::Single => format!("drain --count {} {heard}", count(200_000)),
            Self::SingleLive => format!("drain --count {} --subscriber live --event-queue quorum", count(200_000)),
            Self::Batch => format!("drain --count {} {heard} --set events.format=batch", count(200_000)),
            Self::Discard => format!("drain --count {} --subscriber none", count(400_000)),
            Self::Hot => format!("drain --count {} --skew hot {heard}", count(200_000)),
            // A capture for each hold: as many tasks as there are transfers.
            Self::Mix => format!("drain --count {} --mix transfer:2,authorize-capture:1 {heard}", count(200_000)),
            Self::Latency => format!("run --rate 1000 --duration {}", scale.millis(30_000)),
            Self::R1Latency => format!("run --subject baseline --rate 1000 --duration {}", scale.millis(30_000)),
            Self::Memory => format!("drain --count {} {heard}", count(1_000_000)),
            Self::Empty => Self::with_ledger(scale, 0),
            Self::Grown => Self::with_ledger(scale, count(10_000_000)),
            // Not run as it stands: the load of the daemons that are started and killed.
            Self::Start => format!("drain --count {} --subscriber none", count(START_BACKLOG)),
        }
    }

    /// The same as it is shown.
    pub(super) fn command(self, scale: Scale) -> String {
        if self == Self::Start {
            let (starts, kills, backlog) = (scale.count(STARTS), scale.count(KILLS), scale.count(START_BACKLOG));
            return format!("settled run ({starts} starts, then {kills} kills amid a backlog of {backlog})");
        }
        format!("settled-loadtest {}", self.line(scale))
    }

    /// Both with a ledger that is vacuumed and written to disk before the load.
    fn with_ledger(scale: Scale, ledger: usize) -> String {
        let (count, accounts) = (scale.count(300_000), scale.count(1_000_000));
        format!("drain --count {count} --subscriber none --accounts {accounts} --ledger {ledger}")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "≥ {least}"),
            Self::AtMost(most) => write!(f, "≤ {most}"),
        }
    }
}

impl Target {
    pub(super) fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

/// How much of the usual load is run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale(pub(super) f64);

impl Scale {
    /// So much of `usual`, at least 1.
    pub(super) fn count(self, usual: usize) -> usize {
        ((usual as f64 * self.0).round() as usize).max(1)
    }

    /// So much of a time in milliseconds, at least a second: below that there is no 99th percentile.
    fn millis(self, usual: usize) -> String {
        match self.count(usual).max(1000) {
            whole if whole % 1000 == 0 => format!("{}s", whole / 1000),
            millis => format!("{millis}ms"),
        }
    }
}

/// A run in a round; rounds count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) run: Run,
    pub(super) round: usize,
}

/// The lines of `rows`.
pub(super) fn lines(rows: &[Row]) -> Vec<Line> {
    LINES.into_iter().filter(|line| rows.contains(&line.row)).collect()
}

/// Everything that has to be run for `lines`. What is compared takes turns, so that a machine that
/// becomes slower or faster does so for both.
pub(super) fn turns(lines: &[Line], rounds: usize, grown_rounds: usize) -> Vec<Turn> {
    let wanted = |run: &Run| lines.iter().any(|line| line.runs().any(|needed| needed == *run));
    let mut turns = Vec::new();
    for (often, rounds) in [(Often::EachRound, rounds), (Often::Once, 1), (Often::EachGrownRound, grown_rounds)] {
        for round in 1..=rounds {
            let runs = RUNS.into_iter().filter(|run| run.often() == often && wanted(run));
            turns.extend(runs.map(|run| Turn { run, round }));
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use clap::{Parser, ValueEnum};

    use super::*;
    use crate::args::Cli;

    fn names(turns: &[Turn]) -> Vec<String> {
        turns.iter().map(|turn| format!("{}-{}", turn.run.name(), turn.round)).collect()
    }

    #[test]
    fn every_row_has_a_line_and_every_line_is_run() {
        for row in Row::value_variants() {
            assert!(!lines(&[*row]).is_empty(), "{row:?}");
        }
        let turns = turns(&LINES, 1, 1);
        for run in LINES.iter().flat_map(Line::runs) {
            assert!(turns.iter().any(|turn| turn.run == run), "{run:?}");
        }
    }

    #[test]
    fn every_run_is_a_command_line_that_is_understood_at_any_scale() {
        for scale in [1.0, 0.1, 0.001, 0.000_000_1] {
            for run in RUNS {
                let line = run.line(Scale(scale));
                let words = std::iter::once("settled-loadtest").chain(line.split(' '));
                assert!(Cli::try_parse_from(words).is_ok(), "{line}");
            }
        }
    }

    #[test]
    fn a_reference_takes_turns_with_what_it_is_for() {
        let single = lines(&[Row::Single]);
        assert_eq!(names(&turns(&single, 2, 1)), ["r1-1", "single-1", "r1-2", "single-2"]);
        let grown = lines(&[Row::Grown, Row::Memory]);
        let expected = ["memory-1", "empty-1e6-1", "grown-1", "empty-1e6-2", "grown-2"];
        assert_eq!(names(&turns(&grown, 3, 2)), expected);
    }

    #[test]
    fn a_scale_leaves_something_to_measure() {
        assert_eq!((Scale(1.0).millis(30_000), Scale(0.1).millis(30_000)), ("30s".to_owned(), "3s".to_owned()));
        assert_eq!((Scale(0.05).millis(30_000), Scale(1e-6).millis(30_000)), ("1500ms".to_owned(), "1s".to_owned()));
        assert_eq!((Scale(0.1).count(200_000), Scale(1e-9).count(200_000)), (20_000, 1));
    }

    #[test]
    fn a_target_is_held_by_the_value_that_it_names() {
        assert!(Target::AtLeast(6.0).holds(6.0) && !Target::AtLeast(6.0).holds(5.99));
        assert!(Target::AtMost(0.5).holds(0.5) && !Target::AtMost(0.5).holds(0.51));
        assert!(!Target::AtLeast(6.0).holds(f64::NAN) && !Target::AtMost(6.0).holds(f64::NAN));
    }
}
