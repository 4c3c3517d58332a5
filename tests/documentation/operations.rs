//! What is handed to operators agrees with what the daemon does.

use std::collections::HashSet;

use settled_pipeline::labels::Dependency;
use settled_pipeline::metrics::ALL;

const ALERTS: &str = include_str!("../../systemd/alerts.yml");
const UNIT: &str = include_str!("../../systemd/settled.service");

/// The words of the alerts that look like one of our metrics.
fn metrics_alerted_on() -> HashSet<&'static str> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    ALERTS
        .split(word)
        .filter(|word| word.starts_with("settled_") || word.starts_with("process_"))
        .map(|word| word.strip_suffix("_bucket").unwrap_or(word))
        .collect()
}

#[test]
fn alerts_speak_of_metrics_that_exist() {
    let exported: HashSet<_> = ALL.iter().map(|description| description.name).collect();
    let alerted = metrics_alerted_on();
    let unknown: Vec<_> = alerted.difference(&exported).collect();
    assert!(unknown.is_empty(), "systemd/alerts.yml names {unknown:?}");
    assert!(alerted.len() > 10, "only {alerted:?} were found");
}

#[test]
fn alerts_speak_of_dependencies_that_exist() {
    for text in ALERTS.split("dependency=\\\"").skip(1) {
        let name = text.split('\\').next().unwrap_or_default();
        assert!(Dependency::ALL.iter().any(|dependency| dependency.name() == name), "{name}");
    }
}

#[test]
fn the_unit_does_what_the_daemon_relies_on() {
    for line in ["Type=notify", "Restart=on-failure", "RestartPreventExitStatus=2 78", "ProtectSystem=strict"] {
        assert!(UNIT.lines().any(|each| each == line), "{line}");
    }
    assert!(UNIT.contains("\nWatchdogSec=") && UNIT.contains("\nExecStart=/usr/bin/settled run --config "));
}
