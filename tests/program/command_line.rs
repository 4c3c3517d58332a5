//! What a shell sees of the binary: exit codes, and where the output goes. Needs no server.

use std::fs;
use std::process::{Command, Output, Stdio};

fn settled(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_settled"));
    command.args(args).stdin(Stdio::null());
    for variable in ["SETTLED_AMQP_URI", "SETTLED_POSTGRES_URL", "SETTLED_ADMIN_LISTEN"] {
        command.env_remove(variable);
    }
    command
}

fn run(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().expect("an exit code"), text(stdout), text(stderr))
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn a_valid_configuration_ends_with_0() {
    let file = file("[broker]\nqueue = \"mine\"\n");
    let path = file.path().to_str().unwrap();
    let (code, out, err) = run(&mut settled(&["check", "--config", path]));
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("is valid"), "{out}");
    let (code, out, _) = run(&mut settled(&["--config", path, "config"]));
    assert_eq!(code, 0);
    assert!(out.lines().any(|line| line.contains("broker.queue") && line.contains(":2")), "{out}");
}

#[test]
fn a_bad_configuration_ends_with_78_and_says_why() {
    let file = file("[broker]\nprefech = 1\n");
    let path = file.path().to_str().unwrap();
    let (code, out, err) = run(&mut settled(&["check", "--config", path]));
    assert_eq!((code, out.as_str()), (78, ""));
    assert!(err.starts_with("settled: error: ") && err.contains(&format!("{path}:2: broker.prefech")), "{err}");
    let (code, out, err) = run(&mut settled(&["check", "--json", "--config", path]));
    assert_eq!((code, err.as_str()), (78, ""));
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["ok"], false);
    assert_eq!(report["problems"][0]["key"], "broker.prefech");
    let (code, _, err) = run(&mut settled(&["run", "--config", path]));
    assert_eq!(code, 78);
    for part in [path, "broker.prefech", "did you mean", "prefetch"] {
        assert!(err.contains(part), "{part:?} is not in {err}");
    }
    for verb in [&["config"][..], &["check", "--json"]] {
        let (code, ..) = run(settled(verb).args(["--config", "/nowhere/settled.toml"]));
        assert_eq!(code, 78, "{verb:?}");
    }
}

#[test]
fn a_command_line_that_is_not_understood_ends_with_2() {
    assert_eq!(run(&mut settled(&["frobnicate"])).0, 2);
    assert_eq!(run(&mut settled(&[])).0, 2);
}

#[test]
fn a_server_that_is_not_there_ends_with_69() {
    // Nothing listens on port 1.
    let mut command = settled(&["check", "--connect", "--json"]);
    command.env("SETTLED_AMQP_URI", "amqp://u:geheim@127.0.0.1:1");
    command.env("SETTLED_POSTGRES_URL", "postgresql://u:geheim@127.0.0.1:1/db");
    let (code, out, err) = run(&mut command);
    assert_eq!((code, err.as_str()), (69, ""));
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let states: Vec<_> = report["servers"].as_array().unwrap().iter().map(|server| &server["ok"]).collect();
    assert_eq!(states, [false, false]);
    assert!(!out.contains("geheim"), "{out}");
}

#[test]
fn passwords_are_not_printed() {
    let mut command = settled(&["config", "--json"]);
    command.env("SETTLED_AMQP_URI", "amqp://u:geheim@h");
    command.env("SETTLED_POSTGRES_URL", "postgresql://u:geheim@h/db?password=geheim");
    let (code, out, err) = run(&mut command);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("u:***@h") && !out.contains("geheim"), "{out}");
}

#[test]
fn a_reader_that_goes_away_is_not_an_error() {
    for args in [&["completions", "bash"][..], &["config"], &["config", "--sample"]] {
        let mut child = settled(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{args:?}");
    }
}

#[test]
fn the_sample_is_a_valid_configuration() {
    let (code, sample, _) = run(&mut settled(&["config", "--sample"]));
    assert_eq!(code, 0);
    let file = file(&sample);
    assert_eq!(run(settled(&["check", "--config"]).arg(file.path())).0, 0);
}
