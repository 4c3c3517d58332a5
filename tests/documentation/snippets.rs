//! The examples in the documents are accepted by the schemas, by the decoder and by the configuration.

use serde_json::Value;
use settled_core::contract::{MAX_BODY_BYTES, Properties, TaskType, decode};

use super::{blocks, json, part, read};

#[test]
fn examples_of_events_and_dead_letters_are_valid() {
    let schema = |name: &str| jsonschema::draft202012::new(&json(name)).expect("a schema");
    let event = schema("schemas/event.schema.json");
    let dead_letter = schema("schemas/dead-letter.schema.json");
    let contract = part("docs/contract/");
    let (mut events, mut dead_letters) = (0, 0);
    for block in blocks(&contract, "json") {
        let document: Value = serde_json::from_str(block).expect("JSON");
        let is_dead_letter = document["state"] == "dead_lettered";
        let (of, count) = if is_dead_letter { (&dead_letter, &mut dead_letters) } else { (&event, &mut events) };
        assert!(of.is_valid(&document), "{block}");
        *count += 1;
    }
    assert!(events >= 3 && dead_letters >= 1, "{events} events and {dead_letters} dead letters were found");
}

#[test]
fn every_type_of_task_has_an_example_that_decodes() {
    let schema = jsonschema::draft202012::new(&json("schemas/task.schema.json")).expect("a schema");
    let text = read("README.md") + &part("docs/contract/") + &part("docs/operate/");
    let mut types: Vec<TaskType> = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("{\"id\"") && line.ends_with('}')) {
        let document: Value = serde_json::from_str(line).expect("JSON");
        assert!(schema.is_valid(&document), "{line}");
        let task =
            decode(line.as_bytes(), &Properties::default()).unwrap_or_else(|letter| panic!("{letter:?}: {line}"));
        types.push(task.body.task_type());
    }
    let missing: Vec<_> = TaskType::ALL.into_iter().filter(|each| !types.contains(each)).collect();
    assert!(missing.is_empty(), "docs/contract has no example of {missing:?}");
}

#[test]
fn the_limit_of_a_body_is_the_documented_one() {
    assert!(read("docs/contract/tasks.md").contains("64 KiB") && MAX_BODY_BYTES == 64 * 1024);
}

#[test]
fn examples_of_configurations_load() {
    let text = read("README.md") + &part("docs/");
    let examples = blocks(&text, "toml");
    assert!(examples.len() >= 2, "{examples:?}");
    for block in examples {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), block).expect("written");
        settled::config::Config::load_with(Some(file.path()), &|_| None)
            .unwrap_or_else(|error| panic!("{error}:\n{block}"));
    }
}
