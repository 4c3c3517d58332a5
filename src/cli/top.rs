//! `settled top`: what the daemons do, refreshed all the time.

mod samples;
mod scrape;
mod screen;
mod view;

use std::time::Duration;

use self::scrape::Source;
use self::view::View;
use super::human::{age, duration, or_dash};
use super::output::{Table, Text};
use super::{Exit, Failure, Global, block_on, output};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Print one table, of what happens within an interval, and end. With --json the same as JSON.
    #[arg(long)]
    once: bool,
    /// Time between two looks, which is what rates and latencies are computed over.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    interval: Duration,
    /// Address of a daemon's admin server; may be repeated [default: those that the database lists]
    #[arg(long, value_name = "ADDRESS")]
    admin: Vec<String>,
}

/// The shortest interval: a scrape is work for the daemon.
const SHORTEST: Duration = Duration::from_millis(100);

pub(super) fn run(global: &Global, args: Args) -> Result<Exit, Failure> {
    let config = global.load_of_service()?;
    if !args.once && (global.json || !screen::is_possible()) {
        let error = anyhow::anyhow!("a screen needs a terminal, and has no JSON");
        return Err(Failure::new(Exit::Usage, error).hint("--once prints one table, --once --json the same as JSON"));
    }
    let mut source = Source::new(config, args.admin);
    let interval = args.interval.max(SHORTEST);
    block_on(async {
        if !args.once {
            return screen::run(&mut source, interval).await;
        }
        let (daemons, _) = source.look(Vec::new()).await;
        tokio::time::sleep(interval).await;
        let (daemons, error) = source.look(daemons).await;
        let view = View::of(&daemons, error);
        output::print(global.json, &view, || human(&view))?;
        Ok(if view.instances.iter().any(|found| found.error.is_none()) { Exit::Ok } else { Exit::Unavailable })
    })
}

fn human(view: &View) -> Text {
    let mut text = Text::default();
    if let Some(error) = &view.registry_error {
        text.line(format!("the daemons are not known: {error}"));
    }
    text.append(Table::of(INSTANCE_HEADINGS, view.instances.iter().map(instance_cells)).or("no daemon"));
    text.line("");
    text.append(
        Table::of(["", ">PER SECOND"], view.rates.iter().map(|rate| [rate.name.to_owned(), number(rate.per_second)]))
            .or(""),
    );
    text.line("");
    text.append(Table::of(LATENCY_HEADINGS, view.latencies.iter().map(latency_cells)).or(""));
    text.line("");
    text.append(Table::of(STAGE_HEADINGS, view.stages.iter().map(stage_cells)).or(""));
    text.line("");
    text.append(Table::of(OUTCOME_HEADINGS, view.outcomes.iter().map(outcome_cells)).or("no outcome yet"));
    text
}

const INSTANCE_HEADINGS: [&str; 10] =
    [">ID", "HOST", "ADMIN", ">AGE", "STATE", ">COMMITS/s", ">IN HAND", ">LANES", ">MEMORY", "CONNECTIONS"];
const LATENCY_HEADINGS: [&str; 3] = ["LATENCY", ">P50", ">P99"];
const STAGE_HEADINGS: [&str; 3] = ["WAITS", ">NOW", ">OLDEST"];
const OUTCOME_HEADINGS: [&str; 4] = ["OUTCOME", "REASON", ">TOTAL", ">PER SECOND"];

fn instance_cells(found: &view::InstanceView) -> [String; 10] {
    let down: Vec<&str> = found
        .connections
        .iter()
        .filter(|connection| !connection.up)
        .map(|connection| connection.name.as_str())
        .collect();
    let connections = match (&found.error, down.as_slice()) {
        (Some(error), _) => error.clone(),
        (None, []) => "up".to_owned(),
        (None, down) => format!("down: {}", down.join(", ")),
    };
    [
        or_dash(found.id),
        or_dash(found.host.as_ref()),
        found.admin.clone(),
        or_dash(found.age_seconds.map(age)),
        found.state.clone(),
        number(found.committed_per_second),
        number(found.in_flight),
        found.lanes.iter().map(|depth| number(*depth)).collect::<Vec<_>>().join(" "),
        format!("{:.0} MiB", found.memory_bytes / f64::from(1 << 20)),
        connections,
    ]
}

fn latency_cells(found: &view::Latency) -> [String; 3] {
    [found.name.to_owned(), or_dash(found.p50_seconds.map(span)), or_dash(found.p99_seconds.map(span))]
}

fn stage_cells(found: &view::Stage) -> [String; 3] {
    [found.name.to_owned(), or_dash(found.depth.map(number)), or_dash(found.oldest_seconds.map(age))]
}

fn outcome_cells(found: &view::OutcomeView) -> [String; 4] {
    [found.outcome.clone(), found.reason.clone(), number(found.total), number(found.per_second)]
}

/// Formats a number: small ones with a decimal, unless they are whole.
fn number(value: f64) -> String {
    if value.fract() == 0.0 || value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

/// Formats a latency with three digits or so.
fn span(seconds: f64) -> String {
    match seconds {
        _ if seconds < 0.001 => format!("{:.0} µs", seconds * 1e6),
        _ if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        _ => format!("{seconds:.2} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, 0.25, 3.0, 99.95, 1234.5].map(number), ["0", "0.2", "3", "100.0", "1234"]);
        assert_eq!([0.000_08, 0.012_34, 2.5].map(span), ["80 µs", "12.3 ms", "2.50 s"]);
    }
}
