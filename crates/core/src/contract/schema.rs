//! The JSON Schemas and the AsyncAPI document of `schemas/`: what the contract says, for machines.
//!
//! The types here only describe; their bounds are the contract's own constants, and the tests
//! prove that a schema and the code agree. Nothing of this is in the binary.
#![allow(dead_code, reason = "types that only describe")]

mod asyncapi;
mod dead_letter;
mod event;
mod task;
mod tests;
mod values;

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema};
use serde_json::Value;

/// The schema of what is written as a `T`.
fn schema_of<T: JsonSchema>() -> Schema {
    let mut schema = SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>();
    RecursiveTransform(unwrap_lines).transform(&mut schema);
    schema
}

/// Whether a document is a task, by the schema alone.
pub(super) fn task_validator() -> jsonschema::Validator {
    tests::validator::<task::Task>()
}

/// The lines of a doc comment end where the source's do: only its paragraphs mean something.
fn unwrap_lines(schema: &mut Schema) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect::<Vec<_>>().join("\n\n");
    }
}
