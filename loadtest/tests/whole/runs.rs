//! Runs from the command line to the verdict: some on private servers, the others on shared ones.

use std::path::Path;

use crate::support::{loadtest, loadtest_beside_others, loadtest_with_a_stream};

/// The lines of a series, as its columns' names and numbers.
fn series(dir: &Path) -> Vec<Vec<(String, String)>> {
    let text = std::fs::read_to_string(dir.join("series.csv")).expect("a series");
    let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let header = lines.next().expect("a header");
    lines.map(|line| header.iter().cloned().zip(line).collect()).collect()
}

#[test]
fn a_run_with_mixed_messages_loses_none_and_writes_its_results() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("results");
    let mixes = "--duplicates 1% --altered 1% --malformed 0.01 --insufficient 1% --skew zipf:1.1";
    let line = format!("run --rate 300 --duration 3s {mixes} --slo lost=0,doubled=0 --label mixed --json --out");
    let summary = loadtest_beside_others(&format!("{line} {}", out.display())).passed();
    assert_eq!((&summary["published"], &summary["confirmed"]), (&900.into(), &900.into()));
    assert_eq!(summary["duplicates"], 9);
    assert_eq!(summary["rejected"]["insufficient_funds"], 9);
    assert_eq!(summary["dead_lettered"]["idempotency_conflict"], 9);
    assert_eq!(summary["events_missing"], 0);
    assert_eq!(summary["latency_ms"]["event"]["count"], summary["events"]);
    assert_eq!(summary["label"], "mixed");
    let written = std::fs::read_to_string(out.join("summary.json")).expect("a summary");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&written).expect("JSON"), summary);
    for file in ["confirm.hlog", "commit.hlog", "event.hlog", "schedule_lag.hlog", "report.html"] {
        assert!(out.join(file).is_file(), "{file}");
    }
    let series = series(&out);
    let last = series.last().expect("a line");
    for column in ["published", "settled", "events"] {
        let (_, value) = last.iter().find(|(name, _)| name == column).expect(column);
        assert_eq!(*value, summary[column].to_string(), "{column}");
    }
}

#[test]
fn an_objective_that_cannot_hold_is_named_and_fails_the_run() {
    let ended = loadtest_beside_others("run --rate 200 --duration 1s --slo lost=0,p99<1us");
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(ended.stdout.contains("✗ p99<1us"), "{}", ended.stdout);
    assert!(ended.stdout.contains("✓ lost=0"), "{}", ended.stdout);
}

#[test]
fn daemons_that_are_killed_under_load_lose_and_double_nothing() {
    let line = "run --rate 500 --duration 3s --duplicates 2% --malformed 1% --kill 2 --json";
    let summary = loadtest_beside_others(line).passed();
    assert_eq!(summary["daemon"]["restarts"], 2);
    assert_eq!(summary["published"], 1500);
}

#[test]
fn two_daemons_share_a_load() {
    let line = "run --rate max --count 2000 --publishers 2 --daemons 2 --duplicates 2% --altered 2% --json";
    let summary = loadtest_beside_others(line).passed();
    assert_eq!(summary["load"]["daemons"], 2);
    assert_eq!(summary["dead_lettered"]["idempotency_conflict"], 40);
    assert_eq!(summary["schedule_lag_ms"], serde_json::Value::Null);
}

#[test]
fn a_late_subscriber_gets_every_event_of_a_backlog() {
    let summary = loadtest_beside_others("drain --count 2000 --subscriber late --payload-bytes 1000 --json").passed();
    assert_eq!((&summary["events"], &summary["load"]["rate"]), (&2000.into(), &"backlog".into()));
    assert_eq!(summary["latency_ms"]["commit"], serde_json::Value::Null);
    let length = summary["load"]["payload_bytes"].as_u64().expect("a length");
    assert!(length.abs_diff(1000) < 30, "{length}");
}

/// What was found by the checks that only a stream has.
#[track_caller]
fn stream_checks(summary: &serde_json::Value) -> Vec<&serde_json::Value> {
    let checks = summary["checks"].as_array().expect("checks").iter();
    let of_stream = |holds: &str| holds.contains("in the stream once") || holds.contains("in the order of its entries");
    let checks = checks.filter(|check| check["holds"].as_str().is_some_and(of_stream));
    checks.map(|check| &check["found"]).collect()
}

#[test]
fn a_stream_has_every_event_of_a_backlog_once_and_in_order() {
    let line = "drain --count 2000 --subscriber stream-late --mix transfer:60,refund:20,legs:4:5 --out-of-order 10%";
    let summary = loadtest_with_a_stream(&format!("{line} --json")).passed();
    assert_eq!((&summary["events_received"], &summary["events_missing"]), (&summary["events"], &0.into()));
    assert!(summary["events"].as_u64() >= Some(2000), "{summary:#}");
    assert_eq!(stream_checks(&summary), [&serde_json::Value::Null; 2], "{summary:#}");
}

#[test]
fn a_stream_is_read_along_while_its_daemons_are_killed() {
    // The lease of the one that was killed runs out, and then the other one appends.
    let line = "run --subscriber stream --rate 500 --duration 3s --daemons 2 --kill 2 --set events.lease=1s --json";
    let summary = loadtest_with_a_stream(line).passed();
    assert_eq!((&summary["events_received"], &summary["daemon"]["restarts"]), (&1500.into(), &2.into()));
    assert_eq!(summary["latency_ms"]["event"]["count"], 1500);
    assert_eq!(stream_checks(&summary), [&serde_json::Value::Null; 2], "{summary:#}");
}

#[test]
fn a_stream_needs_daemons_of_the_runs_own() {
    let ended = loadtest("find-max --slo p99<1s --subscriber stream");
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert!(ended.stderr.contains("expected live, late or none"), "{}", ended.stderr);
}

#[test]
fn a_backlog_can_be_drained_with_nobody_to_hear_of_it() {
    let summary = loadtest_beside_others("drain --count 2000 --subscriber none --skew hot --json").passed();
    assert_eq!((&summary["events"], &summary["settled"]), (&0.into(), &2000.into()));
}

#[test]
fn a_demo_has_some_of_everything() {
    let summary = loadtest("demo --count 2000 --json").passed();
    assert_eq!(summary["rejected"]["currency_mismatch"], 2);
    assert_eq!(summary["duplicates"], 20);
}

/// The mix of a shop, in which a few things come late and a few too early.
const MIX: &str = "--mix transfer:60,authorize-capture:20,authorize-void:5,refund:10,legs:4:5";

#[test]
fn payments_with_a_life_come_to_what_was_planned_whenever_their_messages_come() {
    let line = format!("run --rate max --count 3000 --daemons 2 --publishers 2 {MIX} --out-of-order 20%");
    let summary =
        loadtest_beside_others(&format!("{line} --scheduled 10%:2s --duplicates 1% --altered 1% --json")).passed();
    assert_eq!((&summary["published"], &summary["lost"]), (&3000.into(), &0.into()));
    assert_eq!(summary["settled"], 2940);
    let settled = |kind: &str| summary["by_type"][kind]["settled"].as_u64().expect(kind);
    assert_eq!(settled("capture") + settled("void"), settled("authorize"));
    for state in ["scheduled", "parked"] {
        assert!(summary["waited"][state].as_u64().is_some_and(|times| times > 0), "{state}: {summary:#}");
    }
    // Beside the one of its outcome, a task has an event for each state in which it waited.
    let waited = summary["waited"].as_object().expect("counts").values().filter_map(serde_json::Value::as_u64);
    assert_eq!(summary["events"].as_u64(), Some(2940 + waited.sum::<u64>()));
    assert_eq!(summary["load"]["cases"]["authorize-capture"], 0.2);
}

#[test]
fn payments_with_a_life_survive_daemons_that_are_killed() {
    let rest = "--out-of-order 20% --scheduled 20%:2s --kill 2 --json";
    let more = "authorize-capture-parts:5,chargeback:10,cancel:5";
    let summary = loadtest_beside_others(&format!("run --rate 300 --duration 4s {MIX},{more} {rest}")).passed();
    assert_eq!((&summary["published"], &summary["daemon"]["restarts"]), (&1200.into(), &2.into()));
    assert_eq!(summary["canceled"], summary["by_type"]["cancel"]["settled"]);
}

#[test]
fn a_case_that_was_begun_is_published_to_its_end() {
    let line = "run --rate max --duration 1s --window 100 --mix authorize-capture:1 --out-of-order 50% --json";
    let summary = loadtest_beside_others(line).passed();
    assert_eq!(summary["by_type"]["authorize"], summary["by_type"]["capture"]);
}

#[test]
fn a_search_tells_the_highest_rate_that_was_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let range = "--from 50 --to 100 --step-duration 1s";
    let ended =
        loadtest_beside_others(&format!("find-max --slo lost=0,p50<10s {range} --json --out {}", dir.path().display()));
    let found = ended.json();
    assert!(found["steps"].as_array().is_some_and(|steps| !steps.is_empty()), "{found:#}");
    let written = std::fs::read_to_string(dir.path().join("find-max.json")).expect("a result");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&written).expect("JSON"), found);
    assert!(dir.path().join("step-01-50/summary.json").is_file());
}

#[test]
fn a_ledger_with_a_past_is_in_order_after_a_backlog() {
    let summary = loadtest("drain --count 500 --accounts 30 --ledger 1000 --subscriber none --json").passed();
    assert_eq!((&summary["settled"], &summary["audit"]["passed"]), (&500.into(), &true.into()));
}
