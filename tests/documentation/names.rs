//! Every name that users meet is explained where its readers look for it.

use std::collections::BTreeSet;

use clap::CommandFactory;
use serde_json::Value;
use settled_core::contract::{DeadReason, EventKind, PaymentState, Rejection, TaskType};
use settled_pipeline::metrics;

use super::{json, part, read, reference};

/// The names of all properties of a schema.
fn fields(schema: &str) -> BTreeSet<String> {
    fn collect(value: &Value, names: &mut BTreeSet<String>) {
        let Some(object) = value.as_object() else {
            value.as_array().into_iter().flatten().for_each(|each| collect(each, names));
            return;
        };
        names.extend(
            object.get("properties").and_then(Value::as_object).into_iter().flat_map(|all| all.keys().cloned()),
        );
        object.values().for_each(|each| collect(each, names));
    }
    let mut names = BTreeSet::new();
    collect(&json(schema), &mut names);
    names
}

#[track_caller]
fn all_in(directory: &str, names: &[String], at_least: usize) {
    assert!(names.len() >= at_least, "{names:?}");
    let text = part(directory);
    let missing: Vec<_> = names.iter().filter(|name| !text.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "{directory} doesn't know {missing:?}");
}

#[test]
fn the_contract_knows_every_name_on_the_wire() {
    let mut names: Vec<String> = Vec::new();
    names.extend(TaskType::ALL.map(|task| task.name().to_owned()));
    names.extend(PaymentState::ALL.map(|state| state.name().to_owned()));
    names.extend(Rejection::ALL.map(|rejection| rejection.name().to_owned()));
    names.extend(DeadReason::ALL.map(|reason| reason.name().to_owned()));
    names.extend(EventKind::ALL.map(|kind| kind.name().to_owned()));
    names.extend(fields("schemas/task.schema.json"));
    names.extend(fields("schemas/event.schema.json"));
    names.extend(fields("schemas/dead-letter.schema.json"));
    all_in("docs/contract/", &names, 120);
}

#[test]
fn the_reference_knows_every_metric_and_every_key() {
    let mut names: Vec<String> = metrics::ALL.iter().map(|metric| metric.name.to_owned()).collect();
    names.extend(reference::sample().into_iter().map(|key| key.name));
    all_in("docs/reference/", &names, 90);
}

#[test]
fn operators_are_told_of_every_variable() {
    let names = ["SETTLED_AMQP_URI", "SETTLED_POSTGRES_URL", "SETTLED_ADMIN_LISTEN"].map(str::to_owned);
    all_in("docs/operate/", &names, 3);
}

#[test]
fn the_reference_knows_every_command_and_no_other() {
    let reference = read("docs/reference/command-line.md");
    let listed: Vec<(&str, Vec<&str>)> = reference
        .lines()
        .filter_map(|line| line.strip_prefix("| `settled ")?.split('`').next())
        .map(|command| command.split_once(' ').unwrap_or((command, "")))
        .map(|(verb, rest)| {
            (verb, rest.split("\\|").filter(|word| word.chars().all(|c| c.is_ascii_lowercase())).collect())
        })
        .collect();
    let cli = settled::cli::Cli::command();
    let mut known = 0;
    for verb in cli.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        let (_, below) = listed.iter().find(|(name, _)| *name == verb.get_name()).unwrap_or_else(|| panic!("{verb}"));
        let real: Vec<_> = verb.get_subcommands().map(|each| each.get_name()).filter(|name| *name != "help").collect();
        let below: Vec<_> = below.iter().copied().filter(|word| !word.is_empty()).collect();
        assert_eq!(below, real, "below `settled {verb}`");
        known += 1;
    }
    assert_eq!(listed.len(), known, "{listed:?}");
}
