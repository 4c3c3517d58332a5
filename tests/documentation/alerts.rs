//! The alerts: each has a severity, a section that says what to do, and cases that Prometheus' own tool runs, in which it
//! fires and in which it stays silent.

use std::process::Command;

use serde_json::{Value, json};
use settled_testkit::harness::prometheus::tool;

use super::{read, root};

const RULES: &str = "systemd/alerts.yml";
const RUNBOOK: &str = "docs/operate/alerts.md";

/// Series without their labels `job` and `instance`, and their values every 15 seconds.
type Series = &'static [(&'static str, &'static str)];

/// An alert, when it is looked at, and the series with which it fires and does not.
type Case = (&'static str, &'static str, Series, Series);

const UP: (&str, &str) = ("settled_dependency_up{dependency=\"postgres\"}", "1+0x100");
const DOWN: (&str, &str) = ("settled_dependency_up{dependency=\"postgres\"}", "0+0x100");
const AT_WORK: (&str, &str) = ("settled_paused{}", "0+0x100");
const PAUSED: (&str, &str) = ("settled_paused{}", "1+0x100");

const CASES: &[Case] = &[
    (
        "SettledUnprocessable",
        "2m",
        &[("settled_unprocessable_open{}", "0+0x4 1+0x40")],
        &[("settled_unprocessable_open{}", "0+0x40")],
    ),
    (
        "SettledCrashLoop",
        "2m",
        &[("process_start_time_seconds{}", "1+0x2 2 3 4+0x40")],
        &[("process_start_time_seconds{}", "1+0x4 2+0x40")],
    ),
    (
        "SettledClockBack",
        "2m",
        &[("settled_clock_behind_seconds{clock=\"database\"}", "0+0x4 5+0x40")],
        &[("settled_clock_behind_seconds{clock=\"database\"}", "0.9+0x40")],
    ),
    ("SettledAway", "2m", &[("up{}", "1+0x4 0+0x40")], &[("up{}", "1+0x6 0 1+0x40")]),
    (
        "SettledDependencyDown",
        "2m",
        &[("settled_dependency_up{dependency=\"broker_relay\"}", "1+0x4 0+0x40")],
        &[("settled_dependency_up{dependency=\"broker_relay\"}", "1+0x6 0 1+0x40")],
    ),
    ("SettledPaused", "2m", &[("settled_paused{}", "0+0x4 1+0x40"), UP], &[("settled_paused{}", "0+0x6 1 0+0x40"), UP]),
    // It isn't reached: that is the alert.
    ("SettledPaused", "2m", &[PAUSED], &[PAUSED, DOWN]),
    (
        "SettledNoProgress",
        "2m",
        &[("settled_lane_oldest_seconds{lane=\"0\"}", "0+15x40"), UP, AT_WORK],
        &[("settled_lane_oldest_seconds{lane=\"0\"}", "0+15x40"), UP, PAUSED],
    ),
    (
        "SettledBrokerBlocked",
        "2m",
        &[("settled_broker_blocked{}", "0+0x4 1+0x40")],
        &[("settled_broker_blocked{}", "0+0x6 1 0+0x40")],
    ),
    (
        "SettledClocksDiffer",
        "2m",
        &[("settled_database_clock_ahead_seconds{}", "0+0x4 -300+0x40")],
        &[("settled_database_clock_ahead_seconds{}", "4.9+0x40")],
    ),
    (
        "SettledOutboxOld",
        "2m",
        &[("settled_outbox_oldest_seconds{}", "0+15x40")],
        &[("settled_outbox_oldest_seconds{}", "29+0x40")],
    ),
    (
        "SettledSchedulerLate",
        "2m",
        &[("settled_scheduled_overdue_seconds{}", "0+15x40"), UP, AT_WORK],
        &[("settled_scheduled_overdue_seconds{}", "0+15x40"), DOWN, AT_WORK],
    ),
    (
        "SettledDiskLow",
        "2m",
        &[("settled_disk_free_ratio{path=\"/\"}", "0.06 0.04+0x40")],
        &[("settled_disk_free_ratio{path=\"/\"}", "0.06+0x40")],
    ),
    (
        "SettledPublisherRubbish",
        "2m",
        &[
            ("settled_publisher_outcomes_total{publisher=\"shop\",outcome=\"dead_lettered\"}", "0+10x40"),
            ("settled_publisher_outcomes_total{publisher=\"shop\",outcome=\"settled\"}", "0+30x40"),
        ],
        &[
            ("settled_publisher_outcomes_total{publisher=\"shop\",outcome=\"dead_lettered\"}", "0+10x40"),
            ("settled_publisher_outcomes_total{publisher=\"shop\",outcome=\"settled\"}", "0+50x40"),
        ],
    ),
    // All are dead letters, but there are few.
    (
        "SettledPublisherRubbish",
        "2m",
        &[("settled_publisher_outcomes_total{publisher=\"shop\",outcome=\"dead_lettered\"}", "0+50x40")],
        &[("settled_publisher_outcomes_total{publisher=\"shop\",outcome=\"dead_lettered\"}", "0+5x40")],
    ),
    (
        "SettledReflex",
        "2m",
        &[("settled_reflex_active{reflex=\"disk\"}", "0 1+0x40")],
        &[("settled_reflex_active{reflex=\"disk\"}", "0+0x40")],
    ),
    (
        "SettledReflexObserved",
        "10m",
        &[("settled_reflex_cause{reflex=\"disk\"}", "1+0x60"), ("settled_reflex_active{reflex=\"disk\"}", "0+0x60")],
        &[("settled_reflex_cause{reflex=\"disk\"}", "1+0x60"), ("settled_reflex_active{reflex=\"disk\"}", "1+0x60")],
    ),
    (
        "SettledAckLag",
        "10m",
        &[("settled_ack_lag{}", "5+0x60"), ("settled_acks_total{kind=\"multiple\"}", "7+0x60")],
        &[("settled_ack_lag{}", "5+0x60"), ("settled_acks_total{kind=\"multiple\"}", "0+1x60")],
    ),
    (
        "SettledQueueOld",
        "10m",
        &[("settled_queue_oldest_seconds{}", "301+0x60")],
        &[("settled_queue_oldest_seconds{}", "299+0x60")],
    ),
    (
        "SettledNothingReceived",
        "40m",
        &[("settled_tasks_received_total{}", "0+10x80 800+0x100")],
        &[("settled_tasks_received_total{}", "0+10x80 800+0x20 800+1x80")],
    ),
    (
        "SettledStreamBegan",
        "10m",
        &[("settled_stream_generations_total{}", "0+0x8 1+0x60")],
        &[("settled_stream_generations_total{}", "1+0x60")],
    ),
    ("SettledEventsHeld", "10m", &[("settled_outbox_held{}", "3+0x60")], &[("settled_outbox_held{}", "0+0x60")]),
    (
        "SettledEventsRefused",
        "10m",
        &[("settled_outbox_refused{}", "3+0x60")],
        &[("settled_outbox_refused{}", "0+0x60")],
    ),
    (
        "SettledDeadLetters",
        "10m",
        &[("settled_dead_letters_total{reason=\"malformed\"}", "0+0x8 2+0x60")],
        &[("settled_dead_letters_total{reason=\"malformed\"}", "2+0x60")],
    ),
    (
        "SettledDeadLettersOpen",
        "20m",
        &[("settled_dead_letters_open{}", "3+0x100"), ("settled_dead_letters_oldest_seconds{}", "90000+15x100")],
        &[("settled_dead_letters_open{}", "3+0x100"), ("settled_dead_letters_oldest_seconds{}", "4000+15x100")],
    ),
    (
        "SettledDeadLetterQueue",
        "20m",
        &[("settled_dead_letter_queue_depth{}", "2+0x100")],
        &[("settled_dead_letter_queue_depth{}", "NaN+0x100")],
    ),
    (
        "SettledForbidden",
        "10m",
        &[("settled_forbidden_total{publisher=\"shop\"}", "0+0x8 2+0x60")],
        &[("settled_forbidden_total{publisher=\"shop\"}", "2+0x60")],
    ),
    (
        "SettledParkedOld",
        "10m",
        &[("settled_parked_oldest_seconds{}", "1801+15x60")],
        &[("settled_parked_oldest_seconds{}", "0+15x60")],
    ),
    (
        "SettledWaitedInVain",
        "10m",
        &[(
            "settled_outcomes_total{type=\"capture\",outcome=\"rejected\",reason=\"payment_not_found\"}",
            "0+0x8 2+0x60",
        )],
        &[(
            "settled_outcomes_total{type=\"capture\",outcome=\"rejected\",reason=\"insufficient_funds\"}",
            "0+0x8 2+0x60",
        )],
    ),
    (
        "SettledHoldsExpiring",
        "20m",
        &[("settled_holds_expiring{}", "3+0x100")],
        &[("settled_holds_expiring{}", "0+0x100")],
    ),
    (
        "SettledShortfall",
        "10m",
        &[("settled_shortfalls_total{}", "0+0x8 1+0x60")],
        &[("settled_shortfalls_total{}", "1+0x60")],
    ),
    (
        "SettledSlow",
        "20m",
        &[
            ("settled_receive_to_commit_seconds_bucket{le=\"1\"}", "0+90x100"),
            ("settled_receive_to_commit_seconds_bucket{le=\"2.5\"}", "0+100x100"),
            ("settled_receive_to_commit_seconds_bucket{le=\"+Inf\"}", "0+100x100"),
        ],
        &[
            ("settled_receive_to_commit_seconds_bucket{le=\"1\"}", "0+100x100"),
            ("settled_receive_to_commit_seconds_bucket{le=\"2.5\"}", "0+100x100"),
            ("settled_receive_to_commit_seconds_bucket{le=\"+Inf\"}", "0+100x100"),
        ],
    ),
    (
        "SettledReloadFailed",
        "10m",
        &[("settled_config_last_reload_successful{}", "0+0x60")],
        &[("settled_config_last_reload_successful{}", "1+0x60")],
    ),
    ("SettledDrained", "2h", &[("settled_maintenance{}", "1+0x600")], &[("settled_maintenance{}", "1+0x50 0+0x600")]),
    (
        "SettledReconnecting",
        "10m",
        &[("settled_reconnects_total{connection=\"intake\"}", "0+1x60")],
        &[("settled_reconnects_total{connection=\"intake\"}", "0+0x8 2+0x60")],
    ),
];

/// Name, severity and runbook of each alert, in the order of the file.
fn alerts() -> Vec<(String, String, String)> {
    let rules = read(RULES);
    let value = |rule: &str, key: &str| {
        let line = rule.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap_or_default();
        line.trim_end_matches('}').to_owned()
    };
    let of = |rule: &str| {
        let name = rule.lines().next().unwrap_or_default().to_owned();
        (name, value(rule, "labels: {severity: "), value(rule, "runbook_url: "))
    };
    let alerts: Vec<_> = rules.split("- alert: ").skip(1).map(of).collect();
    assert!(alerts.len() > 20, "{alerts:?}");
    alerts
}

#[test]
fn each_alert_has_a_section_that_says_what_to_do_under_its_severity() {
    let (mut severity, mut sections) = (String::new(), Vec::new());
    for line in read(RUNBOOK).lines() {
        if let Some(name) = line.strip_prefix("### ") {
            sections.push((name.to_owned(), severity.clone(), format!("{RUNBOOK}#{}", name.to_lowercase())));
        } else if let Some(name) = line.strip_prefix("## ") {
            name.clone_into(&mut severity);
        }
    }
    assert_eq!(alerts(), sections);
}

#[test]
fn alerts_fire_and_stay_silent_as_they_should() {
    for (name, ..) in alerts() {
        assert!(CASES.iter().any(|(alert, ..)| *alert == name), "{name} has no case");
    }
    let series = |(name, values): &(&str, &str)| {
        let (metric, labels) = name.strip_suffix('}').and_then(|name| name.split_once('{')).expect("{}");
        let comma = if labels.is_empty() { "" } else { "," };
        json!({"series": format!("{metric}{{job=\"settled\",instance=\"a\"{comma}{labels}}}"), "values": values})
    };
    let case = |alert: &str, at: &str, input: Series, fires: i32| {
        let input: Vec<Value> = input.iter().map(series).collect();
        let expr = format!("count(ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"}}) or vector(0)");
        let expected = json!([{"labels": "{}", "value": fires}]);
        let test = json!([{"expr": expr, "eval_time": at, "exp_samples": expected}]);
        let name = format!("{alert} {}", if fires > 0 { "fires" } else { "is silent" });
        json!({"name": name, "interval": "15s", "input_series": input, "promql_expr_test": test})
    };
    let cases: Vec<Value> = CASES
        .iter()
        .flat_map(|(alert, at, fires, silent)| [case(alert, at, fires, 1), case(alert, at, silent, 0)])
        .collect();
    let tests = json!({"rule_files": [root().join(RULES)], "evaluation_interval": "15s", "tests": cases});
    let file = tempfile::Builder::new().suffix(".yml").tempfile().expect("a file");
    std::fs::write(file.path(), tests.to_string()).expect("written");
    let output = Command::new(tool("promtool")).args(["test", "rules"]).arg(file.path()).output().expect("it runs");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{said}");
}
