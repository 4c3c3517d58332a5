//! Runs as they could have been, the same each time. Their summaries are in `fixture.json`: that of the good run, and
//! what the others have instead.

use serde_json::{Map, Value};

use super::model::*;

/// Of sixty seconds and two thousand payments per second, as it should be.
pub(crate) fn good_run() -> Results {
    run("good", 60, 2_000.0)
}

fn run(name: &str, seconds: u32, rate: f64) -> Results {
    let runs: Value = serde_json::from_str(include_str!("fixture.json")).expect("JSON");
    let fields = |name: &str| runs[name].as_object().cloned().expect(name);
    let summary: Map<String, Value> = fields("good").into_iter().chain(fields(name)).collect();
    let mut summary: Summary = serde_json::from_value(summary.into()).expect("a summary");
    let histograms = histograms(summary.published);
    summary.latency_ms = LatencyMs {
        confirm: Quantiles::of(&histograms.confirm),
        commit: Quantiles::of(&histograms.commit),
        event: Quantiles::of(&histograms.event),
    };
    summary.schedule_lag_ms = Quantiles::of(&histograms.schedule_lag);
    Results { summary, series: series(seconds, rate), histograms }
}

fn histograms(messages: u64) -> Histograms {
    let mut random = fastrand::Rng::with_seed(1);
    let mut histograms = Histograms::new();
    for _ in 0..messages {
        let wait = (1.0 / (1.0 - random.f64())).powf(0.45);
        let confirm = 700.0 + 500.0 * wait;
        let commit = confirm + 1_400.0 * wait;
        histograms.schedule_lag.saturating_record((40.0 * wait) as u64);
        histograms.confirm.saturating_record(confirm as u64);
        histograms.commit.saturating_record(commit as u64);
        histograms.event.saturating_record((commit + 900.0 * wait) as u64);
    }
    histograms
}

/// So many seconds at so many payments per second; in the middle there is a pause of the disk.
pub(crate) fn series(seconds: u32, rate: f64) -> Vec<Sample> {
    let mut random = fastrand::Rng::with_seed(2);
    (1..=seconds).map(|second| sample(second, seconds, rate, &mut random)).collect()
}

fn sample(second: u32, seconds: u32, rate: f64, random: &mut fastrand::Rng) -> Sample {
    let at = f64::from(second);
    let pause = if second == seconds / 2 { 12.0 } else { 1.0 };
    let mut around = |value: f64, spread: f64| value * (1.0 + spread * (random.f64() - 0.5));
    let mut sent = |behind: f64| (rate * (at - around(behind, 1.0)).max(0.0)) as u64;
    let (published, committed, events) = (sent(0.03), sent(0.06), sent(0.08));
    Sample {
        at_s: at,
        published,
        confirmed: published.saturating_sub(3),
        settled: (committed as f64 * 0.96) as u64,
        rejected: (committed as f64 * 0.02) as u64,
        dead_lettered: (committed as f64 * 0.01) as u64,
        events: (events as f64 * 0.98) as u64,
        queue_depth: around(18.0 * pause * pause, 1.0) as u64,
        outbox_events: around(9.0 * pause, 1.0) as u64,
        confirm_p50_ms: Some(around(1.3, 0.2)),
        confirm_p99_ms: Some(around(4.1 * pause, 0.4)),
        commit_p50_ms: Some(around(3.2, 0.2)),
        commit_p99_ms: Some(around(12.0 * pause, 0.4)),
        event_p50_ms: Some(around(4.1, 0.2)),
        event_p99_ms: Some(around(16.0 * pause, 0.4)),
        daemon_cpu_cores: around(0.31, 0.2),
        daemon_rss_bytes: 61_000_000 + u64::from(second) * 90_000,
        postgres_cpu_cores: around(0.52, 0.2),
        postgres_rss_bytes: 240_000_000 + u64::from(second) * 400_000,
        rabbitmq_cpu_cores: around(0.44, 0.3),
        rabbitmq_rss_bytes: around(171_000_000.0, 0.05) as u64,
        generator_cpu_cores: around(0.22, 0.2),
    }
}

/// A backlog of three seconds: no schedule and so no latency.
pub(crate) fn drain() -> Results {
    let mut results = run("drain", 3, 31_000.0);
    results.histograms = Histograms::new();
    results.summary.latency_ms = LatencyMs::default();
    results.summary.schedule_lag_ms = None;
    for (left, sample) in (0..3).rev().zip(&mut results.series) {
        sample.published = 93_000;
        sample.confirmed = 93_000;
        sample.queue_depth = 31_000 * left;
        (sample.confirm_p50_ms, sample.confirm_p99_ms) = (None, None);
        (sample.commit_p50_ms, sample.commit_p99_ms) = (None, None);
        (sample.event_p50_ms, sample.event_p99_ms) = (None, None);
    }
    results
}

/// So short that there is no sample, and nothing was done.
pub(crate) fn nothing() -> Results {
    run("nothing", 0, 0.0)
}

/// Nothing as it should be, with texts that would break a page that takes them as they are.
pub(crate) fn failed_run() -> Results {
    let mut results = run("failed", 20, 500.0);
    let payment = "01920000-0000-7000-8000-000000000001: None, not Settled; ";
    results.summary.checks[1].found = Some(payment.repeat(9) + "and 1,203 more");
    results.summary.checks[3].found = Some("x".repeat(400));
    // A second in which nothing happened interrupts the lines.
    for sample in &mut results.series[8..10] {
        (sample.commit_p50_ms, sample.commit_p99_ms, sample.event_p99_ms) = (None, None, None);
    }
    results
}
