//! Runs as they could have been, the same each time.

use super::model::*;

/// Of sixty seconds and two thousand payments per second, as it should be.
pub(crate) fn good_run() -> Results {
    run(60, 2_000.0)
}

/// So many seconds at so many payments per second; in the middle there is a pause of the disk.
pub(crate) fn run(seconds: u32, rate: f64) -> Results {
    let mut random = fastrand::Rng::with_seed(1);
    let mut histograms = Histograms::new();
    let messages = (f64::from(seconds) * rate) as u64;
    for _ in 0..messages.min(200_000) {
        let wait = (1.0 / (1.0 - random.f64())).powf(0.45);
        let confirm = 700.0 + 500.0 * wait;
        let commit = confirm + 1_400.0 * wait;
        histograms.schedule_lag.saturating_record((40.0 * wait) as u64);
        histograms.confirm.saturating_record(confirm as u64);
        histograms.commit.saturating_record(commit as u64);
        histograms.event.saturating_record((commit + 900.0 * wait) as u64);
    }
    let series = (1..=seconds).map(|second| sample(second, seconds, rate, &mut random)).collect();
    Results { summary: summary(seconds, rate, messages, &histograms), series, histograms }
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

fn summary(seconds: u32, rate: f64, messages: u64, histograms: &Histograms) -> Summary {
    let part = |share: f64| (messages as f64 * share) as u64;
    let (declined, malformed, duplicates) = (part(0.02), part(0.01), part(0.01));
    let payments = messages - malformed - duplicates;
    let used = |cores: f64, megabytes: u64| ProcessUse {
        cpu_seconds: cores * f64::from(seconds),
        max_rss_bytes: megabytes * 1_000_000,
        restarts: 0,
    };
    Summary {
        tool_version: "0.1.0".to_owned(),
        verb: "run".to_owned(),
        subject: "settled".to_owned(),
        label: Some("nightly".to_owned()),
        command: ["settled-loadtest", "run", "--rate", "2000/s", "--slo", "p99<250ms"].map(str::to_owned).into(),
        started_at: "2026-11-20T18:00:00Z".to_owned(),
        duration_s: f64::from(seconds),
        machine: machine(),
        load: load(rate),
        published: messages,
        confirmed: messages,
        settled: payments - declined,
        rejected: [("account_not_found", declined / 4), ("insufficient_funds", declined - declined / 4)]
            .map(|(reason, count)| (reason.to_owned(), count))
            .into(),
        duplicates,
        dead_lettered: [("idempotency_conflict", malformed / 3), ("malformed", malformed - malformed / 3)]
            .map(|(reason, count)| (reason.to_owned(), count))
            .into(),
        by_type: [("transfer".to_owned(), [("settled".to_owned(), payments - declined)].into())].into(),
        events: payments,
        events_received: payments + 12,
        rate_published_per_s: rate,
        rate_committed_per_s: rate * 0.99,
        rate_events_per_s: rate * 0.98,
        latency_ms: LatencyMs {
            confirm: Quantiles::of(&histograms.confirm),
            commit: Quantiles::of(&histograms.commit),
            event: Quantiles::of(&histograms.event),
        },
        schedule_lag_ms: Quantiles::of(&histograms.schedule_lag),
        daemon: used(0.31, 67),
        postgres: used(0.52, 264),
        rabbitmq: used(0.44, 175),
        generator: used(0.22, 41),
        audit: Audit { passed: true, checks: 9 },
        slo: vec![SloResult { term: "p99<250ms".to_owned(), measured: 31.4, held: true }],
        checks: checks(),
        passed: true,
        ..Summary::of_this_version()
    }
}

fn machine() -> Machine {
    Machine {
        cpus: 2,
        cpu_model: "AMD EPYC 9B14".to_owned(),
        memory_bytes: 25_210_000_000,
        kernel: "Linux 6.1.0".to_owned(),
        postgres_version: "15.14".to_owned(),
        rabbitmq_version: "3.10.8".to_owned(),
    }
}

fn load(rate: f64) -> Load {
    let mix = [("transfer", 0.96), ("declined", 0.02), ("malformed", 0.01), ("duplicate", 0.01)];
    Load {
        rate: format!("{rate}/s"),
        arrival: "poisson".to_owned(),
        accounts: 1_000,
        skew: "uniform".to_owned(),
        seed: 1,
        payload_bytes: 231,
        mix: mix.map(|(kind, share)| (kind.to_owned(), share)).into(),
        daemons: 1,
        ..Load::default()
    }
}

fn checks() -> Vec<Check> {
    let holds = [
        "settled + rejected + duplicates + dead letters = published",
        "every payment came to what was planned for it, and there is no other",
        "every outcome had its event, and there was no other",
        "nothing is left in the queues and in the outbox",
    ];
    holds.map(|holds| Check { holds: holds.to_owned(), found: None }).into()
}

/// A backlog of three seconds: no schedule and so no latency.
pub(crate) fn drain() -> Results {
    let mut results = run(3, 31_000.0);
    results.histograms = Histograms::new();
    let summary = &mut results.summary;
    summary.verb = "drain".to_owned();
    summary.label = None;
    summary.load.rate = "backlog".to_owned();
    summary.latency_ms = LatencyMs::default();
    summary.schedule_lag_ms = None;
    summary.slo = Vec::new();
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
    let mut results = run(0, 0.0);
    results.summary.slo = Vec::new();
    results
}

/// Nothing as it should be, with texts that would break a page that takes them as they are.
pub(crate) fn failed_run() -> Results {
    let mut results = run(20, 500.0);
    let summary = &mut results.summary;
    summary.label = Some("<script>alert(1)</script> & \"quotes\"".to_owned());
    summary.passed = false;
    summary.generator_was_the_bottleneck = true;
    (summary.lost, summary.doubled, summary.events_missing) = (3, 1, 17);
    summary.audit.passed = false;
    summary.slo = vec![
        SloResult { term: "p99<25ms".to_owned(), measured: 187.25, held: false },
        SloResult { term: "rate>400/s".to_owned(), measured: 498.2, held: true },
    ];
    let payment = "01920000-0000-7000-8000-000000000001: None, not Settled; ";
    summary.checks[1].found = Some(payment.repeat(9) + "and 1,203 more");
    summary.checks[3].found = Some("x".repeat(400));
    summary.command.push("--set=pipeline.lanes=<8> & more".to_owned());
    // A second in which nothing happened interrupts the lines.
    for sample in &mut results.series[8..10] {
        (sample.commit_p50_ms, sample.commit_p99_ms, sample.event_p99_ms) = (None, None, None);
    }
    results
}
