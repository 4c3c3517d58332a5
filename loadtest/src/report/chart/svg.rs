//! The shapes of a chart.

use std::fmt::Write as _;

use maud::{Markup, html};
use serde_json::json;

use super::{Chart, Line};
use crate::report::numbers::decimal;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = 46.0;
/// Where a mark's text stands below its line.
const BASELINE: f64 = 4.0;
/// With so few points each of them is drawn, and not only the line between them.
const FEW: usize = 30;
/// With so many points lines are thin.
const MANY: usize = 120;

/// The chart with its title and legend. `data-points` is what a read-out under the pointer needs.
pub(super) fn figure(chart: &Chart) -> Markup {
    html! {
        figure.chart data-points=(points(chart)) {
            figcaption {
                h3 { (chart.title) }
                ul.legend {
                    @for line in &chart.lines {
                        li {
                            svg.swatch viewBox="0 0 28 10" aria-hidden="true" { line class=(format!("line s{}", line.style)) x1="1" y1="5" x2="27" y2="5" {} }
                            span.name { (line.name) } " " span.figures { (line.figures) }
                        }
                    }
                }
            }
            svg.plot.dense[chart.places.len() > MANY] viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="xMinYMin" role="img" aria-label=(chart.title) {
                (axes(chart))
                @for line in &chart.lines { (curve(chart, line)) }
                line.cursor x1="0" x2="0" y1=(TOP) y2=(HEIGHT - BOTTOM) {}
            }
        }
    }
}

fn across(chart: &Chart, value: f64) -> f64 {
    LEFT + chart.x.place(value) * (WIDTH - LEFT - RIGHT)
}

fn down(chart: &Chart, value: f64) -> f64 {
    HEIGHT - BOTTOM - chart.y.place(value) * (HEIGHT - TOP - BOTTOM)
}

/// Short, and never a form that SVG does not know.
fn short(number: f64) -> String {
    format!("{number:.1}")
}

fn axes(chart: &Chart) -> Markup {
    let bottom = HEIGHT - BOTTOM;
    html! {
        text x="4" y="14" { (chart.unit) }
        @for mark in chart.y.marks() {
            @let y = down(chart, mark);
            line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(short(y)) y2=(short(y)) {}
            text.end x=(LEFT - 8.0) y=(short(y + BASELINE)) { (chart.y.label(mark)) }
        }
        line.axis x1=(LEFT) x2=(WIDTH - RIGHT) y1=(bottom) y2=(bottom) {}
        @for mark in chart.x.marks() {
            @let x = across(chart, mark);
            line.tick x1=(short(x)) x2=(short(x)) y1=(bottom) y2=(bottom + 5.0) {}
            text.middle x=(short(x)) y=(bottom + 18.0) { (chart.x.label(mark)) }
        }
        text.end x=(WIDTH - RIGHT) y=(HEIGHT - 8.0) { (chart.across) }
    }
}

/// A line, interrupted where there is nothing.
fn curve(chart: &Chart, line: &Line) -> Markup {
    let points: Vec<Option<(f64, f64)>> = chart
        .places
        .iter()
        .zip(&line.heights)
        .map(|(place, height)| {
            let height = height.filter(|height| height.is_finite())?;
            Some((across(chart, *place), down(chart, height)))
        })
        .collect();
    let path = path(&points);
    html! {
        @if !path.is_empty() { path class=(format!("line s{}", line.style)) d=(path) {} }
        @for (x, y) in dots(&points) { circle class=(format!("dot s{}", line.style)) cx=(short(x)) cy=(short(y)) r="2.5" {} }
    }
}

fn path(points: &[Option<(f64, f64)>]) -> String {
    let mut path = String::new();
    let mut pen_down = false;
    for point in points {
        if let Some((x, y)) = point {
            let command = if pen_down { 'L' } else { 'M' };
            // Writing to a string cannot fail.
            let _ = write!(path, "{command}{x:.1} {y:.1}");
        }
        pen_down = point.is_some();
    }
    path
}

/// Points that no line would show, or all if there are few.
fn dots(points: &[Option<(f64, f64)>]) -> Vec<(f64, f64)> {
    let missing = |index: Option<usize>| index.and_then(|index| points.get(index)).is_none_or(Option::is_none);
    let alone = |index: usize| missing(index.checked_sub(1)) && missing(Some(index + 1));
    let few = points.len() <= FEW;
    let shown = points.iter().enumerate().filter(|(index, _)| few || alone(*index));
    shown.filter_map(|(_, point)| *point).collect()
}

/// For every place: where it is drawn, what it is called, and what each line is there.
fn points(chart: &Chart) -> String {
    let drawn: Vec<f64> = chart.places.iter().map(|place| across(chart, *place).round()).collect();
    let labels: Vec<String> = chart.places.iter().map(|place| chart.x.label(*place)).collect();
    let text = |height: &f64| decimal(*height, if *height < 100.0 { 2 } else { 0 });
    let lines: Vec<Vec<Option<String>>> =
        chart.lines.iter().map(|line| line.heights.iter().map(|height| height.as_ref().map(text)).collect()).collect();
    json!({"x": drawn, "at": labels, "lines": lines}).to_string()
}
