//! The table of the speed, and whether its targets hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

use serde::Serialize;

use super::cost::{self, Cost};
use super::scenarios::{Figure, Row, Scale, Scenarios, Unit, median};
use crate::report::model::Machine;

/// What was measured so far.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) figures: BTreeMap<(String, Figure), Vec<f64>>,
    /// Why runs have no figures, by run.
    pub(super) failures: BTreeMap<String, Vec<String>>,
    /// What is doubtful about figures that count.
    pub(super) doubts: Vec<String>,
    pub(super) machine: Option<Machine>,
}

/// `speed.json`; displayed, it is `speed.md`.
#[derive(Debug, Serialize)]
pub(super) struct Table {
    tool_version: &'static str,
    /// Share of the usual load, from 0 to 1.
    scale: f64,
    machine: Option<Machine>,
    rows: Vec<Measured>,
    costs: Vec<Cost>,
    doubts: Vec<String>,
    /// Whether no row missed its target.
    pub(super) held: bool,
}

#[derive(Debug, Serialize)]
struct Measured {
    row: String,
    command: String,
    unit: Unit,
    /// One of each round.
    figures: Vec<f64>,
    median: Option<f64>,
    reference: Option<Reference>,
    /// The median divided by that of the reference.
    ratio: Option<f64>,
    /// Of the ratio where there is a reference, else of the median.
    target: Option<String>,
    aim: Option<String>,
    /// `None` without a target.
    held: Option<bool>,
    failures: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Reference {
    row: String,
    command: String,
    figures: Vec<f64>,
    median: Option<f64>,
}

impl Table {
    pub(super) fn new(scenarios: &Scenarios, book: &Book, scale: Scale) -> Self {
        let rows: Vec<_> = scenarios.rows.iter().map(|row| Measured::new(row, scenarios, book, scale)).collect();
        Self {
            tool_version: env!("CARGO_PKG_VERSION"),
            scale: scale.0,
            machine: book.machine.clone(),
            held: !rows.iter().any(Measured::missed),
            rows,
            costs: cost::costs(scenarios, book),
            doubts: book.doubts.clone(),
        }
    }
}

impl Measured {
    fn new(row: &Row, scenarios: &Scenarios, book: &Book, scale: Scale) -> Self {
        let of = |run: &str, figure| book.figures.get(&(run.to_owned(), figure)).cloned().unwrap_or_default();
        let figures = of(&row.run, row.figure);
        let reference = row.against.as_ref().map(|(run, figure)| {
            let figures = of(run, *figure);
            let command = scenarios.command(run, scale);
            Reference { row: run.clone(), command, median: median(&figures), figures }
        });
        let median = median(&figures);
        let ratio = reference.as_ref().and_then(|reference| Some(median? / reference.median?));
        let (judged, unit) = if reference.is_some() { (ratio, Unit::Ratio) } else { (median, row.figure.unit()) };
        let least = |bound: f64| format!("≥ {bound}{}", unit.suffix());
        let most = |bound: f64| format!("≤ {bound}{}", unit.suffix());
        let failures = book.failures.iter().filter(|(run, _)| row.needs(run, None));
        Self {
            row: row.name.clone(),
            command: scenarios.command(&row.run, scale),
            unit: row.figure.unit(),
            figures,
            median,
            reference,
            ratio,
            target: row.at_least.map(least).or(row.at_most.map(most)),
            aim: row.aim.map(least),
            held: row.holds(judged),
            failures: failures.flat_map(|(_, failures)| failures.clone()).collect(),
        }
    }

    fn missed(&self) -> bool {
        self.held == Some(false) || !self.failures.is_empty()
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let none = || "–".to_owned();
        let show = |value: Option<f64>| value.map_or_else(none, |value| self.unit.show(value));
        let figures: Vec<String> = self.figures.iter().map(|value| self.unit.show(*value)).collect();
        let reference = self.reference.as_ref();
        let reference = reference.map_or_else(none, |of| format!("{}: {}", of.row, show(of.median)));
        let ratio = self.ratio.map_or_else(none, |ratio| Unit::Ratio.show(ratio));
        let aim = self.aim.as_ref().map(|aim| format!(", aim {aim}")).unwrap_or_default();
        let target = self.target.as_ref().map_or_else(none, |target| format!("{target}{aim}"));
        let held = match self.held {
            _ if !self.failures.is_empty() => "**failed**",
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "–",
        };
        let Self { row, command, median, .. } = self;
        let (figures, median) = (figures.join(", "), show(*median));
        writeln!(f, "| {row} | `{command}` | {figures} | {median} | {reference} | {ratio} | {target} | {held} |")
    }
}

/// As Markdown.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("| row | what was run | each round | median | reference | ratio | target | held |\n")?;
        f.write_str("|---|---|--:|--:|--:|--:|--:|---|\n")?;
        self.rows.iter().try_for_each(|row| row.write(f))?;
        f.write_char('\n')?;
        cost::write(&self.costs, f)?;
        if self.scale < 1.0 {
            writeln!(f, "With {} of the usual load: no measure of speed.\n", self.scale)?;
        }
        if let Some(machine) = &self.machine {
            let Machine { cpus, cpu_model, memory_bytes, kernel, postgres_version, rabbitmq_version } = machine;
            let (memory, version) = (*memory_bytes >> 30, self.tool_version);
            write!(f, "{cpus} × {cpu_model}, {memory} GiB, {kernel}, PostgreSQL {postgres_version}, ")?;
            writeln!(f, "RabbitMQ {rabbitmq_version}, settled-loadtest {version}.\n")?;
        }
        let missed: Vec<&str> = self.rows.iter().filter(|row| row.missed()).map(|row| row.row.as_str()).collect();
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

    fn book() -> Book {
        let mut book = Book { machine: Some(fixture::good_run().summary.machine), ..Book::default() };
        for (run, figure, values) in [
            ("r1", Figure::Committed, [3000.0, 3600.0, 3300.0].as_slice()),
            ("single", Figure::Outcomes, &[20_000.0, 21_000.0, 26_400.0]),
            ("single", Figure::Committed, &[20_001.0, 21_001.0, 26_401.0]),
            ("single", Figure::RabbitmqCpu, &[50.0, 52.0, 51.0]),
            ("single", Figure::PostgresCpu, &[20.0, 22.0, 21.0]),
            ("latency", Figure::CommitP50, &[1.5]),
            ("latency", Figure::CommitP99, &[6.0]),
            ("r1-latency", Figure::CommitP99, &[8.0]),
        ] {
            book.figures.insert((run.to_owned(), figure), values.to_vec());
        }
        book
    }

    fn table(rows: &[&str], book: &Book) -> Table {
        let rows: Vec<String> = rows.iter().map(|row| (*row).to_owned()).collect();
        Table::new(&Scenarios::load(&rows, false).expect("rows"), book, Scale(1.0))
    }

    #[test]
    fn a_ratio_is_that_of_the_medians() {
        let table = table(&["r1", "single"], &book());
        assert_eq!((table.rows[0].median, table.rows[0].held), (Some(3300.0), None));
        assert_eq!((table.rows[1].median, table.rows[1].ratio), (Some(21_000.0), Some(21_000.0 / 3300.0)));
        assert_eq!((table.rows[1].held, table.held), (Some(true), true));
    }

    #[test]
    fn a_row_that_misses_its_target_is_named() {
        let table = table(&["latency"], &book());
        assert_eq!(table.rows.iter().map(|row| row.held).collect::<Vec<_>>(), [Some(true), Some(true), Some(false)]);
        assert!(!table.held);
        assert!(table.to_string().contains("Not held: latency p99 to r1."), "{table}");
    }

    #[test]
    fn what_was_not_measured_has_not_held() {
        let mut book = book();
        assert_eq!(table(&["hot"], &book).rows[0].held, Some(false));
        // Nor does a row one of whose rounds failed, or one of its reference.
        book.failures.insert("r1".to_owned(), vec!["exit status: 1".to_owned()]);
        let table = table(&["single"], &book);
        assert!(!table.held);
        assert!(table.to_string().contains("exit status: 1"), "{table}");
    }

    #[test]
    fn the_table_is_markdown() {
        insta::assert_snapshot!(table(&["r1", "single", "single-live", "latency", "memory"], &book()));
    }

    #[test]
    fn a_doubt_or_a_part_of_the_load_is_said_and_changes_nothing() {
        let mut book = book();
        book.doubts.push("r1-latency-1: the generator was late".to_owned());
        let scenarios = Scenarios::load(&["single".to_owned()], false).expect("rows");
        let table = Table::new(&scenarios, &book, Scale(0.1));
        assert!(table.held && table.to_string().contains("the generator was late"), "{table}");
        assert!(table.to_string().contains("With 0.1 of the usual load"), "{table}");
    }
}
