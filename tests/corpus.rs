//! What fuzzing has found worth keeping, on every run: the checks of `fuzz/` hold of it.

use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

#[path = "../fuzz/checks/mod.rs"]
mod checks;

fn inside(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

#[test]
fn the_checks_hold_of_every_input_that_was_kept() {
    for (target, check) in checks::TARGETS {
        let kept = inside(&corpus().join(target));
        assert!(kept.len() >= 20, "only {} inputs for `{target}`", kept.len());
        let fails = |input: &&PathBuf| {
            let data = std::fs::read(input).expect("readable");
            catch_unwind(|| check(&data)).is_err()
        };
        let failed: Vec<_> = kept.iter().filter(fails).collect();
        assert!(failed.is_empty(), "`{target}` fails on {failed:?}");
    }
}

#[test]
fn every_target_has_its_corpus_its_program_and_no_other_is_there() {
    let targets: BTreeSet<&str> = checks::TARGETS.iter().map(|(target, _)| *target).collect();
    let names = |directory: &Path| -> BTreeSet<String> {
        let stems = inside(directory).into_iter().filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
        stems.collect()
    };
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/targets");
    for found in [names(&corpus()), names(&programs)] {
        assert!(found.iter().map(String::as_str).eq(targets.iter().copied()), "{found:?}, expected {targets:?}");
    }
}
