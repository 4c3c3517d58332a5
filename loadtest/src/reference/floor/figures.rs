//! From what was measured to results like those of a run: pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Committed, Measured};
use crate::args::FloorArgs;
use crate::report::model::{Audit, Check, Histograms, Load, ProcessUse, Results, Sample, Summary};
use crate::results::machine::command;
use crate::rig::process::Use;

/// On the command line and in the results.
const NAME: &str = "floor";

pub(super) fn results(options: &FloorArgs, measured: Measured) -> Results {
    let series = series(&measured.commits, measured.took);
    Results { summary: summary(options, measured), series, histograms: Histograms::new() }
}

fn summary(options: &FloorArgs, measured: Measured) -> Summary {
    let Measured { began, took, used, machine, audit, .. } = measured;
    let settled: u64 = measured.commits.iter().map(|commit| commit.payments).sum();
    let seconds = took.as_secs_f64();
    let broken = audit.checks.iter().filter(|check| check.violations > 0);
    let broken: Vec<String> = broken.map(|check| format!("{}: {}", check.name, check.examples.join("; "))).collect();
    let check = Check { holds: "settled audit passes".to_owned(), found: (!audit.passed).then(|| broken.join("; ")) };
    Summary {
        verb: NAME.to_owned(),
        subject: NAME.to_owned(),
        label: options.label.clone(),
        command: command(std::env::args()),
        started_at: began.to_string(),
        duration_s: seconds,
        machine,
        load: Load {
            rate: format!("batches of {}, {} at a time", options.batch, options.connections),
            arrival: "none".to_owned(),
            accounts: options.accounts as u64,
            skew: "uniform".to_owned(),
            seed: options.seed,
            mix: BTreeMap::from([("good".to_owned(), 1.0)]),
            ..Load::default()
        },
        settled,
        by_type: [("transfer".to_owned(), [("settled".to_owned(), settled)].into())].into(),
        rate_committed_per_s: settled as f64 / seconds,
        postgres: process_use(used.postgres),
        generator: process_use(used.generator),
        audit: Audit { passed: audit.passed, checks: audit.checks.len() as u64 },
        passed: check.found.is_none(),
        checks: vec![check],
        ..Summary::of_this_version()
    }
}

const fn process_use(used: Use) -> ProcessUse {
    ProcessUse { cpu_seconds: used.cpu_seconds, max_rss_bytes: used.rss_bytes, restarts: 0 }
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
