//! What two walls have to say alike: the ledger's state table and the database's constraint.

use settled_core::ledger::state;

use super::{below, read};

/// The number of a migration, from the path of its file.
fn version(path: &str) -> Option<u32> {
    let name = path.strip_suffix(".sql")?.split_once("migrations/V")?.1;
    name.split("__").next()?.parse().ok()
}

/// The last migration that (re)defines it counts.
fn transitions_of_the_schema() -> Vec<(String, String)> {
    let mut files: Vec<_> = below("crates").into_iter().filter_map(|path| Some((version(&path)?, path))).collect();
    assert!(files.len() >= 9, "{files:?}");
    files.sort();
    let texts = files.iter().map(|(_, path)| read(path));
    let constraint = texts.filter_map(|sql| Some(sql.split_once("transition_legal CHECK")?.1.to_owned())).next_back();
    let constraint = constraint.expect("a migration that says which transitions are legal");
    // Pairs of words in quotes, up to the end of the statement.
    let list = constraint.split(';').next().unwrap_or_default();
    let words: Vec<&str> = list.split('\'').skip(1).step_by(2).collect();
    words.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect()
}

#[test]
fn the_database_takes_the_transitions_of_the_state_table_and_no_others() {
    let of_table = state::transitions().into_iter().map(|(from, to)| (from.name().to_owned(), to.name().to_owned()));
    let mut of_schema = transitions_of_the_schema();
    of_schema.sort();
    let mut of_table: Vec<_> = of_table.collect();
    of_table.sort();
    assert_eq!(of_schema, of_table);
}
