//! From the figures of all runs to the table, and whether it holds: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

use serde::Serialize;

use super::figures::{Figure, Unit, median};
use super::rows::{Line, Run, Scale, Target};
use crate::report::model::Machine;

/// What was measured so far.
#[derive(Debug, Default)]
pub(super) struct Book {
    figures: BTreeMap<(Run, Figure), Vec<f64>>,
    failures: BTreeMap<Run, Vec<String>>,
    doubts: Vec<String>,
    /// Where it was measured, as soon as a run has said.
    pub(super) machine: Option<Machine>,
}

impl Book {
    pub(super) fn add(&mut self, run: Run, figures: impl IntoIterator<Item = (Figure, f64)>) {
        for (figure, value) in figures {
            self.figures.entry((run, figure)).or_default().push(value);
        }
    }

    pub(super) fn fail(&mut self, run: Run, why: String) {
        self.failures.entry(run).or_default().push(why);
    }

    /// What is to be known of a figure though it counts.
    pub(super) fn doubt(&mut self, why: String) {
        self.doubts.push(why);
    }

    fn of(&self, run: Run, figure: Figure) -> &[f64] {
        self.figures.get(&(run, figure)).map_or(&[], Vec::as_slice)
    }
}

/// The table: `speed.json`, and its text `speed.md`.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Table {
    /// The version of settled-loadtest.
    tool_version: &'static str,
    /// How much of the usual load was run, from 0 to 1.
    scale: f64,
    /// Where it ran; `None` as long as no run has said.
    machine: Option<Machine>,
    rows: Vec<Measured>,
    /// What is to be known of the figures.
    doubts: Vec<String>,
    /// Whether no row missed its target.
    held: bool,
}

/// A row as it was measured.
#[derive(Debug, PartialEq, Serialize)]
struct Measured {
    row: &'static str,
    command: String,
    unit: Unit,
    /// Of each round.
    figures: Vec<f64>,
    median: Option<f64>,
    reference: Option<Reference>,
    /// The median to that of the reference.
    ratio: Option<f64>,
    /// Of the ratio where there is a reference, else of the median.
    target: Option<String>,
    aim: Option<String>,
    /// `None` without a target.
    held: Option<bool>,
    /// Why runs of it have no figures.
    failures: Vec<String>,
}

/// What a row is compared with.
#[derive(Debug, PartialEq, Serialize)]
struct Reference {
    row: &'static str,
    command: String,
    figures: Vec<f64>,
    median: Option<f64>,
}

impl Table {
    pub(super) fn new(lines: &[Line], book: &Book, scale: Scale) -> Self {
        let rows: Vec<Measured> = lines.iter().map(|line| Measured::new(line, book, scale)).collect();
        let held = rows.iter().all(|row| row.held != Some(false) && row.failures.is_empty());
        Self {
            tool_version: env!("CARGO_PKG_VERSION"),
            scale: scale.0,
            machine: book.machine.clone(),
            rows,
            doubts: book.doubts.clone(),
            held,
        }
    }

    pub(super) const fn held(&self) -> bool {
        self.held
    }

    /// Those that missed their targets, or failed.
    fn missed(&self) -> impl Iterator<Item = &Measured> {
        self.rows.iter().filter(|row| row.held == Some(false) || !row.failures.is_empty())
    }
}

impl Measured {
    fn new(line: &Line, book: &Book, scale: Scale) -> Self {
        let figures = book.of(line.run, line.figure).to_vec();
        let reference = line.reference.map(|(run, figure)| {
            let figures = book.of(run, figure).to_vec();
            Reference { row: run.name(), command: run.command(scale), median: median(&figures), figures }
        });
        let median = median(&figures);
        let ratio = reference.as_ref().and_then(|reference| Some(median? / reference.median?));
        let judged = if reference.is_some() { ratio } else { median };
        let unit = line.target_unit();
        let text = |target: Target| format!("{target}{}", unit.suffix());
        let failures = line.runs().filter_map(|run| book.failures.get(&run)).flatten().cloned().collect();
        Self {
            row: line.name,
            command: line.run.command(scale),
            unit: line.figure.unit(),
            figures,
            median,
            reference,
            ratio,
            target: line.target.map(text),
            aim: line.aim.map(text),
            // What has no figure has not held.
            held: line.target.map(|target| judged.is_some_and(|value| target.holds(value))),
            failures,
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: Option<f64>| value.map_or_else(none, |value| self.unit.show(value));
        let figures: Vec<String> = self.figures.iter().map(|value| self.unit.show(*value)).collect();
        let reference = self.reference.as_ref();
        let reference = reference.map_or_else(none, |of| format!("{}: {}", of.row, show(of.median)));
        let ratio = self.ratio.map_or_else(none, |ratio| Unit::Ratio.show(ratio));
        let target = self.target.clone().map_or_else(none, |target| match &self.aim {
            Some(aim) => format!("{target}, aim {aim}"),
            None => target,
        });
        let held = match self.held {
            _ if !self.failures.is_empty() => "**failed**",
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "–",
        };
        let (figures, median) = (figures.join(", "), show(self.median));
        writeln!(
            f,
            "| {} | `{}` | {figures} | {median} | {reference} | {ratio} | {target} | {held} |",
            self.row, self.command
        )
    }
}

fn none() -> String {
    "–".to_owned()
}

/// As Markdown.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("| row | what was run | each round | median | reference | ratio | target | held |\n")?;
        f.write_str("|---|---|--:|--:|--:|--:|--:|---|\n")?;
        for row in &self.rows {
            row.write(f)?;
        }
        f.write_char('\n')?;
        if self.scale < 1.0 {
            writeln!(f, "With {} of the usual load: no measure of speed.\n", self.scale)?;
        }
        if let Some(Machine { cpus, cpu_model, memory_bytes, kernel, postgres_version, rabbitmq_version }) =
            &self.machine
        {
            let memory = *memory_bytes >> 30;
            writeln!(
                f,
                "{cpus} × {cpu_model}, {memory} GiB, {kernel}, PostgreSQL {postgres_version}, RabbitMQ \
                 {rabbitmq_version}, settled-loadtest {}.\n",
                self.tool_version
            )?;
        }
        let missed: Vec<&str> = self.missed().map(|row| row.row).collect();
        match missed.as_slice() {
            [] => writeln!(f, "Every target was held."),
            missed => writeln!(f, "Not held: {}.", missed.join(", ")),
        }?;
        self.doubts.iter().try_for_each(|doubt| write!(f, "\n{doubt}.\n"))?;
        // A reference that failed did so for several rows.
        let failures: BTreeSet<&String> = self.rows.iter().flat_map(|row| &row.failures).collect();
        failures.into_iter().try_for_each(|failure| write!(f, "\n```\n{failure}\n```\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;
    use crate::speed::rows::{Row, lines};

    fn book() -> Book {
        let mut book = Book { machine: Some(fixture::good_run().summary.machine), ..Book::default() };
        for rate in [3000.0, 3600.0, 3300.0] {
            book.add(Run::R1, [(Figure::Committed, rate)]);
        }
        for rate in [20_000.0, 21_000.0, 26_400.0] {
            book.add(Run::Single, [(Figure::Outcomes, rate), (Figure::Committed, rate + 1.0)]);
        }
        book.add(Run::Latency, [(Figure::CommitP50, 1.5), (Figure::CommitP99, 6.0)]);
        book.add(Run::R1Latency, [(Figure::CommitP99, 8.0)]);
        book
    }

    fn table(rows: &[Row], book: &Book) -> Table {
        Table::new(&lines(rows), book, Scale(1.0))
    }

    #[test]
    fn a_ratio_is_that_of_the_medians() {
        let table = table(&[Row::R1, Row::Single], &book());
        assert_eq!((table.rows[0].median, table.rows[0].held), (Some(3300.0), None));
        assert_eq!((table.rows[1].median, table.rows[1].ratio), (Some(21_000.0), Some(21_000.0 / 3300.0)));
        assert_eq!((table.rows[1].held, table.held()), (Some(true), true));
    }

    #[test]
    fn a_row_that_misses_its_target_is_named() {
        let table = table(&[Row::Latency], &book());
        assert_eq!(table.rows.iter().map(|row| row.held).collect::<Vec<_>>(), [Some(true), Some(true), Some(false)]);
        assert!(!table.held());
        assert!(table.to_string().contains("Not held: latency p99 to r1."), "{table}");
    }

    #[test]
    fn what_was_not_measured_has_not_held() {
        let mut book = book();
        assert_eq!(table(&[Row::Hot], &book).rows[0].held, Some(false));
        // Nor does a row one of whose rounds failed, or one of its reference.
        book.fail(Run::R1, "exit status: 1".to_owned());
        let table = table(&[Row::Single], &book);
        assert!(!table.held());
        assert!(table.to_string().contains("exit status: 1"), "{table}");
    }

    #[test]
    fn the_table_is_markdown() {
        insta::assert_snapshot!(table(&[Row::R1, Row::Single, Row::SingleLive, Row::Latency, Row::Memory], &book()));
    }

    #[test]
    fn a_doubt_is_said_and_changes_nothing() {
        let mut book = book();
        book.doubt("r1-latency-1: the generator was late".to_owned());
        let table = table(&[Row::Single], &book);
        assert!(table.held() && table.to_string().contains("the generator was late"), "{table}");
    }

    #[test]
    fn a_part_of_the_load_is_said_to_be_one() {
        let table = Table::new(&[], &book(), Scale(0.1));
        assert!(table.to_string().contains("With 0.1 of the usual load"), "{table}");
    }
}
