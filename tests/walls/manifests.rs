//! What a crate must never know is nowhere among its dependencies.

use std::path::Path;
use std::process::Command;

/// A package, where it is, and the packages that it must never know, not even through another one.
const WALLS: [(&str, &str, &str); 6] = [
    (
        "settled-core",
        "crates/core",
        "tokio lapin tokio-postgres deadpool deadpool-postgres tracing axum settled-pipeline settled-store settled-amqp \
         settled",
    ),
    (
        "settled-pipeline",
        "crates/pipeline",
        "lapin tokio-postgres deadpool deadpool-postgres axum settled-store settled-amqp settled",
    ),
    (
        "settled-tls",
        "crates/tls",
        "tokio lapin tokio-postgres deadpool deadpool-postgres axum settled-core settled-pipeline settled-store settled-amqp \
         settled",
    ),
    ("settled-store", "crates/store", "lapin axum settled-amqp settled"),
    ("settled-amqp", "crates/amqp", "tokio-postgres deadpool deadpool-postgres axum settled-store settled"),
    ("settled", "", ""),
];

/// What no crate of the shipped binary knows, but for its tests.
const TESTS: [&str; 2] = ["settled-testkit", "settled-loadtest"];

/// The packages that `package` is built with.
fn tree(package: &str) -> Vec<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none", "--package", package]);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo");
    assert!(output.status.success(), "{package}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let mut names: Vec<String> = text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names
}

/// The packages that a manifest names, for all platforms and with all features, but not for tests.
fn named(folder: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join("Cargo.toml");
    let manifest: toml::Table = std::fs::read_to_string(path).expect("readable").parse().expect("TOML");
    let platforms = manifest.get("target").and_then(toml::Value::as_table);
    let tables = platforms.into_iter().flat_map(toml::Table::values).filter_map(toml::Value::as_table);
    let tables = std::iter::once(&manifest).chain(tables);
    let tables = tables.flat_map(|table| ["dependencies", "build-dependencies"].map(|name| table.get(name)));
    let dependencies = tables.flatten().filter_map(toml::Value::as_table).flatten();
    let renamed = |value: &toml::Value| value.get("package").and_then(toml::Value::as_str).map(str::to_owned);
    dependencies.map(|(name, value)| renamed(value).unwrap_or_else(|| name.clone())).collect()
}

#[test]
fn no_crate_depends_on_what_it_must_never_know() {
    for (package, folder, forbidden) in WALLS {
        let (named, tree) = (named(folder), tree(package));
        assert!(named.len() > 4 && tree.len() > named.len(), "{package}: {named:?}, {tree:?}");
        for never in forbidden.split_whitespace().chain(TESTS) {
            assert!(!named.iter().any(|name| name == never), "{package} names {never} in its Cargo.toml");
            assert!(
                !tree.iter().any(|name| name == never),
                "{package} depends on {never}: see `cargo tree -i {never}`"
            );
        }
    }
}
