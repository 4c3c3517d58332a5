//! Output of the verbs: one value, as JSON or as text for people.
//!
//! Text for people is a [`Text`], which escapes everything added to it: names, references and bodies are untrusted, and
//! a terminal would interpret control characters in them.

use std::io::{self, Read, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement};
use serde::Serialize;

use super::{Exit, Failure};
use crate::printable::printable;

/// Prints `value` as one line of JSON, or the text that `human` returns. Returns [`Exit::Ok`].
///
/// A closed pipe, as in `settled … | head`, is not an error.
pub fn print<T: Serialize + ?Sized>(json: bool, value: &T, human: impl FnOnce() -> Text) -> Result<Exit, Failure> {
    print_own(&if json { serde_json::to_string(value)? + "\n" } else { human().0 })
}

/// Prints text as it is. It must not contain untrusted data. Otherwise like [`print()`].
pub fn print_own(text: &str) -> Result<Exit, Failure> {
    let mut out = io::stdout().lock();
    quiet_when_closed(out.write_all(text.as_bytes()).and_then(|()| out.flush()))?;
    Ok(Exit::Ok)
}

/// Prints `before`, then text that the program has stored in a file because it may be too long for the memory, then
/// `after`. It must not contain untrusted data that isn't escaped, as in JSON. Otherwise like [`print()`].
pub fn print_stored(before: &str, stored: &mut impl Read, after: &str) -> Result<Exit, Failure> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let printed = out.write_all(before.as_bytes()).and_then(|()| io::copy(stored, &mut out));
    quiet_when_closed(printed.and_then(|_| out.write_all(after.as_bytes())).and_then(|()| out.flush()))?;
    Ok(Exit::Ok)
}

/// Prints progress on standard error. Errors are ignored.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{}", printable(text));
}

/// Text for people, line by line. Every line is escaped when it is added, so that data can neither forge another line
/// nor control the terminal.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// Returns a text of one line.
    pub fn of(line: impl AsRef<str>) -> Self {
        let mut text = Self::default();
        text.line(line);
        text
    }

    pub fn line(&mut self, line: impl AsRef<str>) {
        self.0 += &printable(line.as_ref());
        self.0.push('\n');
    }

    /// Adds names and values, one pair per line.
    pub fn pairs<'a>(&mut self, pairs: impl IntoIterator<Item = (&'a str, String)>) {
        for (name, value) in pairs {
            self.line(format!("{name:<16} {value}"));
        }
    }

    /// Adds several lines, each behind a bar, so that they cannot be mistaken for the program's own.
    pub fn quote(&mut self, text: &str) {
        for line in text.split('\n') {
            self.line(if line.is_empty() { "│".to_owned() } else { format!("│ {line}") });
        }
    }

    pub fn table(&mut self, table: &Table) {
        // Its cells are escaped already.
        self.0 += &table.0.to_string();
        self.0.push('\n');
    }

    pub fn append(&mut self, other: Self) {
        self.0 += &other.0;
    }

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

/// A table without borders, at most as wide as the terminal.
#[derive(Debug)]
pub struct Table(comfy_table::Table);

impl Table {
    /// Builds a table. A column whose heading begins with `>` is aligned right, as numbers are.
    pub fn of<const N: usize, C: AsRef<str>>(headings: [&str; N], rows: impl IntoIterator<Item = [C; N]>) -> Self {
        let mut table = comfy_table::Table::new();
        let names = headings.map(|heading| heading.trim_start_matches('>'));
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(names);
        table.add_rows(rows.into_iter().map(|cells| cells.map(|cell| printable(cell.as_ref()).into_owned())));
        for (column, heading) in table.column_iter_mut().zip(headings) {
            if heading.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self(table)
    }

    /// Returns the table as text, or `empty` if it has no rows.
    pub fn or(self, empty: &str) -> Text {
        if self.0.is_empty() { Text::of(empty) } else { self.into() }
    }
}

/// Treats a closed pipe as success.
fn quiet_when_closed(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clears the screen and forges a line of a timeline.
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
        text.table(&Table::of(["REFERENCE"], [[FORGED]]));
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
