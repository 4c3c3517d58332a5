//! What ARCHITECTURE.md and the pages for engineers say of the source is so.

use std::collections::BTreeSet;

use super::{below, part, read, root, without_fences};

/// The directories of the crates, by the name that the map gives them.
fn crates() -> Vec<(String, String)> {
    let manifests = below("crates").into_iter().filter(|path| path.ends_with("/Cargo.toml"));
    let directories = manifests.filter_map(|path| Some(path.strip_suffix("/Cargo.toml")?.to_owned()));
    let named = directories.map(|path| (path.rsplit('/').next().unwrap_or_default().to_owned(), path));
    let mut crates: Vec<_> = named.collect();
    crates.push(("settled".to_owned(), String::new()));
    crates.push(("loadtest".to_owned(), "loadtest".to_owned()));
    crates
}

/// The rows of the map that begin with a name in code style: the name, and the last cell.
fn rows(heading: &str) -> Vec<(String, String)> {
    let architecture = read("ARCHITECTURE.md");
    let section = architecture.split("\n## ").find(|section| section.starts_with("The map")).expect("a map");
    let table = section.split(heading).nth(1).expect("a table").split("\n\n").next().unwrap_or_default();
    let row = |line: &str| -> Option<(String, String)> {
        let name = line.strip_prefix("| `")?.split('`').next()?;
        let last = line.trim_end_matches(" |").rsplit(" | ").next()?;
        Some((name.to_owned(), last.to_owned()))
    };
    table.lines().filter_map(row).collect()
}

#[test]
fn the_map_has_every_crate_and_no_other() {
    let mapped: BTreeSet<_> = rows("| crate | what | must never know |").into_iter().map(|(name, _)| name).collect();
    let there: BTreeSet<_> = crates().into_iter().map(|(name, _)| name).collect();
    assert_eq!(mapped, there);
}

#[test]
fn the_map_has_the_modules_of_every_library() {
    let mapped = rows("| crate | modules |");
    for (name, directory) in crates() {
        let library = root().join(&directory).join("src/lib.rs");
        let Ok(library) = std::fs::read_to_string(library) else { continue };
        let module = |line: &str| -> Option<String> {
            let line = line.strip_prefix("pub(crate) ").or_else(|| line.strip_prefix("pub ")).unwrap_or(line);
            Some(line.strip_prefix("mod ")?.strip_suffix(';')?.to_owned())
        };
        let modules: BTreeSet<_> = library.lines().filter_map(module).collect();
        let (_, cell) = mapped.iter().find(|(mapped, _)| *mapped == name).unwrap_or_else(|| panic!("{name}"));
        let listed: BTreeSet<_> = cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        assert_eq!(listed, modules, "{name}");
    }
}

/// The Rust sources, one after another, and the paths of all files and directories without `src`.
fn sources() -> (String, Vec<String>) {
    let directories = ["crates", "src", "tests", "benches", "loadtest", "schemas", "systemd", "docs"];
    let paths: Vec<String> = directories.iter().flat_map(|directory| below(directory)).collect();
    let rust = paths.iter().filter(|path| path.ends_with(".rs"));
    let text = rust.map(|path| read(path)).collect();
    let without_src = |path: String| path.split('/').filter(|part| *part != "src").collect::<Vec<_>>().join("/");
    (text, paths.into_iter().map(without_src).collect())
}

/// What is named with a path is there under that name: `ledger/state.rs`, in whatever crate, or `contract::decode`.
#[test]
fn what_the_pages_for_engineers_name_exists() {
    let (source, paths) = sources();
    let text = without_fences(&(read("ARCHITECTURE.md") + &part("docs/develop/")));
    let mut checked = 0;
    for named in text.split('`').skip(1).step_by(2).filter(|named| !named.contains(char::is_whitespace)) {
        let there = if named.contains("::") && !named.contains('/') {
            let name = named.rsplit("::").next().unwrap_or_default();
            let name: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let kinds = ["fn", "struct", "enum", "trait", "mod", "const", "type"];
            // An item, or a variant.
            kinds.iter().any(|kind| source.contains(&format!("{kind} {name}")))
                || [" {", ","].iter().any(|end| source.contains(&format!("    {name}{end}")))
        } else if named.ends_with(".rs") || named.ends_with(".sql") || named.ends_with('/') {
            let path = named.trim_end_matches('/');
            let generic = path.contains('<');
            generic || root().join(path).exists() || paths.iter().any(|each| is_end_of(path, each))
        } else {
            continue;
        };
        assert!(there, "`{named}` isn't there");
        checked += 1;
    }
    assert!(checked > 40, "only {checked} names were found");
}

/// Whether `path` ends with `end`, at the beginning of a name.
fn is_end_of(end: &str, path: &str) -> bool {
    path.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
}
