//! The documents say what the code does: README.md, ARCHITECTURE.md, CHANGELOG.md, the book in `docs/`, the schema of
//! the messages and the files for operators. Run this test with `SETTLED_UPDATE_DOCS=1` to bring the generated parts up to date.

mod alerts;
mod architecture;
mod asyncapi;
mod dashboard;
mod database;
mod generated;
mod links;
mod names;
mod operations;
mod reference;
mod snippets;
mod strict;

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The documents that a reader starts with, and the most bytes each may have.
const FRONT: [(&str, usize); 2] = [("README.md", 10_000), ("ARCHITECTURE.md", 14_000)];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn json(path: &str) -> Value {
    serde_json::from_str(&read(path)).expect("JSON")
}

/// All files and directories below `directory` of the repository, as paths from its root with `/`.
fn below(directory: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![root().join(directory)];
    while let Some(next) = pending.pop() {
        for entry in std::fs::read_dir(&next).unwrap_or_else(|error| panic!("{next:?}: {error}")).flatten() {
            let path = entry.path();
            found.push(path.strip_prefix(root()).expect("below the root").display().to_string());
            if path.is_dir() {
                pending.push(path);
            }
        }
    }
    found.sort();
    found
}

fn pages() -> Vec<String> {
    let pages: Vec<_> = below("docs").into_iter().filter(|path| path.ends_with(".md")).collect();
    assert!(pages.len() > 20, "{pages:?}");
    pages
}

/// The text of all pages below one directory of the book.
fn part(directory: &str) -> String {
    pages().iter().filter(|page| page.starts_with(directory)).map(|page| read(page)).collect()
}

/// The text of a document without its fenced blocks.
fn without_fences(text: &str) -> String {
    text.split("\n```").step_by(2).collect::<Vec<_>>().join("\n")
}

/// The fenced blocks of a language, without their fences.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    text.split(fence.as_str()).skip(1).filter_map(|block| block.split("```").next()).collect()
}

#[test]
fn the_front_documents_are_short() {
    for (document, most) in FRONT {
        let bytes = read(document).len();
        assert!(bytes <= most, "{document} has {bytes} bytes, at most {most} are read by a newcomer");
    }
}
