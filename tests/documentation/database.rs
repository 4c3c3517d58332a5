//! What the migrations have to say: the same transitions as the ledger's state table, and which programs they still
//! serve.

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

/// What takes something away from programs that were built for an earlier schema.
const CONTRACTS: [&str; 6] = ["DROP TABLE", "DROP VIEW", "DROP COLUMN", "DROP FUNCTION", "DROP TYPE", "RENAME"];

#[test]
fn a_migration_that_takes_something_away_says_which_programs_it_still_serves() {
    /// Since this migration there is a table to say it in.
    const SINCE: u32 = 13;
    let files = below("crates").into_iter().filter_map(|path| Some((version(&path)?, path)));
    for (version, path) in files.filter(|(version, _)| *version > SINCE) {
        let sql = read(&path).to_uppercase();
        let takes_away = CONTRACTS.iter().find(|words| sql.contains(*words));
        let says = sql.contains(&format!(
            "INSERT INTO SCHEMA_COMPATIBILITY (VERSION, OLDEST_SCHEMA, OLDEST_PROGRAM) VALUES ({version},"
        ));
        assert!(takes_away.is_none() || says, "{path}: {takes_away:?}, see docs/develop/migrations.md");
    }
}
