//! From what was measured to results like those of a run: pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Committed, Measured, Options};
use crate::report::model::{
    Audit, Check, Histograms, LatencyMs, Load, ProcessUse, Results, SCHEMA_VERSION, Sample, Summary,
};
use crate::results::machine::command;
use crate::rig::process::Use;

/// On the command line and in the results.
const NAME: &str = "floor";

/// The results of a measurement.
pub(super) fn results(options: &Options, measured: Measured) -> Results {
    let series = series(&measured.commits, measured.took);
    Results { summary: summary(options, measured), series, histograms: Histograms::new() }
}

fn summary(options: &Options, measured: Measured) -> Summary {
    let Measured { began, took, used, machine, audit, .. } = measured;
    let settled: u64 = measured.commits.iter().map(|commit| commit.payments).sum();
    let seconds = took.as_secs_f64();
    let broken = audit.checks.iter().filter(|check| check.violations > 0);
    let broken: Vec<String> = broken.map(|check| format!("{}: {}", check.name, check.examples.join("; "))).collect();
    let check = Check { holds: "settled audit passes".to_owned(), found: (!audit.passed).then(|| broken.join("; ")) };
    Summary {
        schema_version: SCHEMA_VERSION,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        verb: NAME.to_owned(),
        subject: NAME.to_owned(),
        label: options.label.clone(),
        command: command(std::env::args()),
        started_at: began.to_string(),
        duration_s: seconds,
        machine,
        load: load(options),
        published: 0,
        confirmed: 0,
        settled,
        rejected: BTreeMap::new(),
        canceled: 0,
        duplicates: 0,
        dead_lettered: BTreeMap::new(),
        by_type: [("transfer".to_owned(), [("settled".to_owned(), settled)].into())].into(),
        waited: BTreeMap::new(),
        events: 0,
        events_received: 0,
        events_missing: 0,
        events_unexpected: 0,
        lost: 0,
        doubled: 0,
        rate_published_per_s: 0.0,
        rate_committed_per_s: settled as f64 / seconds,
        rate_events_per_s: 0.0,
        latency_ms: LatencyMs::default(),
        schedule_lag_ms: None,
        generator_was_the_bottleneck: false,
        daemon: ProcessUse::default(),
        postgres: process_use(used.postgres),
        rabbitmq: ProcessUse::default(),
        generator: process_use(used.generator),
        audit: Audit { passed: audit.passed, checks: audit.checks.len() as u64 },
        slo: Vec::new(),
        passed: check.found.is_none(),
        checks: vec![check],
    }
}

const fn process_use(used: Use) -> ProcessUse {
    ProcessUse { cpu_seconds: used.cpu_seconds, max_rss_bytes: used.rss_bytes, restarts: 0 }
}

fn load(options: &Options) -> Load {
    Load {
        rate: format!("batches of {}, {} at a time", options.batch, options.connections),
        arrival: "none".to_owned(),
        accounts: options.accounts as u64,
        skew: "uniform".to_owned(),
        seed: options.seed,
        payload_bytes: 0,
        mix: BTreeMap::from([("good".to_owned(), 1.0)]),
        cases: BTreeMap::new(),
        out_of_order: 0.0,
        scheduled: 0.0,
        scheduled_within_s: 0.0,
        daemons: 0,
    }
}

/// What was committed by each second, and at the end. There is nothing else to watch.
fn series(commits: &[Committed], took: Duration) -> Vec<Sample> {
    let whole = (1..=took.as_secs()).map(Duration::from_secs);
    let ends = whole.chain((took.subsec_nanos() > 0).then_some(took));
    let by = |end: Duration| commits.iter().filter(|commit| commit.at <= end).map(|commit| commit.payments).sum();
    ends.map(|end| Sample { at_s: end.as_secs_f64(), settled: by(end), ..Sample::default() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_series_ends_with_everything() {
        let commit = |millis| Committed { at: Duration::from_millis(millis), payments: 10 };
        // In any order: several connections commit.
        let commits = [commit(400), commit(1000), commit(1700), commit(900)];
        let series = series(&commits, Duration::from_millis(1700));
        let points: Vec<(f64, u64)> = series.iter().map(|sample| (sample.at_s, sample.settled)).collect();
        assert_eq!(points, [(1.0, 30), (1.7, 40)]);
    }
}
