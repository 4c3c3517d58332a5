//! What a shell sees of the binary: exit codes, and where the output goes. Needs no server.

use std::fs;
use std::process::{Command, Output, Stdio};

fn settled(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_settled"));
    command.args(args).stdin(Stdio::null());
    for variable in ["SETTLED_AMQP_URI", "SETTLED_POSTGRES_URL", "SETTLED_ADMIN_LISTEN", "CREDENTIALS_DIRECTORY"] {
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

/// A directory like /etc/settled: a configuration without passwords, and the file of secrets of the unit.
fn installed(secrets: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("settled.toml"), "[broker]\nqueue = \"mine\"\n").unwrap();
    fs::write(directory.path().join("settled.env"), secrets).unwrap();
    directory
}

#[test]
fn a_credential_with_the_name_of_a_key_is_the_file_of_that_key() {
    let credentials = tempfile::tempdir().unwrap();
    let names = [
        "broker.password_file",
        "broker.tls_cert_file",
        "broker.tls_key_file",
        "postgres.password_file",
        "postgres.tls_ca_file",
    ];
    for name in names {
        fs::write(credentials.path().join(name), "secret\n").unwrap();
    }
    // Of another program, and a secret without a key of its own.
    fs::write(credentials.path().join("admin.listen"), "secret\n").unwrap();
    let file = file("[broker]\nuris = [\"amqps://u@h\"]\n[postgres]\npassword_file = \"/of/the/file\"\n");
    let mut command = settled(&["config", "--json", "--config"]);
    let command = command.arg(file.path()).env("CREDENTIALS_DIRECTORY", credentials.path());
    let (code, out, err) = run(command);
    assert_eq!((code, err.as_str()), (0, ""));
    let values: Vec<serde_json::Value> = serde_json::from_str(&out).unwrap();
    for name in names {
        let (path, found) = (credentials.path().join(name), values.iter().find(|each| each["key"] == name).unwrap());
        assert_eq!(found["value"], path.to_str().unwrap(), "{found}");
        assert_eq!(found["origin"], format!("credential {}", path.display()), "{found}");
    }
    let from_credentials = out.matches("credential ").count();
    assert_eq!(from_credentials, names.len(), "{out}");
    // Their contents are checked as those of other files are.
    let mut command = settled(&["check", "--config"]);
    let (code, _, err) = run(command.arg(file.path()).env("CREDENTIALS_DIRECTORY", credentials.path()));
    let authorities = credentials.path().join("postgres.tls_ca_file");
    assert_eq!(code, 78, "{err}");
    assert!(err.contains(authorities.to_str().unwrap()) && err.contains("expected certificates"), "{err}");
}

const SECRETS: &str = "# The servers\nSETTLED_AMQP_URI=amqp://u:ge$heim@127.0.0.1:1\n\
    SETTLED_POSTGRES_URL=\"postgresql://u:geheim@127.0.0.1:1/db\"\nRUST_LOG=info\n";

/// The origins of the connections in the report of `check`.
fn origins(command: &mut Command) -> (String, String) {
    let (code, out, err) = run(command);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let of = |key: &str| {
        let mut found = report["connections"].as_array().unwrap().iter();
        found.find(|each| each["key"] == key).unwrap()["origin"].as_str().unwrap().to_owned()
    };
    (of("broker.uris"), of("postgres.url"))
}

#[test]
fn a_command_beside_the_service_uses_its_servers_and_says_which() {
    let directory = installed(SECRETS);
    let (config, env) = (directory.path().join("settled.toml"), directory.path().join("settled.env"));
    let of_file = |line: u32| format!("env file {}:{line}", env.display());
    let check = || {
        let mut command = settled(&["check", "--json", "--config"]);
        command.arg(&config);
        command
    };
    assert_eq!(origins(&mut check()), (of_file(2), of_file(3)));
    // The process's own environment goes first, then credentials.
    let credentials = tempfile::tempdir().unwrap();
    let credential = credentials.path().join("SETTLED_POSTGRES_URL");
    fs::write(&credential, "postgresql://credential/db\n").unwrap();
    let both = origins(check().env("SETTLED_AMQP_URI", "amqp://h").env("CREDENTIALS_DIRECTORY", credentials.path()));
    assert_eq!(both, ("env SETTLED_AMQP_URI".to_owned(), format!("credential {}", credential.display())));
    for arguments in [&["audit"][..], &["payment", "list"], &["publish"]] {
        for json in [false, true] {
            let mut command = settled(arguments);
            command.arg("--config").arg(&config).args(json.then_some("--json"));
            let task = file(
                r#"{"id": "019a5b1e-7c00-7000-8000-000000000001", "type": "transfer", "debit_account": "a", "credit_account": "b", "amount": 1, "currency": "USD"}"#,
            );
            if arguments == ["publish"] {
                command.arg(task.path());
            }
            let (code, _, err) = run(&mut command);
            assert_eq!(code, 69, "{err}");
            let using = err.lines().next().unwrap();
            assert!(using.contains(config.to_str().unwrap()) && using.contains("127.0.0.1:1"), "{using}");
            assert!(using.contains("env file") && !err.contains("heim"), "{err}");
            if json {
                let using: serde_json::Value = serde_json::from_str(using).unwrap();
                assert_eq!(using["using"]["configuration"], config.to_str().unwrap());
            }
        }
    }
}

#[test]
fn servers_that_nobody_has_configured_are_told() {
    let directory = installed("");
    let config = directory.path().join("settled.toml");
    let (code, out, _) = run(settled(&["check", "--config"]).arg(&config));
    assert_eq!(code, 0);
    for key in ["broker.uris", "postgres.url"] {
        assert!(out.contains(&format!("warning: {key} is the default")), "{out}");
    }
}

#[test]
fn secrets_that_cannot_be_read_are_told_with_what_to_do() {
    let directory = installed("");
    let (config, env) = (directory.path().join("settled.toml"), directory.path().join("settled.env"));
    // Root may read whatever its mode says, but no directory.
    fs::remove_file(&env).unwrap();
    fs::create_dir(&env).unwrap();
    for arguments in [&["check"][..], &["audit"], &["payment", "list"]] {
        let (code, out, err) = run(settled(arguments).arg("--config").arg(&config));
        assert_eq!((code, out.as_str()), (78, ""));
        assert!(err.contains(env.to_str().unwrap()) && err.contains("sudo") && err.contains("group"), "{err}");
    }
    let (code, out, err) = run(settled(&["config", "--config"]).arg(&config));
    assert!(code == 0 && out.contains("broker.queue") && err.contains("incomplete"), "{err}");
    let without = run(settled(&["check", "--env-file", "/dev/null", "--config"]).arg(&config));
    assert_eq!(without.0, 0);
    // Who names both servers needs nothing of the service's.
    let mut own = settled(&["check", "--config"]);
    own.arg(&config).env("SETTLED_AMQP_URI", "amqp://h").env("SETTLED_POSTGRES_URL", "postgresql://h/db");
    assert_eq!(run(&mut own).0, 0);
}

#[test]
fn a_mistake_in_the_file_of_secrets_names_its_line() {
    let directory = installed("SETTLED_AMQP_URL=amqp://u:geheim@h\nexport SETTLED_POSTGRES_URL=x\n");
    let (code, _, err) = run(settled(&["check", "--config"]).arg(directory.path().join("settled.toml")));
    assert_eq!(code, 78);
    assert!(err.contains("settled.env:1") && err.contains("did you mean `SETTLED_AMQP_URI`"), "{err}");
    assert!(err.contains("settled.env:2") && !err.contains("geheim"), "{err}");
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
