//! What the documents say is what the code does. What can be generated is: run this test with
//! `SETTLED_UPDATE_DOCS=1` to bring README.md and ARCHITECTURE.md up to date.

mod database;
mod generated;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use serde_json::Value;
use settled::contract::{DeadReason, EventKind, MAX_BODY_BYTES, PaymentState, Properties, Rejection, TaskType, decode};
use settled::telemetry::metrics;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn json(path: &str) -> Value {
    serde_json::from_str(&read(path)).expect("JSON")
}

/// The blocks of a language, without its fences.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    text.split(fence.as_str()).skip(1).filter_map(|block| block.split("```").next()).collect()
}

#[test]
fn the_examples_in_the_readme_are_of_the_contract() {
    let readme = read("README.md");
    let schema = |name: &str| jsonschema::draft202012::new(&json(name)).expect("a schema");
    let (task, event) = (schema("schemas/task.schema.json"), schema("schemas/event.schema.json"));
    let dead_letter = schema("schemas/dead-letter.schema.json");
    let events = blocks(&readme, "json");
    assert!(events.len() >= 3, "{events:?}");
    for block in events {
        let document: Value = serde_json::from_str(block).expect("JSON");
        let of = if document["state"] == "dead_lettered" { &dead_letter } else { &event };
        assert!(of.is_valid(&document), "{block}");
    }
    let mut types: Vec<TaskType> = Vec::new();
    let published = readme.lines().filter(|line| line.starts_with("{\"id\"") && line.ends_with('}'));
    for line in published {
        let document: Value = serde_json::from_str(line).expect("JSON");
        assert!(task.is_valid(&document), "{line}");
        let task =
            decode(line.as_bytes(), &Properties::default()).unwrap_or_else(|letter| panic!("{letter:?}: {line}"));
        types.push(task.body.task_type());
    }
    let missing: Vec<_> = TaskType::ALL.into_iter().filter(|each| !types.contains(each)).collect();
    assert!(missing.is_empty(), "README.md has no example of {missing:?}");
    assert!(readme.contains("64 KiB") && MAX_BODY_BYTES == 64 * 1024);
}

#[test]
fn the_example_of_a_configuration_is_one() {
    for block in blocks(&read("README.md"), "toml") {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), block).expect("written");
        settled::config::Config::load_with(Some(file.path()), &|_| None).expect("a configuration");
    }
}

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

#[test]
fn the_readme_knows_every_name_that_users_meet() {
    let readme = read("README.md");
    let mut names: Vec<String> = Vec::new();
    names.extend(TaskType::ALL.map(|task| task.name().to_owned()));
    names.extend(PaymentState::ALL.map(|state| state.name().to_owned()));
    names.extend(Rejection::ALL.map(|rejection| rejection.name().to_owned()));
    names.extend(DeadReason::ALL.map(|reason| reason.name().to_owned()));
    names.extend(EventKind::ALL.map(|kind| kind.name().to_owned()));
    names.extend(metrics::ALL.iter().map(|metric| metric.name.to_owned()));
    names.extend(generated::sample().into_iter().map(|key| key.name));
    names.extend(fields("schemas/task.schema.json"));
    names.extend(fields("schemas/event.schema.json"));
    names.extend(fields("schemas/dead-letter.schema.json"));
    names.extend(["SETTLED_AMQP_URI", "SETTLED_POSTGRES_URL", "SETTLED_ADMIN_LISTEN"].map(str::to_owned));
    let alerts = read("systemd/alerts.yml");
    names.extend(alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::to_owned));
    assert!(names.len() > 150, "{names:?}");
    let missing: Vec<_> = names.iter().filter(|name| !readme.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "README.md doesn't know {missing:?}");
}

#[test]
fn the_readme_knows_every_command_and_no_other() {
    let readme = read("README.md");
    let listed: Vec<(&str, Vec<&str>)> = readme
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

/// `pub mod` lines of `lib.rs`, those for tests among them, and the rows of the map.
#[test]
fn the_map_is_the_list_of_modules_in_its_order() {
    let library = read("src/lib.rs").replace("#[cfg(test)]\nmod ", "pub mod ");
    let modules: Vec<_> = library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let architecture = read("ARCHITECTURE.md");
    let map = architecture.split("\n## ").find(|section| section.starts_with("The map")).expect("a map");
    let rows: Vec<_> = map.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(rows, modules);
}

fn rust_files(directory: &Path, text: &mut String) {
    for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
        if entry.path().is_dir() {
            rust_files(&entry.path(), text);
        } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
            *text += &std::fs::read_to_string(entry.path()).expect("readable");
        }
    }
}

/// What ARCHITECTURE.md names with a path is there under that name.
#[test]
fn what_the_architecture_names_exists() {
    let mut source = String::new();
    rust_files(&root().join("src"), &mut source);
    let architecture = read("ARCHITECTURE.md");
    let mut checked = 0;
    for named in architecture.split('`').skip(1).step_by(2) {
        if named.contains("::") {
            let name = named.rsplit("::").next().unwrap_or_default();
            let name: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let kinds = ["fn", "struct", "enum", "trait", "mod", "const", "type"];
            // A variant, or an item.
            let there = kinds.iter().any(|kind| source.contains(&format!("{kind} {name}")))
                || source.contains(&format!("    {name} {{"))
                || source.contains(&format!("    {name},"));
            assert!(there, "ARCHITECTURE.md names `{named}`, which isn't there");
            checked += 1;
        } else if named.ends_with(".rs") || named.ends_with('/') {
            let there = [named.to_owned(), format!("src/{named}")].iter().any(|path| root().join(path).exists());
            assert!(there, "ARCHITECTURE.md names `{named}`, which isn't there");
            checked += 1;
        }
    }
    assert!(checked > 40, "only {checked} names were found");
}

fn anchors_of(text: &str) -> Vec<String> {
    let anchor = |heading: &str| -> String {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
    };
    text.lines().filter(|line| line.starts_with('#')).map(anchor).collect()
}

/// Files that exist, and headings that do.
#[test]
fn links_lead_somewhere() {
    for document in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"] {
        let text = read(document);
        let anchors = anchors_of(&text);
        for link in text.split("](").skip(1).filter_map(|link| link.split(')').next()) {
            match link.strip_prefix('#') {
                Some(heading) => assert!(anchors.iter().any(|each| each == heading), "{document}: {link}"),
                None if link.starts_with("https://") => {}
                None => {
                    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
                    assert!(root().join(file).exists(), "{document}: {link}");
                    assert!(heading.is_empty() || anchors_of(&read(file)).iter().any(|each| each == heading), "{link}");
                }
            }
        }
    }
}
