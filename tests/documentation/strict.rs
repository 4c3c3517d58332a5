//! The schemas, read by a validator that is strict: ajv, which many publishers use.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{part, read, root};

/// Each task of the documents, and each with a field that is wrong.
fn tasks() -> (Vec<Value>, Vec<Value>) {
    let text = read("README.md") + &part("docs/contract/");
    let lines = text.lines().filter(|line| line.starts_with("{\"id\"") && line.ends_with('}'));
    let good: Vec<Value> = lines.map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let spoiled = |task: &Value| -> Vec<Value> {
        let fields = task.as_object().expect("an object").keys().map(String::as_str).chain(["colour"]);
        let spoil = |field: &str| {
            let mut task = task.clone();
            task[field] = json!({ "wrong": true });
            task
        };
        fields.map(spoil).collect()
    };
    let bad = good.iter().flat_map(spoiled).collect();
    (good, bad)
}

#[test]
fn a_strict_validator_takes_the_schemas_and_says_once_what_is_wrong() {
    if !Command::new("npm").arg("--version").output().is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: node and npm are not installed, so the schemas were not read by ajv");
        return;
    }
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ajv");
    std::fs::create_dir_all(&place).expect("a directory");
    std::fs::copy(root().join("tests/documentation/strict.mjs"), place.join("strict.mjs")).expect("copied");
    let mut npm = Command::new("npm");
    let npm = npm.args(["install", "--no-package-lock", "--no-audit", "--no-fund", "--prefer-offline", "--prefix"]);
    let installed = npm.arg(&place).args(["ajv@8.20.0", "ajv-formats@3.0.1"]).output().expect("npm");
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let (good, bad) = tasks();
    let mut node = Command::new("node")
        .arg(place.join("strict.mjs"))
        .arg(root().join("schemas"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node");
    let lines: String = good.iter().chain(&bad).map(|task| format!("{task}\n")).collect();
    // Its answers are so short that they fit into the pipe.
    node.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("written");
    let output = node.wait_with_output().expect("its answers");
    assert!(output.status.success(), "a schema is not taken");
    let errors: Vec<usize> =
        String::from_utf8_lossy(&output.stdout).lines().map(|line| line.parse().expect("a number")).collect();
    assert_eq!(errors.len(), good.len() + bad.len());
    let (of_good, of_bad) = errors.split_at(good.len());
    assert!(good.len() > 10 && of_good.iter().all(|errors| *errors == 0), "{of_good:?}");
    for (task, errors) in bad.iter().zip(of_bad) {
        assert_eq!(*errors, 1, "{task}");
    }
}
