//! What settled is compared with, each as a whole.

use std::path::Path;

use serde_json::Value;

use crate::support::{loadtest, loadtest_beside_others};

#[track_caller]
fn is_positive(value: &Value) {
    assert!(value.as_f64().is_some_and(|value| value > 0.0), "{value}");
}

#[test]
fn the_floor_commits_batches_that_the_audit_finds_in_order() {
    let out = tempfile::tempdir().expect("a directory");
    // Enough of them for processor time that the system counts, in hundredths of a second.
    let line = "floor --count 10001 --batch 100 --accounts 20 --connections 2 --json --out";
    let summary = loadtest(&format!("{line} {}", out.path().display())).passed();
    assert_eq!((&summary["subject"], &summary["settled"]), (&"floor".into(), &10001.into()));
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
    let summary = loadtest_beside_others(line).passed();
    assert_eq!((&summary["subject"], &summary["events_received"]), (&"baseline".into(), &0.into()));
    assert_eq!(summary["audit"]["passed"], true);
}

#[test]
fn a_baseline_that_is_killed_under_load_goes_on_where_it_was() {
    loadtest_beside_others("run --subject baseline --rate 300 --duration 4s --accounts 20 --kill 1 --json").passed();
}

#[test]
fn the_table_of_the_speed_is_made_of_runs_and_their_references() {
    let out = tempfile::tempdir().expect("a directory");
    let line = "speed --rounds 1 --scale 0.01 --only single,start --out";
    let ended = loadtest(&format!("{line} {}", out.path().display()));
    let table = table(out.path());
    let rows = table["rows"].as_array().expect("rows");
    let names: Vec<&str> = rows.iter().filter_map(|row| row["row"].as_str()).collect();
    assert_eq!(names, ["single", "start", "restart"], "{ended:#?}");
    for row in rows {
        assert_eq!(row["failures"], Value::Array(Vec::new()), "{ended:#?}");
        is_positive(&row["median"]);
    }
    is_positive(&rows[0]["reference"]["median"]);
    for folder in ["r1-1", "single-1"] {
        assert!(out.path().join(folder).join("summary.json").is_file(), "{folder}: {ended:#?}");
    }
    assert_eq!(ended.stdout, std::fs::read_to_string(out.path().join("speed.md")).expect("a table"));
    // Which targets hold says nothing here, but the exit code has to be of the same opinion.
    assert_eq!(ended.code, Some(i32::from(table["held"] != true)), "{ended:#?}");
}

#[test]
fn a_run_that_fails_is_a_row_that_does_not_hold_and_says_why() {
    let out = tempfile::tempdir().expect("a directory");
    let taken = out.path().join("discard-1");
    std::fs::create_dir(&taken).expect("a folder");
    std::fs::write(taken.join("notes.txt"), "mine").expect("a file");
    let ended = loadtest(&format!("speed --rounds 1 --scale 0.001 --only discard --out {}", out.path().display()));
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(ended.stdout.contains("Not held: discard.") && ended.stdout.contains("notes.txt"), "{ended:#?}");
    // The others were measured nevertheless.
    is_positive(&table(out.path())["rows"][0]["reference"]["median"]);
}

fn table(out: &Path) -> Value {
    let json = std::fs::read_to_string(out.join("speed.json")).expect("a table");
    serde_json::from_str(&json).expect("JSON")
}
