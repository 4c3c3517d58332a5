//! What in the documents can be generated is: a block between `<!-- generated: NAME -->` and
//! `<!-- end -->` holds what the code says.

use std::fmt::Write as _;

use settled::contract::{EventKind, PaymentState, Rejection, TaskType};
use settled::ledger::state;
use settled::telemetry::metrics::{ALL, Kind};

use super::{json, read, root};

/// The documents, and how many blocks each has.
const DOCUMENTS: [(&str, usize); 2] = [("README.md", 8), ("ARCHITECTURE.md", 1)];

/// What a generated block holds.
fn generated(name: &str) -> String {
    match name {
        "states" => states(),
        "rejections" => rejections(),
        "events" => events(),
        "keys" => keys(),
        "payments" => payments(),
        "metrics" => metrics(),
        "python" => format!("```python\n{}```\n", read("examples/clients/python/pay.py")),
        "node" => format!("```javascript\n{}```\n", read("examples/clients/node/pay.mjs")),
        "state machine" => format!("```mermaid\n{}```\n", state::diagram()),
        other => panic!("no block is called {other:?}"),
    }
}

/// The meaning of a value of an enum of the event's schema, and so of the type.
fn meaning(of: &str, value: &str) -> String {
    let schema = json("schemas/event.schema.json");
    let described = schema["$defs"][of]["oneOf"].as_array().expect("a list");
    let meaning = described.iter().find(|each| each["const"] == value).expect("described");
    meaning["description"].as_str().expect("text").to_owned()
}

fn states() -> String {
    let mut table = "| state | ISO 20022 | |\n|---|---|---|\n".to_owned();
    for state in PaymentState::ALL {
        let (name, status) = (state.name(), state.iso_status());
        let _ = writeln!(table, "| `{name}` | {status} | {} |", meaning("PaymentState", name));
    }
    table
}

fn rejections() -> String {
    let mut table = "| reason | code | |\n|---|---|---|\n".to_owned();
    for rejection in Rejection::ALL {
        let (name, code) = (rejection.name(), rejection.iso_code());
        let _ = writeln!(table, "| `{name}` | {code} | {} |", meaning("Rejection", name));
    }
    table
}

fn events() -> String {
    let document = json("schemas/asyncapi.json");
    let mut table = "| routing key | of | |\n|---|---|---|\n".to_owned();
    for kind in EventKind::ALL {
        let message = &document["components"]["messages"][kind.name()];
        let meaning = message["summary"].as_str().unwrap_or_else(|| panic!("{} isn't described", kind.name()));
        let _ = writeln!(table, "| `{}` | {} | {meaning} |", kind.name(), tasks_of(kind));
    }
    table
}

/// Whose events are of this kind.
fn tasks_of(kind: EventKind) -> String {
    if kind == EventKind::PaymentExpired {
        // Of no task's own state: the clock's.
        return format!("`{}`", TaskType::Authorize.name());
    }
    if kind == EventKind::TaskDeadLettered {
        return "no task".to_owned();
    }
    let comes_to = |task: &TaskType, states: &[PaymentState]| states.iter().any(|at| EventKind::of(*task, *at) == kind);
    let applied = [PaymentState::Settled, PaymentState::Authorized];
    let others = [PaymentState::Scheduled, PaymentState::Parked, PaymentState::Rejected];
    let of = |states: &[PaymentState]| TaskType::ALL.into_iter().filter(|task| comes_to(task, states)).collect();
    let (applied, others): (Vec<TaskType>, Vec<TaskType>) = (of(&applied), of(&others));
    match (applied.as_slice(), others.as_slice()) {
        ([task], []) => format!("`{}`", task.name()),
        ([], many) if many.iter().all(|task| task.is_about_an_account()) => "any task about an account".to_owned(),
        ([], many) if many.iter().all(|task| !task.is_about_an_account()) => "any other task".to_owned(),
        mixed => panic!("{kind:?} is of {mixed:?}"),
    }
}

/// A key of the sample.
pub(super) struct Key {
    section: String,
    pub(super) name: String,
    default: String,
    meaning: String,
}

/// The keys of the sample, in its order.
pub(super) fn sample() -> Vec<Key> {
    let sample = read("systemd/settled.toml");
    let (mut section, mut meaning, mut keys) = (String::new(), String::new(), Vec::new());
    for line in sample.lines() {
        if let Some(name) = line.trim_start_matches('#').strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some(text) = line.strip_prefix("# ") {
            meaning += &format!("{text} ");
        } else if let Some((name, default)) = line.strip_prefix('#').and_then(|line| line.split_once(" = ")) {
            let meaning = std::mem::take(&mut meaning).trim_end().to_owned();
            keys.push(Key { section: section.clone(), name: name.to_owned(), default: default.to_owned(), meaning });
        }
        if line.is_empty() || line.trim_start_matches('#').starts_with('[') {
            meaning.clear();
        }
    }
    assert!(keys.len() > 40, "only {} keys were found", keys.len());
    keys
}

fn keys() -> String {
    let mut table = "| section | keys |\n|---|---|\n".to_owned();
    let mut before = String::new();
    for key in sample() {
        if key.section == before {
            let _ = write!(table, ", `{}`", key.name);
        } else {
            let end = if before.is_empty() { "" } else { " |\n" };
            let _ = write!(table, "{end}| `[{}]` | `{}`", key.section, key.name);
            before = key.section;
        }
    }
    table + " |\n"
}

fn payments() -> String {
    let mut table = "| key | default | |\n|---|---|---|\n".to_owned();
    for Key { name, default, meaning, .. } in sample().into_iter().filter(|key| key.section == "payments") {
        let _ = writeln!(table, "| `{name}` | `{default}` | {meaning} |");
    }
    table
}

fn metrics() -> String {
    let mut table = "| metric | kind | |\n|---|---|---|\n".to_owned();
    for metric in ALL {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = writeln!(table, "| `{}` | {kind} | {} |", metric.name, metric.help);
    }
    table
}

#[test]
fn the_generated_parts_of_the_documents_are_current() {
    for (document, blocks) in DOCUMENTS {
        let text = read(document);
        let mut current = String::new();
        let mut rest = text.as_str();
        let mut found = 0;
        while let Some((before, after)) = rest.split_once("<!-- generated: ") {
            let (name, after) = after.split_once(" -->\n").expect("a name");
            let (_, after) = after.split_once("<!-- end -->").expect("an end");
            current += &format!("{before}<!-- generated: {name} -->\n{}<!-- end -->", generated(name));
            rest = after;
            found += 1;
        }
        current += rest;
        assert_eq!(found, blocks, "{document}");
        if std::env::var_os("SETTLED_UPDATE_DOCS").is_some() {
            std::fs::write(root().join(document), &current).expect("written");
        } else {
            assert!(text == current, "{document} is not current: run this test with SETTLED_UPDATE_DOCS=1");
        }
    }
}
