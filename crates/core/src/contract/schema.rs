//! The JSON Schemas and the AsyncAPI document of `schemas/`: what the contract says, for machines.
//!
//! The types here only describe; their bounds are the contract's own constants, and the tests
//! prove that a schema and the code agree. Nothing of this is in the binary.
#![allow(dead_code, reason = "types that only describe")]

mod asyncapi;
mod task;
mod tests;
pub(super) mod values;

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema};
use serde_json::Value;

/// The schema of what is written as a `T`.
fn schema_of<T: JsonSchema>() -> Schema {
    let mut schema = SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>();
    RecursiveTransform(unwrap_lines).transform(&mut schema);
    RecursiveTransform(without_unsigned_formats).transform(&mut schema);
    schema
}

/// What the documentation of a value of the enum `T` says of it.
fn meaning<T: JsonSchema>(name: &str) -> Value {
    let schema = schema_of::<T>();
    let alternatives = schema.get("oneOf").and_then(Value::as_array).expect("one a value");
    let own = alternatives.iter().find(|each| each["const"] == name).expect("every value is named");
    own["description"].clone()
}

/// Whether a document is a task, by the schema alone.
pub(super) fn task_validator() -> jsonschema::Validator {
    tests::validator::<task::Task>()
}

/// Tasks of all types, each with the least that its type asks for and with all that it can have.
pub(super) fn task_documents() -> Vec<Value> {
    tests::tasks::documents()
}

/// Validators that are strict refuse formats that they don't know, and few know those of unsigned numbers: their bounds
/// say the same.
fn without_unsigned_formats(schema: &mut Schema) {
    let most = match schema.get("format").and_then(Value::as_str) {
        Some("uint8") => u8::MAX.into(),
        Some("uint32") => u32::MAX.into(),
        _ => return,
    };
    schema.remove("format");
    let schema = schema.ensure_object();
    schema.entry("maximum").or_insert(most);
}

/// The lines of a doc comment end where the source's do: only its paragraphs mean something.
fn unwrap_lines(schema: &mut Schema) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect::<Vec<_>>().join("\n\n");
    }
}
