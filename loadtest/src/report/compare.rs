//! Compares the summaries of two runs, and says what makes the comparison doubtful.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Result;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::model::{LatencyMs, Quantiles, Summary};
use super::numbers::decimal;

#[derive(Debug, Serialize)]
struct Comparison {
    /// Names of the two runs.
    a: String,
    b: String,
    /// Why the two cannot be compared without further thought: one line each.
    differences: Vec<String>,
    figures: Vec<Figure>,
}

/// A figure of both runs; `None` for a run that does not have it.
#[derive(Debug, Serialize)]
struct Figure {
    name: String,
    unit: &'static str,
    a: Option<f64>,
    b: Option<f64>,
    /// `b` divided by `a`.
    ratio: Option<f64>,
}

/// Prints how the run in folder `b` compares with that in folder `a`.
pub(crate) fn run(a: &Path, b: &Path, json: bool) -> Result<()> {
    match io::stdout().write_all(compare(a, b, json)?.as_bytes()) {
        // A reader that has gone has what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

fn compare(a: &Path, b: &Path, json: bool) -> Result<String> {
    let comparison = Comparison::new(&Summary::read(a)?, &Summary::read(b)?)?;
    Ok(if json { serde_json::to_string_pretty(&comparison)? + "\n" } else { comparison.text() })
}

impl Comparison {
    fn new(a: &Summary, b: &Summary) -> Result<Self> {
        let figures = figures(a).into_iter().zip(figures(b)).filter(|(a, b)| a.2.or(b.2).is_some());
        let figures = figures.map(|((name, unit, a), (.., b))| {
            let ratio = a.zip(b).filter(|(a, _)| *a != 0.0).map(|(a, b)| b / a);
            Figure { name, unit, a, b, ratio }
        });
        Ok(Self { a: name(a), b: name(b), differences: differences(a, b)?, figures: figures.collect() })
    }

    fn text(&self) -> String {
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(["", "A", "B", "", "B/A"]);
        for figure in &self.figures {
            let cell = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| shown(value, figure.unit));
            let ratio = figure.ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{}×", decimal(ratio, 2)));
            table.add_row([figure.name.clone(), cell(figure.a), cell(figure.b), figure.unit.to_owned(), ratio]);
        }
        for right in [1, 2, 4] {
            if let Some(column) = table.column_mut(right) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let differences: String = self.differences.iter().map(|difference| format!("!  {difference}\n")).collect();
        format!("A  {}\nB  {}\n{differences}\n{}\n", self.a, self.b, table.trim_fmt())
    }
}

fn name(summary: &Summary) -> String {
    let run = format!("{} {}", summary.subject, summary.verb);
    let run = summary.label.as_ref().map_or_else(|| run.clone(), |label| format!("{label} ({run})"));
    format!("{run}, {}, {}", summary.started_at, if summary.passed { "passed" } else { "FAILED" })
}

fn differences(a: &Summary, b: &Summary) -> Result<Vec<String>> {
    // Every field of load and machine, whatever there will be.
    let fields = |summary: &Summary| -> Result<Vec<(String, Value)>> {
        let Summary { verb, tool_version, load, machine, published, .. } = summary;
        let of = |what: &str, value: Value| {
            let fields: Map<String, Value> = serde_json::from_value(value).unwrap_or_default();
            let named = fields.into_iter().map(|(name, value)| (format!("not the same {what}: {name}"), value));
            named.collect::<Vec<_>>()
        };
        let mut fields = vec![
            ("not the same run".to_owned(), json!(verb)),
            ("not the same version of settled-loadtest".to_owned(), json!(tool_version)),
        ];
        fields.extend(of("load", serde_json::to_value(load)?));
        fields.push(("not the same load: messages".to_owned(), json!(published)));
        fields.extend(of("machine", serde_json::to_value(machine)?));
        Ok(fields)
    };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let both = fields(a)?.into_iter().zip(fields(b)?).filter(|((_, a), (_, b))| a != b);
    let mut found: Vec<String> =
        both.map(|((what, a), (_, b))| format!("{what}: {}, {}", text(&a), text(&b))).collect();
    for (which, summary) in [("the first", a), ("the second", b)] {
        if summary.generator_was_the_bottleneck {
            found.push(format!("the load generator could not keep to its schedule: {which}"));
        }
    }
    Ok(found)
}

/// All figures of a run, in the order of the table: name, unit, value.
fn figures(summary: &Summary) -> Vec<(String, &'static str, Option<f64>)> {
    let rates = [
        ("published", summary.rate_published_per_s),
        ("committed", summary.rate_committed_per_s),
        ("events", summary.rate_events_per_s),
    ];
    let mut figures: Vec<_> = rates.map(|(name, rate)| (name.to_owned(), "/s", Some(rate))).into();
    let LatencyMs { confirm, commit, event } = summary.latency_ms;
    let spans = [
        ("to confirm", confirm),
        ("to commit", commit),
        ("to event", event),
        ("schedule lag", summary.schedule_lag_ms),
    ];
    for (span, times) in spans {
        let of = |quantile: fn(Quantiles) -> f64| times.map(quantile);
        let quantiles = [
            ("p50", of(|times| times.p50)),
            ("p99", of(|times| times.p99)),
            ("p99.9", of(|times| times.p999)),
            ("max", of(|times| times.max)),
        ];
        figures.extend(quantiles.map(|(name, value)| (format!("{span}, {name}"), "ms", value)));
    }
    let counts = [
        ("lost", summary.lost),
        ("doubled", summary.doubled),
        ("events missing", summary.events_missing),
        ("events unexpected", summary.events_unexpected),
    ];
    figures.extend(counts.map(|(name, count)| (name.to_owned(), "", Some(count as f64))));
    for (name, used) in summary.processes() {
        let cpu = summary.micros_per_payment(used.cpu_seconds);
        figures.push((format!("{name}, CPU per payment"), "µs", cpu));
        figures.push((format!("{name}, memory at most"), "MB", Some(used.max_rss_bytes as f64 / 1e6)));
    }
    figures
}

/// Small figures with decimals; counts have none.
fn shown(value: f64, unit: &str) -> String {
    let decimals = match value {
        _ if unit.is_empty() => 0,
        small if small < 10.0 => 2,
        medium if medium < 1_000.0 => 1,
        _ => 0,
    };
    decimal(value, decimals)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;
    use crate::report::model::Results;

    fn compared(a: &Results, b: &Results) -> Comparison {
        Comparison::new(&a.summary, &b.summary).expect("JSON")
    }

    fn figure(comparison: &Comparison, name: &str) -> (Option<f64>, Option<f64>, Option<f64>) {
        let figure = comparison.figures.iter().find(|figure| figure.name == name);
        figure.map_or((None, None, None), |figure| (figure.a, figure.b, figure.ratio))
    }

    #[test]
    fn a_ratio_is_the_second_to_the_first() {
        let (a, mut b) = (fixture::good_run(), fixture::good_run());
        b.summary.rate_committed_per_s = a.summary.rate_committed_per_s / 4.0;
        b.summary.daemon.cpu_seconds = a.summary.daemon.cpu_seconds * 3.0;
        let comparison = compared(&a, &b);
        assert_eq!(figure(&comparison, "committed"), (Some(1_980.0), Some(495.0), Some(0.25)));
        assert_eq!(figure(&comparison, "to commit, p99").2, Some(1.0));
        let cpu = figure(&comparison, "daemon, CPU per payment").2.expect("a ratio");
        assert!((cpu - 3.0).abs() < 1e-9, "{cpu}");
    }

    #[test]
    fn there_is_no_ratio_to_nothing() {
        let (a, mut b) = (fixture::drain(), fixture::good_run());
        b.summary.lost = 2;
        let comparison = compared(&a, &b);
        assert_eq!(figure(&comparison, "lost"), (Some(0.0), Some(2.0), None));
        let (missing, there, ratio) = figure(&comparison, "to event, p50");
        assert_eq!((missing, there.is_some(), ratio), (None, true, None));
    }

    #[test]
    fn latencies_are_those_of_the_summary() {
        let run = fixture::good_run();
        let event = run.summary.latency_ms.event.expect("measured");
        let comparison = compared(&run, &run);
        let shown = ["p50", "p99", "p99.9", "max"].map(|name| figure(&comparison, &format!("to event, {name}")).0);
        assert_eq!(shown, [event.p50, event.p99, event.p999, event.max].map(Some));
    }

    #[test]
    fn the_same_load_on_the_same_machine_differs_in_nothing() {
        assert_eq!(compared(&fixture::good_run(), &fixture::good_run()).differences, Vec::<String>::new());
    }

    #[test]
    fn another_load_or_machine_is_called_out() {
        let (a, mut b) = (fixture::good_run(), fixture::good_run());
        b.summary.load.rate = "3000/s".to_owned();
        b.summary.load.accounts = 10;
        b.summary.machine.cpus = 8;
        b.summary.generator_was_the_bottleneck = true;
        let expected = [
            "not the same load: accounts: 1000, 10",
            "not the same load: rate: 2000/s, 3000/s",
            "not the same machine: cpus: 2, 8",
            "the load generator could not keep to its schedule: the second",
        ];
        assert_eq!(compared(&a, &b).differences, expected);
    }

    #[test]
    fn two_runs_side_by_side() {
        insta::assert_snapshot!(compared(&fixture::good_run(), &fixture::failed_run()).text());
    }

    #[test]
    fn without_latency_there_are_no_rows_of_it() {
        insta::assert_snapshot!(compared(&fixture::drain(), &fixture::drain()).text());
    }

    #[test]
    fn folders_are_compared_and_a_missing_one_is_named() {
        let parent = tempfile::tempdir().expect("a directory");
        let (a, b) = (parent.path().join("a"), parent.path().join("b"));
        fixture::good_run().write(&a).expect("written");
        let error = compare(&a, &b, true).expect_err("b is missing");
        assert!(format!("{error:#}").contains(&b.join("summary.json").display().to_string()), "{error:#}");
        fixture::good_run().write(&b).expect("written");
        let json: Value = serde_json::from_str(&compare(&a, &b, true).expect("compared")).expect("JSON");
        assert_eq!((&json["figures"][1]["name"], &json["figures"][1]["ratio"]), (&"committed".into(), &1.0.into()));
    }
}
