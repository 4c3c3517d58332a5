//! Checks that the defects in patch files still apply to the sources. `make defects` builds them and checks that they
//! are found.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Names of all patches.
const NAMES: [&str; 6] = [
    "altered_replay_applied",
    "doubled_entry",
    "dropped_on_full_lane",
    "lookup_taken_for_durable",
    "stale_epoch_acked",
    "unordered_locks",
];

fn patches() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("defects")
}

#[test]
fn every_patch_applies_and_says_what_finds_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(patches()).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "patch") {
            continue;
        }
        found.push(path.file_stem().expect("a name").to_string_lossy().into_owned());
        let checked = Command::new("git").args(["apply", "--check"]).arg(&path).current_dir(&root).output();
        let checked = checked.expect("git");
        assert!(checked.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&checked.stderr));
        let text = std::fs::read_to_string(&path).expect("a patch");
        let says = |key: &str| text.lines().any(|line| line.strip_prefix(key).is_some_and(|value| !value.is_empty()));
        assert!(says("Found by: ") && says("Shown by: "), "{}: what finds it, and by which words", path.display());
    }
    found.sort();
    assert_eq!(found, NAMES);
}
