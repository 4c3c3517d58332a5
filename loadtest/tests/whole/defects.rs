//! The verdict catches a daemon that cheats, and says how often it did: the defects of `settled-defective` that a
//! load shows, and the honest daemon under the same load. Of 100 payments a defect strikes one.
//!
//! The tests that are ignored are about a daemon built with a patch of `crates/testkit/defects/`: `make defects`
//! builds it and runs them.

use std::collections::HashSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex, PoisonError};

use clap::ValueEnum;
use serde_json::Value;
use settled_testkit::defects::Defect;
use settled_testkit::harness::built;

use crate::support::{Ended, Place, SETTLED, command, ended, loadtest_beside_others};

/// Names the defect of `settled-defective`.
const VARIABLE: &str = "SETTLED_DEFECT";

/// Where the daemon with a patch is.
const PATCHED: &str = "SETTLED_PATCHED";

/// Cargo builds the binaries of a package for its tests; any of them will do.
static DEFECTIVE: LazyLock<PathBuf> = LazyLock::new(|| {
    built("patches");
    SETTLED.with_file_name("settled-defective")
});

/// The honest daemon passes what a defect is found by: each line once, however many defects it finds.
#[track_caller]
fn honest(line: &str) {
    static TRIED: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);
    if TRIED.lock().unwrap_or_else(PoisonError::into_inner).insert(line.to_owned()) {
        loadtest_beside_others(line).passed();
    }
}

/// A daemon with a defect.
enum Daemon {
    /// At a seam.
    Defective(&'static str),
    /// In the sources.
    Patched,
}

impl Daemon {
    /// The load test of this line, on a place of its own.
    fn loaded(&self, line: &str, place: &Place) -> Command {
        let (daemon, defect) = match self {
            Self::Defective(defect) => (DEFECTIVE.clone(), Some(*defect)),
            Self::Patched => (std::env::var_os(PATCHED).expect("`make defects` names the daemon").into(), None),
        };
        let mut command = command(line, &daemon);
        command.args(place.arguments()).envs(defect.map(|defect| (VARIABLE, defect)));
        command
    }
}

/// What comes of 2,000 payments, which the honest daemon passes, if the daemon has a defect.
#[track_caller]
fn caught(daemon: &Daemon, line: &str) -> Value {
    // What is missing stays away: no need to wait for it as long as usual.
    let line = &format!("{line} --patience 10s");
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("results");
    let place = Place::new();
    let run = ended(daemon.loaded(line, &place).arg("--out").arg(&out));
    let written = std::fs::read_to_string(out.join("summary.json")).unwrap_or_else(|_| panic!("{run:#?}"));
    let summary: Value = serde_json::from_str(&written).expect("JSON");
    assert_eq!((run.code, &summary["passed"]), (Some(1), &false.into()), "{summary:#}");
    assert_eq!((&summary["published"], &summary["confirmed"]), (&2000.into(), &2000.into()), "{summary:#}");
    honest(&format!("{line} --json"));
    summary
}

/// How many were lost, doubled, and without their event.
fn counts(summary: &Value) -> [u64; 3] {
    ["lost", "doubled", "events_missing"].map(|count| summary[count].as_u64().expect(count))
}

/// What did not hold, and was found instead.
fn violated(summary: &Value) -> Vec<(&str, &str)> {
    let checks = summary["checks"].as_array().expect("checks").iter();
    checks.filter_map(|check| Some((check["holds"].as_str()?, check["found"].as_str()?))).collect()
}

/// What did not hold.
fn claims<'s>(violated: &[(&'s str, &str)]) -> Vec<&'s str> {
    violated.iter().map(|(claim, _)| *claim).collect()
}

const STUCK: &str = "every step of the run came to its end";
const SUM: &str = "settled + rejected + canceled + duplicates + dead letters = published";
const LOST: &str = "no message that the broker confirmed is lost";
const DOUBLED: &str = "no payment is applied twice";
const PLANNED: &str = "every payment came to what was planned for it, and there is no other";
const EVENTS: &str = "every outcome had its event, and there was no other";
const BALANCES: &str = "every balance is what the payments make of it";
const AUDIT: &str = "settled audit passes";

#[test]
fn messages_that_are_acknowledged_and_not_applied_are_lost() {
    let summary = caught(&Daemon::Defective("lost_message"), "drain --count 2000 --subscriber none");
    assert_eq!(counts(&summary), [20, 0, 0], "{summary:#}");
    // The daemon believes that it settled them, and what is in its ledger is sound.
    assert_eq!(claims(&violated(&summary)), [SUM, LOST, PLANNED, BALANCES]);
}

#[test]
#[ignore = "needs a daemon with `doubled_entry.patch`: `make defects`"]
fn payments_that_are_posted_twice_are_doubled() {
    let summary = caught(&Daemon::Patched, "run --rate max --count 2000");
    assert_eq!(counts(&summary), [0, 20, 0], "{summary:#}");
    let violated = violated(&summary);
    assert_eq!(claims(&violated), [DOUBLED, BALANCES, AUDIT]);
    // Both entries of the second posting; they continue the balances as they should.
    let (_, audit) = violated[2];
    assert!(audit.starts_with("entry_payment does not hold 40 times: ") && !audit.contains(';'), "{audit}");
}

#[test]
fn events_that_are_not_written_are_missing() {
    let summary = caught(&Daemon::Defective("dropped_event"), "run --rate max --count 2000");
    assert_eq!(counts(&summary), [0, 0, 20], "{summary:#}");
    assert_eq!(claims(&violated(&summary)), [STUCK, EVENTS]);
}

/// Of the payments among 2,000 messages, and of what acts on them.
const LIFE: &str = "run --rate max --count 2000 --mix transfer:60,authorize-capture:20,refund:15,legs:4:5";

#[test]
#[ignore = "needs a daemon with `doubled_entry.patch`: `make defects`"]
fn payments_with_a_life_that_are_posted_twice_are_doubled() {
    let summary = caught(&Daemon::Patched, LIFE);
    let [lost, doubled, missing] = counts(&summary);
    assert!(doubled > 0 && (lost, missing) == (0, 0), "{summary:#}");
    assert_eq!(claims(&violated(&summary)), [DOUBLED, BALANCES, AUDIT]);
}

#[test]
fn events_of_payments_with_a_life_that_are_not_written_are_missing() {
    let summary = caught(&Daemon::Defective("dropped_event"), LIFE);
    let [lost, doubled, missing] = counts(&summary);
    assert!(missing > 0 && (lost, doubled) == (0, 0), "{summary:#}");
    assert_eq!(claims(&violated(&summary)), [STUCK, EVENTS]);
}

#[test]
fn tasks_that_are_acknowledged_before_their_commit_are_lost_with_the_daemon() {
    let summary = caught(&Daemon::Defective("ack_before_commit"), "run --rate 500 --count 2000 --kill 3");
    let without_outcome = 2000 - summary["settled"].as_u64().expect("a count");
    assert!(without_outcome > 0, "{summary:#}");
    assert_eq!(counts(&summary), [without_outcome, 0, 0], "{summary:#}");
    assert_eq!(claims(&violated(&summary)), [STUCK, SUM, LOST, PLANNED, EVENTS, BALANCES]);
}

/// What comes of a run in which things break, which the honest daemon passes, if the daemon has this
/// defect.
#[track_caller]
fn caught_by_chaos(daemon: &Daemon, line: &str) -> Value {
    let line = format!("chaos {line} --patience 5s --json");
    let place = Place::new();
    let run = ended(&mut daemon.loaded(&line, &place));
    let summary = run.json();
    assert_eq!((run.code, &summary["passed"]), (Some(1), &false.into()), "{summary:#}");
    if let Daemon::Defective(_) = daemon {
        assert!(summary["command"].as_str().is_some_and(|again| again.starts_with(VARIABLE)), "{summary:#}");
    }
    honest(&line);
    summary
}

#[test]
fn commits_whose_errors_are_swallowed_are_lost_when_they_are_cut_off() {
    let summary = caught_by_chaos(
        &Daemon::Defective("commit_error_swallowed"),
        "--faults cut-before-commit:3 --duration 4s --rate 300",
    );
    let [lost, doubled, _] = counts(&summary);
    assert!(lost > 0 && doubled == 0, "{summary:#}");
    let violated = violated(&summary);
    let broken = claims(&violated);
    // What was to become a dead letter is among the lost ones at times.
    assert!([STUCK, SUM, LOST, PLANNED, EVENTS, BALANCES].iter().all(|claim| broken.contains(claim)), "{broken:?}");
    assert!(![DOUBLED, AUDIT].iter().any(|claim| broken.contains(claim)), "{broken:?}");
}

#[test]
#[ignore = "needs a daemon with `unordered_locks.patch`: `make defects`"]
fn locks_that_are_taken_in_any_order_wait_for_each_other() {
    // Several at a time wait for one that has their accounts, and go on together when it is done.
    let many = "--set pipeline.lanes=4 --set pipeline.workers=4 --set pipeline.max_batch=10";
    let line = format!("--faults freeze:1 --duration 6s --daemons 2 --accounts 100 {many}");
    let summary = caught_by_chaos(&Daemon::Patched, &line);
    assert!(summary["deadlocks"].as_u64() > Some(0), "{summary:#}");
    let violated = violated(&summary);
    let broken = claims(&violated);
    // Where nobody gets on there is more to be said; but nothing is applied twice.
    assert!(broken.contains(&"two batches never waited for each other"), "{broken:?}");
    assert!(![DOUBLED, AUDIT].iter().any(|claim| broken.contains(claim)), "{broken:?}");
}

fn defective(line: &[&str]) -> Command {
    let mut command = Command::new(&*DEFECTIVE);
    command.args(line).env_remove(VARIABLE);
    command
}

#[test]
fn a_daemon_with_a_defect_says_so_and_one_without_is_refused() {
    let Ended { stdout, .. } = ended(&mut defective(&["--version"]));
    assert!(stdout.trim_end().ends_with("+defective"), "{stdout}");
    for (defect, found) in [(None, "found nothing"), (Some("lost"), "found `lost`")] {
        let Ended { code, stderr, .. } = ended(defective(&["run"]).envs(defect.map(|defect| (VARIABLE, defect))));
        assert_eq!(code, Some(78), "{stderr}");
        assert!(stderr.contains(&format!("{VARIABLE}: {found}, expected one of ack_before_commit, ")), "{stderr}");
    }
    // An address that is taken ends it at once.
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let mut run = defective(&["run", "--config", "/dev/null"]);
    let Ended { code, stderr, .. } = ended(run.env(VARIABLE, "lost_message").env("SETTLED_ADMIN_LISTEN", address));
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("\"level\":\"ERROR\"") && stderr.contains("\"defect\":\"lost_message\""), "{stderr}");
}

#[test]
fn the_honest_binary_knows_of_no_defect() {
    let knows = |binary: &Path, word: &str| {
        let found = Command::new("grep").args(["--quiet", "--text", "--fixed-strings", word]).arg(binary).status();
        found.expect("grep").success()
    };
    let defects = Defect::value_variants().iter().map(Defect::to_string);
    for word in defects.chain([VARIABLE, "settled-defective"].map(str::to_owned)) {
        assert!(knows(&DEFECTIVE, &word), "{word}");
        assert!(!knows(&SETTLED, &word), "{word}");
    }
}
