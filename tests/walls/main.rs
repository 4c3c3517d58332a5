//! The walls of the house, as ARCHITECTURE.md draws them: what may import what, and what is
//! nowhere. A file that has to be excepted is named here with its reason.

mod circles;
mod manifests;
mod paths;
mod sources;

use sources::{Source, sources, sources_of};

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

/// Asserts that only the files below `allowed` use `words`, and that each place in `allowed` does.
#[track_caller]
fn only_in(words: &[&str], allowed: &[&str]) {
    only_in_of(&sources(), words, allowed);
}

/// The same for the crates of the shipped binary alone.
#[track_caller]
fn in_the_product_only_in(words: &[&str], allowed: &[&str]) {
    let product: Vec<Source> = sources().into_iter().filter(Source::is_product).collect();
    only_in_of(&product, words, allowed);
}

#[track_caller]
fn only_in_of(sources: &[Source], words: &[&str], allowed: &[&str]) {
    let users: Vec<&str> = sources
        .iter()
        .filter(|source| words.iter().any(|word| mentions(&source.code, word)))
        .map(|source| source.path.as_str())
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
        "settled_pipeline",
        "settled_store",
        "settled_amqp",
        "SystemTime",
        "Timestamp::now",
        "Instant::now",
    ];
    // The ledger's tests read what is written of it.
    let outside = ["std::fs", "std::env", "std::net", "std::process"];
    for source in sources() {
        let pure =
            ["crates/core/src/", "crates/pipeline/src/retry/"].iter().any(|place| source.path.starts_with(place));
        let found = impure.iter().find(|word| pure && mentions(&source.code, word));
        assert!(found.is_none(), "{} mentions {found:?}", source.path);
        let found = outside.iter().find(|word| pure && mentions(&source.code, word));
        assert!(found.is_none() || source.path.contains("/tests/"), "{} mentions {found:?}", source.path);
    }
}

#[test]
fn only_the_store_speaks_to_postgresql() {
    in_the_product_only_in(
        &["tokio_postgres", "deadpool_postgres"],
        &[
            "crates/store/src/",
            // The keys of the TLS mode, for a check across sections.
            "src/config/checks.rs",
            // Waits until the private server answers.
            "src/dev/",
        ],
    );
    let statements = ["SELECT ", "INSERT INTO", "UPDATE account", "UPDATE payment", "UPDATE outbox", "DELETE FROM"];
    in_the_product_only_in(&statements, &["crates/store/src/"]);
}

#[test]
fn whatever_is_printed_for_people_is_escaped_in_one_place() {
    let prints = ["println", "print", "eprintln", "eprint", "dbg"].map(|name| format!("{name}!"));
    let mut words: Vec<&str> = prints.iter().map(String::as_str).collect();
    words.extend(["stdout()", "stderr()"]);
    in_the_product_only_in(
        &words,
        &[
            "src/cli/output.rs",
            // The error with which a verb ends.
            "src/cli/exit.rs",
            // Whether it is a terminal.
            "src/cli/run.rs",
            "src/cli/top/screen.rs",
            // To the process that has started the private servers.
            "src/dev/",
        ],
    );
    // The program's own text, which nobody else has put a word into.
    only_in(&["print_own"], &["src/cli/output.rs", "src/cli/completions.rs", "src/cli/config.rs", "src/cli/dev.rs"]);
}

#[test]
fn only_the_edges_speak_to_the_broker() {
    in_the_product_only_in(
        &["lapin::", "use lapin"],
        &[
            "crates/amqp/src/connection.rs",
            "crates/amqp/src/consumer.rs",
            "crates/amqp/src/dead_queue.rs",
            "crates/amqp/src/difference.rs",
            // Evidence of a dead letter, from and to lapin's types.
            "crates/amqp/src/headers.rs",
            // The stream that lapin reads from.
            "crates/amqp/src/inbound/transport.rs",
            "crates/amqp/src/message.rs",
            "crates/amqp/src/preconditions.rs",
            "crates/amqp/src/probe.rs",
            "crates/amqp/src/publisher.rs",
            "crates/amqp/src/settings.rs",
            "crates/amqp/src/sink.rs",
            // TCP or TLS.
            "crates/amqp/src/socket.rs",
            "crates/amqp/src/source.rs",
            // Their URIs, and what AMQP 0-9-1 tells of a stream.
            "crates/amqp/src/stream/compare.rs",
            "crates/amqp/src/stream/examine.rs",
            "crates/amqp/src/stream/log.rs",
            "crates/amqp/src/stream/login.rs",
            "crates/amqp/src/stream/super_stream.rs",
            "crates/amqp/src/topology.rs",
            "crates/amqp/src/uri.rs",
        ],
    );
}

#[test]
fn the_environment_is_read_in_one_place() {
    // What systemd hands over is read by the `sd_notify` crate.
    only_in(&["sd_notify::"], &["src/lifecycle/systemd.rs"]);
    only_in(
        &["env::var", "env::var_os", "env::vars", "env::vars_os"],
        &[
            "src/config/variables.rs",
            // Where the servers' programs are: PATH.
            "src/dev/programs.rs",
            // Which defect a daemon of the tests has.
            "crates/testkit/src/bin/settled-defective.rs",
            "loadtest/src/chaos/mod.rs",
            // Which programs the tests run.
            "crates/testkit/src/harness/",
            // Whether a test updates the files it compares with.
            "loadtest/src/report/schema.rs",
        ],
    );
}

#[test]
fn signals_are_handled_in_one_place() {
    only_in(
        &["tokio::signal", "signal::unix"],
        &[
            "src/lifecycle.rs",
            // The private servers end with the process that has started them.
            "src/dev/guardian.rs",
            "src/dev/orphans.rs",
            // Another program.
            "loadtest/src/stop.rs",
        ],
    );
}

#[test]
fn one_module_knows_the_backoff_crate() {
    only_in(&["backoff::"], &["crates/pipeline/src/retry/"]);
}

#[test]
fn a_proof_of_commit_is_made_by_the_store_alone() {
    only_in(&["Proof(())", "Self(())"], &["crates/pipeline/src/store.rs"]);
    only_in(
        &["without_evidence"],
        &[
            // Declared here.
            "crates/pipeline/src/store.rs",
            "crates/store/src/batch/commit.rs",
            "crates/testkit/src/",
        ],
    );
    let clippy: toml::Table = include_str!("../../clippy.toml").parse().expect("TOML");
    let forbidden = clippy["disallowed-methods"].as_array().expect("methods").iter();
    let mut paths = forbidden.filter_map(|method| method["path"].as_str());
    assert!(paths.any(|path| path.ends_with("Proof::without_evidence")), "{clippy}");
}

#[test]
fn what_an_error_of_the_store_means_is_said_in_one_place() {
    in_the_product_only_in(&["StoreError::"], &["crates/store/src/", "crates/pipeline/src/disposition.rs"]);
    // Only who goes by that table to have a batch committed.
    in_the_product_only_in(
        &["Disposition::"],
        &["crates/pipeline/src/committer/mod.rs", "crates/pipeline/src/committer/attempts.rs"],
    );
    // Whoever has tasks committed does it through the committer.
    in_the_product_only_in(&["store.commit("], &["crates/pipeline/src/committer/mod.rs"]);
}

#[test]
fn a_number_is_given_where_the_place_is() {
    // A slot is filled, and a number given, nowhere else.
    only_in(&["slot.fill(", "in_flight.lock()", "waiting.enter("], &["crates/pipeline/src/admission.rs"]);
}

#[test]
fn nothing_that_is_for_tests_stands_in_the_product() {
    // The ledger's own tests compare it with the second ledger, which is at home there.
    let is_theirs = |source: &&Source| source.path.starts_with("crates/core/src/ledger/tests/");
    for source in sources().iter().filter(|source| source.is_product() && !is_theirs(source)) {
        for word in ["defect", "defective", "sabotage", "testkit", "settled_testkit", "simulation"] {
            assert!(!mentions(&source.code, word), "{} mentions {word}", source.path);
        }
    }
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
    for source in sources().into_iter().chain(sources_of("crates/testkit/tests")) {
        let lines = source.code.lines().filter(|line| !line.trim().is_empty()).count();
        assert!(lines <= MOST, "{} has {lines} lines of code, at most {MOST} are read with ease", source.path);
    }
}
