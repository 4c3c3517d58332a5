//! The JSON Schema of `summary.json`, for those who read it by program: made from the types,
//! kept in `schemas/`. Nothing of this is in the binary.

use std::path::Path;

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::fixture;
use super::folder::summary_to_json;
use super::model::{SCHEMA_VERSION, Summary};

fn schema() -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Summary>().to_value();
    schema["properties"]["schema_version"]["const"] = json!(SCHEMA_VERSION);
    schema
}

#[test]
fn the_file_is_what_the_types_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/loadtest-summary.schema.json");
    let text = serde_json::to_string_pretty(&schema()).expect("a schema is JSON") + "\n";
    if std::env::var_os("SETTLED_UPDATE_SCHEMAS").is_some() {
        std::fs::write(&path, &text).expect("written");
    }
    let file = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(file == text, "{} is not current: run this test with SETTLED_UPDATE_SCHEMAS=1", path.display());
}

#[test]
fn every_summary_fits_the_schema() {
    let validator = jsonschema::draft202012::new(&schema()).expect("a schema");
    for results in [fixture::good_run(), fixture::drain(), fixture::nothing(), fixture::failed_run()] {
        let json = summary_to_json(&results.summary).expect("JSON");
        let value = serde_json::from_slice(&json).expect("JSON");
        assert!(validator.is_valid(&value), "{:?}", validator.validate(&value));
    }
}

#[test]
fn a_summary_of_another_version_or_without_a_figure_does_not_fit() {
    let validator = jsonschema::draft202012::new(&schema()).expect("a schema");
    let good = serde_json::to_value(fixture::good_run().summary).expect("JSON");
    for (field, wrong) in [("schema_version", json!(2)), ("lost", json!(-1)), ("duration_s", json!(null))] {
        let mut bad = good.clone();
        bad[field] = wrong;
        assert!(!validator.is_valid(&bad), "{field}");
        bad.as_object_mut().expect("an object").remove(field);
        assert!(!validator.is_valid(&bad), "without {field}");
    }
}

/// A field without a description has no unit.
#[test]
fn every_field_is_described() {
    let schema = schema();
    let types = schema["$defs"].as_object().expect("types").values().chain([&schema]);
    for properties in types.filter_map(|each| each["properties"].as_object()) {
        for (name, property) in properties {
            assert!(property["description"].is_string(), "{name}");
        }
    }
}
