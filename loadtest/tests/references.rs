//! What settled is compared with, each as a whole: the program on servers of its own.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Runs the program; the `settled` beside it starts the servers.
fn loadtest(arguments: &str) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_settled-loadtest"));
    let settled = program.with_file_name("settled");
    assert!(settled.exists(), "{} is missing: build it with `cargo build`", settled.display());
    Command::new(program).args(arguments.split(' ')).output().expect("the program runs")
}

/// The summary of a run that passed.
fn passed(arguments: &str) -> Value {
    let output = loadtest(&format!("{arguments} --json"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {errors}\n{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).expect("a summary")
}

#[test]
fn the_floor_commits_batches_that_the_audit_finds_in_order() {
    let summary = passed("floor --count 1001 --batch 100 --accounts 20 --connections 2");
    assert_eq!(summary["settled"], 1001);
    assert_eq!(summary["audit"]["passed"], true);
    assert!(summary["rate_committed_per_s"].as_f64().is_some_and(|rate| rate > 0.0), "{summary}");
    assert!(summary["postgres"]["cpu_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{summary}");
}

#[test]
fn the_floor_says_how_many_accounts_it_needs() {
    let output = loadtest("floor --accounts 3 --connections 2");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("--accounts 3: expected at least two for each"), "{errors}");
}

#[test]
fn the_baseline_comes_to_the_same_outcomes_without_events() {
    let summary = passed("drain --subject baseline --count 500 --accounts 20 --duplicates 10% --insufficient 5%");
    assert_eq!(summary["subject"], "baseline");
    assert_eq!(summary["lost"], 0);
    assert_eq!(summary["doubled"], 0);
    assert_eq!(summary["events_received"], 0);
    assert_eq!(summary["audit"]["passed"], true);
}
