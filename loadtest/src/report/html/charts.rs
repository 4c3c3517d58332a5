//! Which charts there are: none of what was not measured.

use std::f64::consts::LOG10_2;

use hdrhistogram::Histogram;

use crate::report::chart::{Chart, GREATEST, Line, NINES, Scale, quantile};
use crate::report::model::{Results, Sample};
use crate::report::numbers::{count, decimal, millis, rate};
use crate::report::thin::thin;

/// With more, a line would be a band.
const POINTS: usize = 300;
/// From point to point of a distribution, in nines.
const NINES_STEP: f64 = 0.05;
/// A rate over less time, in seconds, says more of the moment of the sample than of the run.
const SHORTEST: f64 = 0.25;
const MEGABYTE: f64 = 1e6;

/// Where a sample has a figure.
type Of<T> = fn(&Sample) -> T;

/// All that a run has data for, in the order of the page.
pub(super) fn of(results: &Results) -> Vec<Chart> {
    let series = thin(&results.series, POINTS);
    let over_time = [rates(&series), latencies(&series), depths(&series), processors(&series), memory(&series)];
    let mut charts: Vec<Chart> = over_time.into_iter().flatten().collect();
    if let Some(distribution) = distribution(results) {
        // Beside the latency over time.
        charts.insert(charts.len().min(2), distribution);
    }
    charts
}

/// Of what is over time; `None` if there is nothing to draw.
fn over_time(
    title: &'static str,
    unit: &'static str,
    series: &[Sample],
    lines: Vec<Line>,
    scale: fn(Vec<f64>) -> Scale,
) -> Option<Chart> {
    let heights: Vec<f64> = lines.iter().flat_map(|line| line.heights.iter().flatten().copied()).collect();
    let x = Scale::time(series.last()?.at_s);
    let across = if matches!(x, Scale::Time { max, .. } if max < 120.0) {
        "seconds since the load began"
    } else {
        "since the load began, min:s"
    };
    let places = series.iter().map(|sample| sample.at_s).collect();
    (!heights.is_empty()).then(|| Chart { title, unit, across, x, y: scale(heights), places, lines })
}

fn linear(heights: Vec<f64>) -> Scale {
    Scale::linear(heights.into_iter().fold(0.0, f64::max))
}

fn fitting(heights: Vec<f64>) -> Scale {
    Scale::fitting(heights.into_iter())
}

fn rates(series: &[Sample]) -> Option<Chart> {
    let counters: [(&str, Of<u64>); 3] = [
        ("published", |sample| sample.published),
        ("committed", |sample| sample.settled + sample.rejected + sample.dead_lettered),
        ("events", |sample| sample.events),
    ];
    let lines = counters.into_iter().enumerate().map(|(style, (name, counter))| {
        let heights = per_second(series, counter);
        let figures =
            format!("highest {}", heights.iter().flatten().copied().reduce(f64::max).map_or("–".to_owned(), rate));
        Line { name, style, figures, heights }
    });
    over_time("Rate", "per second", series, lines.collect(), linear)
}

/// How fast a counter grew from sample to sample; it was 0 when the load began.
fn per_second(series: &[Sample], counter: fn(&Sample) -> u64) -> Vec<Option<f64>> {
    let mut before = (0.0, 0);
    let mut rates = Vec::with_capacity(series.len());
    for sample in series {
        let (seconds, number) = (sample.at_s - before.0, counter(sample));
        let long_enough = seconds >= SHORTEST;
        rates.push(long_enough.then(|| number.saturating_sub(before.1) as f64 / seconds));
        if long_enough {
            before = (sample.at_s, number);
        }
    }
    rates
}

fn latencies(series: &[Sample]) -> Option<Chart> {
    let times: [(&str, Of<Option<f64>>); 4] = [
        ("commit p50", |sample| sample.commit_p50_ms),
        ("commit p99", |sample| sample.commit_p99_ms),
        ("event p99", |sample| sample.event_p99_ms),
        ("confirm p99", |sample| sample.confirm_p99_ms),
    ];
    let lines = times.into_iter().enumerate().filter_map(|(style, (name, of))| {
        let heights: Vec<Option<f64>> = series.iter().map(of).collect();
        let worst = heights.iter().flatten().copied().reduce(f64::max)?;
        Some(Line { name, style, figures: format!("worst second {}", millis(worst)), heights })
    });
    over_time("Latency of each second", "milliseconds", series, lines.collect(), fitting)
}

fn distribution(results: &Results) -> Option<Chart> {
    let histograms = &results.histograms;
    let measured =
        [("commit", 1, &histograms.commit), ("event", 2, &histograms.event), ("confirm", 3, &histograms.confirm)];
    let places: Vec<f64> = (0..)
        .map(|step| f64::from(step) * NINES_STEP)
        .take_while(|nines| *nines < NINES + NINES_STEP / 2.0)
        .chain([GREATEST])
        .collect();
    let lines: Vec<Line> = measured
        .into_iter()
        .filter(|(_, _, histogram)| !histogram.is_empty())
        .map(|(name, style, histogram)| Line {
            name,
            style,
            figures: figures(histogram),
            heights: places.iter().map(|nines| Some(at(histogram, *nines))).collect(),
        })
        .collect();
    let y = Scale::log(lines.iter().flat_map(|line| line.heights.iter().flatten().copied()));
    (!lines.is_empty()).then_some(Chart {
        title: "Distribution of latency",
        unit: "milliseconds, logarithmic",
        across: "percentile",
        x: Scale::Percentile,
        y,
        places,
        lines,
    })
}

/// In milliseconds.
fn at(micros: &Histogram<u64>, nines: f64) -> f64 {
    let value = if nines >= GREATEST { micros.max() } else { micros.value_at_quantile(quantile(nines)) };
    value as f64 / 1e3
}

/// Half, 99 of 100 and all are as fast: one nine is 0.9, the median has the logarithm of 2.
fn figures(micros: &Histogram<u64>) -> String {
    let [p50, p99, max] = [LOG10_2, 2.0, GREATEST].map(|nines| millis(at(micros, nines)));
    format!("p50 {p50} · p99 {p99} · max {max}")
}

fn depths(series: &[Sample]) -> Option<Chart> {
    let depths: [(&str, Of<u64>); 2] =
        [("tasks in the queue", |sample| sample.queue_depth), ("events in the outbox", |sample| sample.outbox_events)];
    let lines = depths.into_iter().enumerate().map(|(style, (name, of))| {
        let highest = series.iter().map(of).max().unwrap_or_default();
        let heights = series.iter().map(|sample| Some(of(sample) as f64)).collect();
        Line { name, style, figures: format!("highest {}", count(highest)), heights }
    });
    over_time("What waits", "messages", series, lines.collect(), linear)
}

fn processors(series: &[Sample]) -> Option<Chart> {
    let cores: [(&str, Of<f64>); 4] = [
        ("daemon", |sample| sample.daemon_cpu_cores),
        ("PostgreSQL", |sample| sample.postgres_cpu_cores),
        ("RabbitMQ", |sample| sample.rabbitmq_cpu_cores),
        ("load generator", |sample| sample.generator_cpu_cores),
    ];
    let lines = cores.into_iter().enumerate().map(|(style, (name, of))| {
        let mean = series.iter().map(of).sum::<f64>() / series.len() as f64;
        Line {
            name,
            style,
            figures: format!("mean {}", decimal(mean, 2)),
            heights: series.iter().map(|sample| Some(of(sample))).collect(),
        }
    });
    over_time("Processors", "cores busy", series, lines.collect(), linear)
}

fn memory(series: &[Sample]) -> Option<Chart> {
    let sizes: [(&str, Of<u64>); 3] = [
        ("daemon", |sample| sample.daemon_rss_bytes),
        ("PostgreSQL", |sample| sample.postgres_rss_bytes),
        ("RabbitMQ", |sample| sample.rabbitmq_rss_bytes),
    ];
    let lines = sizes.into_iter().enumerate().map(|(style, (name, of))| {
        let megabytes = |sample: &Sample| of(sample) as f64 / MEGABYTE;
        let highest = series.iter().map(megabytes).fold(0.0, f64::max);
        Line {
            name,
            style,
            figures: format!("highest {} MB", decimal(highest, 0)),
            heights: series.iter().map(|sample| Some(megabytes(sample))).collect(),
        }
    });
    over_time("Resident memory", "MB", series, lines.collect(), linear)
}
