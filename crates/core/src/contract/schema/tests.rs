mod dead_letters;
mod events;
pub(super) mod tasks;

use std::path::Path;

use jsonschema::Validator;
use serde::Serialize;

use super::task::Task;
use super::*;
use crate::contract::event::{DeadLetterData, EventData};

/// Formats included: a date has to exist.
pub(super) fn validator<T: JsonSchema>() -> Validator {
    let options = jsonschema::draft202012::options().should_validate_formats(true);
    options.build(schema_of::<T>().as_value()).expect("a schema")
}

#[test]
fn the_files_are_what_the_types_say() {
    let files = [
        ("task.schema", pretty(&schema_of::<Task>())),
        ("event.schema", pretty(&schema_of::<EventData<'_>>())),
        ("dead-letter.schema", pretty(&schema_of::<DeadLetterData<'_>>())),
        ("asyncapi", pretty(&asyncapi::document())),
    ];
    for (name, text) in files {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../schemas/{name}.json"));
        if std::env::var_os("SETTLED_UPDATE_SCHEMAS").is_some() {
            std::fs::write(&path, &text).expect("written");
        }
        let file = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(file == text, "{} is not current: run this test with SETTLED_UPDATE_SCHEMAS=1", path.display());
    }
}

fn pretty(document: &impl Serialize) -> String {
    serde_json::to_string_pretty(document).expect("plain JSON") + "\n"
}
