//! What settled is compared with, each as a whole.

mod support;

use serde_json::Value;
use support::loadtest;

#[track_caller]
fn is_positive(value: &Value) {
    assert!(value.as_f64().is_some_and(|value| value > 0.0), "{value}");
}

#[test]
fn the_floor_commits_batches_that_the_audit_finds_in_order() {
    let out = tempfile::tempdir().expect("a directory");
    let line = "floor --count 1001 --batch 100 --accounts 20 --connections 2 --json --out";
    let summary = loadtest(&format!("{line} {}", out.path().display())).passed();
    assert_eq!((&summary["subject"], &summary["settled"]), (&"floor".into(), &1001.into()));
    assert_eq!(summary["audit"]["passed"], true);
    is_positive(&summary["rate_committed_per_s"]);
    is_positive(&summary["postgres"]["cpu_seconds"]);
    assert!(out.path().join("summary.json").exists());
}

#[test]
fn the_floor_says_how_many_accounts_it_needs() {
    let ended = loadtest("floor --accounts 3 --connections 2");
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert!(ended.stderr.contains("--accounts 3: expected at least two for each of 2"), "{ended:#?}");
}

#[test]
fn the_baseline_comes_to_the_planned_outcomes_without_an_event() {
    let line = "drain --subject baseline --count 500 --accounts 20 --duplicates 10% --altered 2% --malformed 2% \
                --insufficient 5% --json";
    let summary = loadtest(line).passed();
    assert_eq!((&summary["subject"], &summary["events_received"]), (&"baseline".into(), &0.into()));
    assert_eq!(summary["audit"]["passed"], true);
}

#[test]
fn a_baseline_that_is_killed_under_load_goes_on_where_it_was() {
    loadtest("run --subject baseline --rate 300 --duration 4s --accounts 20 --kill 1 --json").passed();
}
