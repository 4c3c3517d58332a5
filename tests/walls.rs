//! The walls of the house, as ARCHITECTURE.md draws them: what may import what, and what is
//! nowhere. A file that has to be excepted is named here with its reason.

use std::path::{Path, PathBuf};

/// A source file: where it is below `src/`, all of it, and its code without comments and tests.
struct Source {
    path: String,
    text: String,
    code: String,
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file up to its tests, which stand last, without comments.
fn code_of(text: &str) -> String {
    let without_tests = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = without_tests.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&root, &mut found);
    found.sort();
    let sources: Vec<Source> = found
        .iter()
        .map(|path| {
            let text = std::fs::read_to_string(path).expect("readable");
            let path = path.strip_prefix(&root).expect("below src").display().to_string();
            Source { path, code: code_of(&text), text }
        })
        .filter(|source| !is_test(&source.path))
        .collect();
    assert!(sources.len() > 60, "only {} files were found", sources.len());
    sources
}

/// A module that exists for tests only.
fn is_test(path: &str) -> bool {
    let places = ["contract/schema", "simulation/", "store/batch/memory/"];
    path.ends_with("/tests.rs") || places.iter().any(|place| path.starts_with(place))
}

/// Whether `word` stands in `code` as a word, or as a part of one if it has other characters.
fn mentions(code: &str, word: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back().is_some_and(part);
        let after = code[at + word.len()..].chars().next().is_some_and(part);
        let longer = word.starts_with(part) && before || word.ends_with(part) && after;
        !longer
    })
}

/// Words that only the files below `allowed` may use; `allowed` has no place that doesn't.
#[track_caller]
fn only_in(words: &[&str], allowed: &[&str]) {
    let users: Vec<String> = sources()
        .into_iter()
        .filter(|source| words.iter().any(|word| mentions(&source.code, word)))
        .map(|source| source.path)
        .collect();
    let is_in = |path: &str, place: &str| path == place || place.ends_with('/') && path.starts_with(place);
    let trespassers: Vec<_> = users.iter().filter(|path| !allowed.iter().any(|place| is_in(path, place))).collect();
    assert!(trespassers.is_empty(), "{words:?} in {trespassers:?}, which is for {allowed:?} only");
    let idle: Vec<_> = allowed.iter().filter(|place| !users.iter().any(|path| is_in(path, place))).collect();
    assert!(idle.is_empty(), "{words:?} are no longer in {idle:?}: take them off the list");
}

#[test]
fn the_pure_parts_know_no_runtime_no_broker_no_database_and_no_clock() {
    let impure = [
        "tokio",
        "lapin",
        "tokio_postgres",
        "deadpool_postgres",
        "crate::store",
        "crate::broker",
        "SystemTime",
        "Timestamp::now",
        "Instant::now",
    ];
    for source in sources() {
        let pure = ["ledger/", "contract/", "retry/"].iter().any(|place| source.path.starts_with(place));
        let found = impure.iter().find(|word| pure && mentions(&source.code, word));
        assert!(found.is_none(), "{} mentions {found:?}", source.path);
    }
}

#[test]
fn only_the_store_speaks_to_postgresql() {
    only_in(
        &["tokio_postgres", "deadpool_postgres"],
        &[
            "store/",
            // The keys of the TLS mode, for a check across sections.
            "config/checks.rs",
            // Waits until the private server answers.
            "dev/",
        ],
    );
    let statements = ["SELECT ", "INSERT INTO", "UPDATE account", "UPDATE payment", "UPDATE outbox", "DELETE FROM"];
    only_in(
        &statements,
        &[
            "store/",
            // Recognises a batch by what it inserts, and sends nothing of its own.
            "dev/proxy/",
        ],
    );
}

#[test]
fn whatever_is_printed_for_people_is_escaped_in_one_place() {
    let prints = ["println", "print", "eprintln", "eprint", "dbg"].map(|name| format!("{name}!"));
    let mut words: Vec<&str> = prints.iter().map(String::as_str).collect();
    words.extend(["stdout()", "stderr()"]);
    only_in(
        &words,
        &[
            "cli/output.rs",
            // The error with which a verb ends.
            "cli/exit.rs",
            // Whether it is a terminal.
            "cli/run.rs",
            // To the process that has started the private servers.
            "dev/",
        ],
    );
    // The program's own text, which nobody else has put a word into.
    only_in(&["print_own"], &["cli/output.rs", "cli/completions.rs", "cli/config.rs", "cli/dev.rs"]);
}

#[test]
fn only_the_edges_speak_to_the_broker() {
    only_in(
        &["lapin::", "use lapin"],
        &[
            "intake/dead_queue.rs",
            "intake/difference.rs",
            "intake/message.rs",
            "intake/probe.rs",
            "intake/rabbitmq.rs",
            "intake/settings.rs",
            "intake/topology.rs",
            "outbox/rabbitmq.rs",
            "broker.rs",
            // Evidence of a dead letter, from and to lapin's types.
            "broker/headers.rs",
            // The stream that lapin reads from.
            "broker/inbound/transport.rs",
            "cli/publisher.rs",
        ],
    );
}

#[test]
fn the_environment_is_read_in_one_place() {
    // What systemd hands over is read by the `sd_notify` crate, for lifecycle/systemd.rs.
    only_in(&["sd_notify::"], &["lifecycle/systemd.rs"]);
    only_in(
        &["env::var", "env::var_os", "env::vars", "env::vars_os"],
        &[
            "config/mod.rs",
            // Where the servers' programs are: PATH.
            "dev/programs.rs",
        ],
    );
}

#[test]
fn signals_are_handled_in_one_place() {
    only_in(&["tokio::signal", "signal::unix"], &["lifecycle.rs", "dev/guardian.rs"]);
}

#[test]
fn one_module_knows_the_backoff_crate() {
    only_in(&["backoff::"], &["retry/"]);
}

#[test]
fn a_proof_of_commit_is_made_by_the_store_alone() {
    only_in(&["Proof(())"], &["store/batch/commit.rs"]);
}

#[test]
fn defects_are_where_they_have_to_be_and_in_no_build_that_does_not_ask_for_them() {
    only_in(
        &["sabotage"],
        &[
            "sabotage.rs",
            // The binary that chooses one.
            "sabotaged.rs",
            // The module, and what the version says.
            "lib.rs",
            // Reads its name from the environment.
            "config/mod.rs",
            // Tells the log.
            "daemon.rs",
            // Where the daemon goes wrong. A new place is a line here.
            "contract/message.rs",
            "intake/ack_window.rs",
            "intake/epoch.rs",
            "lanes/mod.rs",
            "outbox/keeper.rs",
            "outbox/relay/offer.rs",
            "ledger/apply.rs",
            "store/batch/commit.rs",
            "store/batch/decided.rs",
            "store/batch/events.rs",
            "store/batch/mod.rs",
            "store/batch/plan.rs",
            "store/batch/read.rs",
            "worker/mod.rs",
        ],
    );
    only_in(&["config::sabotage"], &["sabotaged.rs"]);
    only_in(&["fn forged", "Proof::forged"], &["sabotage.rs", "store/batch/mod.rs", "store/batch/commit.rs"]);
    let store = sources().into_iter().find(|source| source.path == "store/batch/commit.rs").expect("the commit");
    let makes_proofs = |code: &str| code.contains("impl Proof {");
    // Neither those of a broken daemon nor those of the tables in memory are in a build for users.
    let cut = |code: &str, only: &str| code.replace(&format!("#[cfg({only})]\nimpl Proof {{"), "");
    let without = cut(&cut(&store.code, "feature = \"sabotage\""), "test");
    assert!(makes_proofs(&store.code) && !makes_proofs(&without), "a proof is forged in honest builds");

    let manifest: toml::Table = include_str!("../Cargo.toml").parse().expect("TOML");
    let features = manifest["features"].as_table().expect("features");
    // Nothing of ours: only what the tests' libraries have anyway.
    let of_libraries = ["tokio/test-util", "serde_json/alloc", "serde_json/float_roundtrip"];
    let of_libraries = toml::Value::Array(of_libraries.map(toml::Value::from).to_vec());
    assert_eq!((features.get("default"), features.get("sabotage")), (None, Some(&of_libraries)));
    let binaries = manifest["bin"].as_array().expect("binaries").iter();
    let mut sabotaged = binaries.filter(|binary| binary["path"].as_str() == Some("src/sabotaged.rs"));
    let required = sabotaged.next().and_then(|binary| binary.get("required-features"));
    assert_eq!(required, Some(&toml::Value::Array(vec!["sabotage".into()])));
}

#[test]
fn what_nobody_wants_to_find_is_nowhere() {
    for source in sources() {
        for word in ["unsafe", "todo!", "unimplemented!", "dbg!"] {
            assert!(!mentions(&source.code, word), "{} mentions {word}", source.path);
        }
        // In comments and tests, too. In quotes it is the code of ISO 4217 for no currency.
        let text = source.text.replace("\"XXX\"", "");
        for word in ["TODO", "FIXME", "XXX"] {
            assert!(!mentions(&text, word), "{} mentions {word}", source.path);
        }
    }
}

#[test]
fn files_are_short() {
    const MOST: usize = 300;
    /// Longer, and why.
    const EXCEPTED: &[(&str, &str)] = &[];
    for source in sources() {
        let lines = source.code.lines().filter(|line| !line.trim().is_empty()).count();
        let excepted = EXCEPTED.iter().any(|(path, _)| *path == source.path);
        assert!(
            lines <= MOST || excepted,
            "{} has {lines} lines of code, at most {MOST} are read with ease",
            source.path
        );
        assert!(lines > MOST || !excepted, "{} is short enough: take it off the list", source.path);
    }
}
