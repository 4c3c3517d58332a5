//! Two runs side by side: what one was against the other, and whether that may be said at all.

#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Result;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::model::{Load, Machine, ProcessUse, Results, Summary};
use super::numbers::{count, decimal, shares};

/// Two runs.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Comparison {
    /// What the first is called.
    a: String,
    /// What the second is called.
    b: String,
    /// Why the two cannot be compared without further thought: one line each.
    differences: Vec<String>,
    /// The figures.
    figures: Vec<Figure>,
}

/// A figure of both runs.
#[derive(Debug, PartialEq, Serialize)]
struct Figure {
    /// What it is.
    name: String,
    /// In what.
    unit: &'static str,
    /// Of the first run, if it has it.
    a: Option<f64>,
    /// Of the second run, if it has it.
    b: Option<f64>,
    /// The second to the first; none without both, or to 0.
    ratio: Option<f64>,
}

/// Prints how the run in folder `b` compares with that in folder `a`.
///
/// # Errors
/// When a folder cannot be read, or standard output cannot be written to.
pub(crate) fn run(a: &Path, b: &Path, json: bool) -> Result<()> {
    match io::stdout().write_all(compare(a, b, json)?.as_bytes()) {
        // A reader that has gone has what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

fn compare(a: &Path, b: &Path, json: bool) -> Result<String> {
    let comparison = Comparison::new(&Results::read(a)?, &Results::read(b)?);
    Ok(if json { serde_json::to_string_pretty(&comparison)? + "\n" } else { text(&comparison) })
}

impl Comparison {
    /// Of `b` with `a`.
    pub(crate) fn new(a: &Results, b: &Results) -> Self {
        Self {
            a: name(&a.summary),
            b: name(&b.summary),
            differences: differences(&a.summary, &b.summary),
            figures: figures(a, b),
        }
    }
}

fn name(summary: &Summary) -> String {
    let run = format!("{} {}", summary.subject, summary.verb);
    let run = summary.label.as_ref().map_or_else(|| run.clone(), |label| format!("{label} ({run})"));
    format!("{run}, {}, {}", summary.started_at, if summary.passed { "passed" } else { "FAILED" })
}

fn differences(a: &Summary, b: &Summary) -> Vec<String> {
    let mut found = Vec::new();
    let mut differ = |what: &str, a: &dyn Display, b: &dyn Display| {
        let (a, b) = (a.to_string(), b.to_string());
        if a != b {
            found.push(format!("{what}: {a}, {b}"));
        }
    };
    differ("not the same run", &a.verb, &b.verb);
    differ("not the same version of settled-loadtest", &a.tool_version, &b.tool_version);
    load(&a.load, &b.load, |what, a, b| differ(&format!("not the same load: {what}"), a, b));
    differ("not the same load: messages", &count(a.published), &count(b.published));
    machine(&a.machine, &b.machine, |what, a, b| differ(&format!("not the same machine: {what}"), a, b));
    for (which, summary) in [("the first", a), ("the second", b)] {
        if summary.generator_was_the_bottleneck {
            found.push(format!("the load generator could not keep to its schedule: {which}"));
        }
    }
    found
}

type Differ<'a> = dyn FnMut(&str, &dyn Display, &dyn Display) + 'a;

fn load(a: &Load, b: &Load, mut differ: impl FnMut(&str, &dyn Display, &dyn Display)) {
    // All fields by name: a new one is not forgotten.
    let Load {
        rate,
        arrival,
        accounts,
        skew,
        seed,
        payload_bytes,
        mix,
        cases,
        out_of_order,
        scheduled,
        scheduled_within_s,
        daemons,
    } = a;
    let differ: &mut Differ<'_> = &mut differ;
    differ("rate", rate, &b.rate);
    differ("arrival", arrival, &b.arrival);
    differ("accounts", &count(*accounts), &count(b.accounts));
    differ("skew", skew, &b.skew);
    differ("seed", seed, &b.seed);
    differ("bytes of payload", payload_bytes, &b.payload_bytes);
    differ("mix", &shares(mix), &shares(&b.mix));
    differ("cases", &shares(cases), &shares(&b.cases));
    differ("cases in reverse", out_of_order, &b.out_of_order);
    differ("scheduled payments", scheduled, &b.scheduled);
    differ("seconds within which they are scheduled", scheduled_within_s, &b.scheduled_within_s);
    differ("daemons", daemons, &b.daemons);
}

fn machine(a: &Machine, b: &Machine, mut differ: impl FnMut(&str, &dyn Display, &dyn Display)) {
    let Machine { cpus, cpu_model, memory_bytes, kernel, postgres_version, rabbitmq_version } = a;
    let differ: &mut Differ<'_> = &mut differ;
    differ("processors", cpus, &b.cpus);
    differ("processor", cpu_model, &b.cpu_model);
    differ("bytes of memory", memory_bytes, &b.memory_bytes);
    differ("kernel", kernel, &b.kernel);
    differ("PostgreSQL", postgres_version, &b.postgres_version);
    differ("RabbitMQ", rabbitmq_version, &b.rabbitmq_version);
}

type HistogramOf = fn(&Results) -> &Histogram<u64>;
type CountOf = fn(&Summary) -> u64;
type UseOf = fn(&Summary) -> &ProcessUse;

fn figures(a: &Results, b: &Results) -> Vec<Figure> {
    let mut figures = Vec::new();
    let mut add = |name: String, unit: &'static str, of: &dyn Fn(&Results) -> Option<f64>| {
        figures.push(Figure::new(name, unit, of(a), of(b)));
    };
    add("published".to_owned(), "/s", &|run| Some(run.summary.rate_published_per_s));
    add("committed".to_owned(), "/s", &|run| Some(run.summary.rate_committed_per_s));
    add("events".to_owned(), "/s", &|run| Some(run.summary.rate_events_per_s));
    let histograms: [(&str, HistogramOf); 4] = [
        ("to confirm", |run| &run.histograms.confirm),
        ("to commit", |run| &run.histograms.commit),
        ("to event", |run| &run.histograms.event),
        ("schedule lag", |run| &run.histograms.schedule_lag),
    ];
    for (what, histogram) in histograms {
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
            add(format!("{what}, {name}"), "ms", &|run| at(histogram(run), quantile));
        }
    }
    let counts: [(&str, CountOf); 4] = [
        ("lost", |run| run.lost),
        ("doubled", |run| run.doubled),
        ("events missing", |run| run.events_missing),
        ("events unexpected", |run| run.events_unexpected),
    ];
    for (what, number) in counts {
        add(what.to_owned(), "", &|run| Some(number(&run.summary) as f64));
    }
    let processes: [(&str, UseOf); 4] = [
        ("daemon", |run| &run.daemon),
        ("PostgreSQL", |run| &run.postgres),
        ("RabbitMQ", |run| &run.rabbitmq),
        ("generator", |run| &run.generator),
    ];
    for (what, used) in processes {
        let micros = |run: &Results| run.summary.cpu_micros_per_payment(used(&run.summary));
        add(format!("{what}, CPU per payment"), "µs", &micros);
        add(format!("{what}, memory at most"), "MB", &|run| Some(used(&run.summary).max_rss_bytes as f64 / 1e6));
    }
    figures.retain(|figure| figure.a.or(figure.b).is_some());
    figures
}

/// In milliseconds.
fn at(micros: &Histogram<u64>, quantile: f64) -> Option<f64> {
    (!micros.is_empty()).then(|| micros.value_at_quantile(quantile).min(micros.max()) as f64 / 1e3)
}

impl Figure {
    fn new(name: String, unit: &'static str, a: Option<f64>, b: Option<f64>) -> Self {
        let ratio = a.zip(b).filter(|(a, _)| *a != 0.0).map(|(a, b)| b / a);
        Self { name, unit, a, b, ratio }
    }
}

/// For people.
fn text(comparison: &Comparison) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["", "A", "B", "", "B/A"]);
    for figure in &comparison.figures {
        let cell = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| shown(value, figure.unit));
        let ratio = figure.ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{}×", decimal(ratio, 2)));
        table.add_row([figure.name.clone(), cell(figure.a), cell(figure.b), figure.unit.to_owned(), ratio]);
    }
    for right in [1, 2, 4] {
        if let Some(column) = table.column_mut(right) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = format!("A  {}\nB  {}\n", comparison.a, comparison.b);
    for difference in &comparison.differences {
        text += &format!("!  {difference}\n");
    }
    text += "\n";
    text += &table.trim_fmt();
    text + "\n"
}

/// Small figures with decimals; what is counted has none.
fn shown(value: f64, unit: &str) -> String {
    let decimals = match value {
        _ if unit.is_empty() => 0,
        small if small < 10.0 => 2,
        medium if medium < 1_000.0 => 1,
        _ => 0,
    };
    decimal(value, decimals)
}
