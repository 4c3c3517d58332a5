//! `report.html`: a run on one page that needs no other file, for the screen and for paper.

mod charts;
mod sections;
#[cfg(test)]
mod tests;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::model::{Results, Summary};
use super::numbers::{bytes, count, millis, rate, seconds};

const STYLE: &str = include_str!("style.css");
/// Only for the read-outs under the pointer: the page is complete without it.
const SCRIPT: &str = include_str!("hover.js");

/// The page.
#[must_use]
pub(super) fn page(results: &Results) -> Markup {
    let summary = &results.summary;
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (verdict(summary)) ": " (name(summary)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    (heading(summary))
                    (tiles(summary))
                    (sections::judgement(summary))
                    (sections::figures(summary))
                    @let charts = charts::of(results);
                    @if !charts.is_empty() {
                        section.wide {
                            h2 { "Over the run" }
                            div.charts { @for chart in &charts { (chart.figure()) } }
                        }
                    }
                    (sections::circumstances(summary))
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
}

fn verdict(summary: &Summary) -> &'static str {
    if summary.passed { "PASSED" } else { "FAILED" }
}

fn name(summary: &Summary) -> String {
    let run = format!("{} {}", summary.subject, summary.verb);
    summary.label.as_ref().map_or_else(|| run.clone(), |label| format!("{label} ({run})"))
}

fn heading(summary: &Summary) -> Markup {
    let class = if summary.passed { "verdict passed" } else { "verdict failed" };
    let load = &summary.load;
    html! {
        header {
            p class=(class) { @if summary.passed { "✓ " } @else { "✗ " } (verdict(summary)) }
            h1 { (name(summary)) }
            p.sub {
                (load.rate) " · " (count(summary.published)) " messages in " (seconds(summary.duration_s)) " · "
                (summary.started_at) " · settled-loadtest " (summary.tool_version)
            }
            @if summary.generator_was_the_bottleneck {
                p.warning {
                    "The load generator could not keep to its schedule: these figures say more of it than of "
                    (summary.subject) "."
                }
            }
        }
    }
}

/// A figure that is to be seen first.
struct Tile {
    name: &'static str,
    figure: String,
    more: String,
    /// Whether it alone makes the run a failure.
    bad: bool,
}

fn tiles(summary: &Summary) -> Markup {
    let latency = &summary.latency_ms;
    let timed = [("publish to commit, p99", &latency.commit), ("publish to event, p99", &latency.event)];
    let mut tiles = vec![
        tile(
            "committed",
            rate(summary.rate_committed_per_s),
            format!("{} published", rate(summary.rate_published_per_s)),
        ),
        tile("events", rate(summary.rate_events_per_s), format!("{} received", count(summary.events))),
    ];
    tiles.extend(timed.into_iter().filter_map(|(name, quantiles)| {
        let quantiles = quantiles.as_ref()?;
        Some(tile(name, millis(quantiles.p99), format!("p50 {}, max {}", millis(quantiles.p50), millis(quantiles.max))))
    }));
    tiles.push(Tile { bad: summary.lost > 0, ..tile("lost", count(summary.lost), "confirmed, no outcome".to_owned()) });
    tiles.push(Tile {
        bad: summary.doubled > 0,
        ..tile("doubled", count(summary.doubled), "applied more than once".to_owned())
    });
    if let Some(micros) = summary.cpu_micros_per_payment(&summary.daemon) {
        let memory = format!("memory up to {}", bytes(summary.daemon.max_rss_bytes));
        tiles.push(tile("daemon CPU per payment", format!("{micros:.0} µs"), memory));
    }
    html! {
        div.tiles {
            @for tile in &tiles {
                div.tile.bad[tile.bad] {
                    span.name { (tile.name) }
                    span.figure { (tile.figure) }
                    span.more { (tile.more) }
                }
            }
        }
    }
}

fn tile(name: &'static str, figure: String, more: String) -> Tile {
    Tile { name, figure, more, bad: false }
}
