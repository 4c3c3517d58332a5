//! What a verb prints: one value, as JSON for a machine or as text for a person.
//!
//! Text for people is a [`Text`], and whatever is put into one is escaped: names, references and bodies
//! are somebody else's, and a terminal would obey them.

use std::io::{self, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement};
use serde::Serialize;

use crate::printable::printable;

/// Prints `value` as one line of JSON, or what `human` makes of it.
///
/// # Errors
/// When standard output cannot be written to. A reader that has gone away (`settled … | head`)
/// is not an error: it has what it wanted.
pub fn print<T: Serialize + ?Sized>(json: bool, value: &T, human: impl FnOnce() -> Text) -> io::Result<()> {
    print_own(&if json { serde_json::to_string(value)? + "\n" } else { human().0 })
}

/// Prints the program's own text as it is: what nobody else has put a word into.
///
/// # Errors
/// As [`print()`].
pub fn print_own(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    quiet_when_closed(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Says on standard error what the program is about to do.
pub fn note(text: &str) {
    // Where that is closed there is nobody to tell.
    let _ = writeln!(io::stderr(), "{}", printable(text));
}

/// Text for a person, line by line. Every line is escaped as it is put in, so that no data can begin
/// another one or reach the terminal as a command.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// One line.
    pub fn of(line: impl AsRef<str>) -> Self {
        let mut text = Self::default();
        text.line(line);
        text
    }

    /// Adds a line.
    pub fn line(&mut self, line: impl AsRef<str>) {
        self.0 += &printable(line.as_ref());
        self.0.push('\n');
    }

    /// Adds names and values, one pair a line.
    pub fn pairs<'a>(&mut self, pairs: impl IntoIterator<Item = (&'a str, String)>) {
        for (name, value) in pairs {
            self.line(format!("{name:<16} {value}"));
        }
    }

    /// Adds a text of several lines, each behind a bar: none can be taken for one of the program's own.
    pub fn quote(&mut self, text: &str) {
        for line in text.split('\n') {
            self.line(if line.is_empty() { "│".to_owned() } else { format!("│ {line}") });
        }
    }

    /// Adds a table.
    pub fn table(&mut self, table: &Table) {
        // Its cells are escaped, and its lines are its own.
        self.0 += &table.0.to_string();
        self.0.push('\n');
    }

    /// Adds another text.
    pub fn append(&mut self, other: Self) {
        self.0 += &other.0;
    }

    /// The text, as it is printed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Table> for Text {
    fn from(table: Table) -> Self {
        let mut text = Self::default();
        text.table(&table);
        text
    }
}

/// A table without borders, as wide as the terminal allows: readable, and easy to cut by column.
#[derive(Debug)]
pub struct Table(comfy_table::Table);

impl Table {
    /// A table with these headings and no rows.
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(headings);
        Self(table)
    }

    /// Adds a row, a cell a heading.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl AsRef<str>>) {
        let cells: Vec<String> = cells.into_iter().map(|cell| printable(cell.as_ref()).into_owned()).collect();
        self.0.add_row(cells);
    }

    /// Aligns these columns at the right: numbers are compared from there.
    pub fn align_right(&mut self, columns: &[usize]) {
        for &column in columns {
            if let Some(column) = self.0.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
}

/// Takes a closed pipe for success.
fn quiet_when_closed(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clears the screen and draws a state that there never was.
    const FORGED: &str = "\u{1b}[2J\n2026-01-01 ● settled";

    #[test]
    fn a_closed_pipe_is_quiet_and_a_full_disk_is_not() {
        assert!(quiet_when_closed(Err(io::ErrorKind::BrokenPipe.into())).is_ok());
        assert!(quiet_when_closed(Err(io::ErrorKind::StorageFull.into())).is_err());
    }

    #[test]
    fn whatever_is_put_in_stays_on_its_line() {
        let mut text = Text::of(FORGED);
        text.pairs([("reference", FORGED.to_owned())]);
        let mut table = Table::new(["REFERENCE"]);
        table.row([FORGED]);
        text.table(&table);
        assert!(!text.as_str().contains('\u{1b}') && !text.as_str().contains("\n2026"), "{}", text.as_str());
        assert_eq!(text.as_str().lines().count(), 4, "{}", text.as_str());
    }

    #[test]
    fn a_body_of_several_lines_is_read_behind_a_bar() {
        let mut text = Text::default();
        text.quote("{\n  \"id\": 1\u{1b}\n}\n2026-01-01 ● settled\n");
        assert_eq!(text.as_str(), "│ {\n│   \"id\": 1\\u{1b}\n│ }\n│ 2026-01-01 ● settled\n│\n");
    }
}
