//! The sources of the workspace.

use std::path::{Path, PathBuf};

/// A source file: where it is below the workspace, all of it, and its code without comments and tests.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) code: String,
}

impl Source {
    pub(crate) fn new(path: String, text: String) -> Self {
        Self { path, code: code_of(&text), text }
    }

    /// Whether it is in one of the crates that the shipped binary is made of.
    pub(crate) fn is_product(&self) -> bool {
        !["crates/testkit/", "loadtest/"].iter().any(|place| self.path.starts_with(place))
    }
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

/// The sources below `root`, a folder of the workspace.
pub(crate) fn sources_of(root: &str) -> Vec<Source> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    files(&workspace.join(root), &mut found);
    found.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("readable");
        Source::new(path.strip_prefix(workspace).expect("below the workspace").display().to_string(), text)
    };
    found.into_iter().map(read).collect()
}

/// The sources of all crates, without modules that exist for tests only.
pub(crate) fn sources() -> Vec<Source> {
    let mut roots = vec!["src".to_owned(), "loadtest/src".to_owned()];
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("crates")).expect("crates").flatten() {
        roots.push(format!("crates/{}/src", entry.file_name().to_string_lossy()));
    }
    assert!(roots.len() >= 7, "crates are missing: {roots:?}");
    let sources: Vec<Source> =
        roots.iter().flat_map(|root| sources_of(root)).filter(|source| !is_test(&source.path)).collect();
    assert!(sources.len() > 200, "only {} files were found", sources.len());
    sources
}

/// A module that exists for tests only.
fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.starts_with("crates/core/src/contract/schema")
}
