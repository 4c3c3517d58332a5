//! What two walls have to say alike: the ledger's state table and the database's constraint.

use settled::ledger::state;

use super::root;

/// The last migration that (re)defines it counts.
fn transitions_of_the_schema() -> Vec<(String, String)> {
    let directory = root().join("src/store/migrations");
    let mut files: Vec<_> =
        std::fs::read_dir(directory).expect("migrations").flatten().map(|file| file.path()).collect();
    files.sort_by_key(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        name[1..].split("__").next().and_then(|number| number.parse::<u32>().ok()).expect("V<n>__<name>.sql")
    });
    let texts = files.iter().map(|path| std::fs::read_to_string(path).expect("readable"));
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
