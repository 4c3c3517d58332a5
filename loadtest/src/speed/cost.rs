//! What a payment costs the servers in each run that measures a rate, and how the rates compare.

use std::fmt::{self, Write};

use serde::Serialize;

use super::scenarios::{Figure, Row, Scenarios, Unit, median};
use super::table::Book;

/// What rates are compared with: the usual consumer, PostgreSQL alone, and the daemon without events.
const REFERENCES: [&str; 3] = ["r1", "r2", "discard"];

/// Medians of a run; `None` for what was not measured.
#[derive(Debug, Serialize)]
pub(super) struct Cost {
    row: String,
    rate_per_s: f64,
    /// Processor time of RabbitMQ per payment, in microseconds.
    rabbitmq_us: Option<f64>,
    /// Processor time of PostgreSQL per payment, in microseconds.
    postgres_us: Option<f64>,
    to_baseline: Option<f64>,
    to_floor: Option<f64>,
    to_discard: Option<f64>,
}

/// Returns the costs of all runs of which a rate was measured.
pub(super) fn costs(scenarios: &Scenarios, book: &Book) -> Vec<Cost> {
    let of = |run: &str, figure| median(book.figures.get(&(run.to_owned(), figure)).map_or(&[], Vec::as_slice));
    let cost = |row: &Row| {
        let rate = of(&row.run, row.figure)?;
        let [to_baseline, to_floor, to_discard] =
            REFERENCES.map(|run| of(run, Figure::Committed).map(|reference| rate / reference));
        Some(Cost {
            row: row.name.clone(),
            rate_per_s: rate,
            rabbitmq_us: of(&row.run, Figure::RabbitmqCpu),
            postgres_us: of(&row.run, Figure::PostgresCpu),
            to_baseline,
            to_floor,
            to_discard,
        })
    };
    let rates = scenarios.rows.iter().filter(|row| row.name == row.run && row.figure.unit() == Unit::PerSecond);
    rates.filter_map(cost).collect()
}

/// Writes them as a table in Markdown, if there are any.
pub(super) fn write(costs: &[Cost], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if costs.is_empty() {
        return Ok(());
    }
    f.write_str("| row | rate | RabbitMQ per payment | PostgreSQL per payment | to r1 | to r2 | to discard |\n")?;
    f.write_str("|---|--:|--:|--:|--:|--:|--:|\n")?;
    let show = |value: Option<f64>, unit: Unit| value.map_or_else(|| "–".to_owned(), |value| unit.show(value));
    for cost in costs {
        let Cost { row, rate_per_s, rabbitmq_us, postgres_us, to_baseline, to_floor, to_discard } = cost;
        let rate = Unit::PerSecond.show(*rate_per_s);
        let [rabbitmq, postgres] = [rabbitmq_us, postgres_us].map(|cost| show(*cost, Unit::Microseconds));
        let [r1, r2, discard] = [to_baseline, to_floor, to_discard].map(|ratio| show(*ratio, Unit::Ratio));
        writeln!(f, "| {row} | {rate} | {rabbitmq} | {postgres} | {r1} | {r2} | {discard} |")?;
    }
    f.write_char('\n')
}
