//! The JSON Schema of `summary.json` and the tables of `docs/loadtest.md`, for those who read
//! results: made from the types. Nothing of this is in the binary.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use super::fixture;
use super::folder::{series_to_csv, summary_to_json};
use super::model::{SCHEMA_VERSION, Sample, Summary};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn schema_of<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>().to_value()
}

fn schema() -> Value {
    let mut schema = schema_of::<Summary>();
    schema["properties"]["schema_version"]["const"] = json!(SCHEMA_VERSION);
    schema
}

#[test]
fn the_file_is_what_the_types_say() {
    let path = root().join("schemas/loadtest-summary.schema.json");
    // As a schema it is written with its title first.
    let schema = Schema::try_from(schema()).expect("a schema");
    let text = serde_json::to_string_pretty(&schema).expect("a schema is JSON") + "\n";
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

/// The rows of a table of fields.
struct Rows {
    schema: Value,
    /// Where the fields of a type are listed, so that they are only once.
    listed: BTreeMap<String, String>,
    text: String,
}

impl Rows {
    /// A row for each field of a type, those of types within it too, in the order in which they
    /// are written.
    fn add(&mut self, part: &Value, prefix: &str) {
        for name in part["required"].as_array().expect("all are always there").iter().filter_map(Value::as_str) {
            let property = &part["properties"][name];
            let meaning = property["description"].as_str().expect("described").replace('\n', " ");
            let _ = write!(self.text, "| `{prefix}{name}` | {meaning}");
            match inner(property) {
                Some((reference, brackets)) => self.add_inner(reference, &format!("{prefix}{name}{brackets}")),
                None => self.text += " |\n",
            }
        }
    }

    fn add_inner(&mut self, reference: &str, place: &str) {
        if let Some(listed) = self.listed.get(reference) {
            let _ = writeln!(self.text, " Fields as those of `{listed}`. |");
            return;
        }
        self.listed.insert(reference.to_owned(), place.to_owned());
        self.text += " |\n";
        let part = self.schema.pointer(reference.trim_start_matches('#')).expect("a type").clone();
        self.add(&part, &format!("{place}."));
    }
}

/// The type that a field refers to, and what says that it has a list of it.
fn inner(property: &Value) -> Option<(&str, &'static str)> {
    let nullable = property["anyOf"].as_array().and_then(|any| any.iter().find_map(|each| each["$ref"].as_str()));
    let single = property["$ref"].as_str().or(nullable).map(|reference| (reference, ""));
    single.or_else(|| Some((property["items"]["$ref"].as_str()?, "[]")))
}

fn table(name: &str) -> String {
    let (schema, heading) = match name {
        "summary" => (schema(), "field"),
        "series" => (schema_of::<Sample>(), "column"),
        other => panic!("no block is called {other:?}"),
    };
    let text = format!("| {heading} | |\n|---|---|\n");
    let mut rows = Rows { schema: schema.clone(), listed: BTreeMap::new(), text };
    rows.add(&schema, "");
    rows.text
}

#[test]
fn the_document_says_what_the_types_say() {
    let path = root().join("docs/loadtest.md");
    let document = std::fs::read_to_string(&path).expect("docs/loadtest.md");
    let mut current = String::new();
    let mut rest = document.as_str();
    for name in ["summary", "series"] {
        let begin = format!("<!-- generated: {name} -->\n");
        let (before, after) = rest.split_once(&begin).expect("a block");
        let (_, after) = after.split_once("<!-- end -->").expect("its end");
        current += &format!("{before}{begin}{}<!-- end -->", table(name));
        rest = after;
    }
    current += rest;
    if std::env::var_os("SETTLED_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &current).expect("written");
    } else {
        assert!(document == current, "docs/loadtest.md is not current: run this test with SETTLED_UPDATE_DOCS=1");
    }
}

#[test]
fn the_columns_of_the_document_are_those_of_the_file() {
    let table = table("series");
    let documented: Vec<&str> = table.lines().skip(2).filter_map(|row| row.split('`').nth(1)).collect();
    let csv = String::from_utf8(series_to_csv(&[]).expect("CSV")).expect("text");
    assert_eq!(documented, csv.trim_end().split(',').collect::<Vec<_>>());
}
