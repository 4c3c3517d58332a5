//! What a verb prints: one value, as JSON for a machine or as a table for a person.

use std::io::{self, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

/// Prints `value` as one line of JSON, or what `human` makes of it.
///
/// # Errors
/// When standard output cannot be written to. A reader that has gone away (`settled … | head`)
/// is not an error: it has what it wanted.
pub fn print<T: Serialize + ?Sized>(json: bool, value: &T, human: impl FnOnce() -> String) -> io::Result<()> {
    let mut text = if json { serde_json::to_string(value)? } else { human() };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    print_text(&text)
}

/// Prints `text` as it is.
///
/// # Errors
/// As [`print()`].
pub fn print_text(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    quiet_when_closed(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// A table without borders, as wide as the terminal allows: readable, and easy to cut by column.
#[must_use]
pub fn table<const N: usize>(headings: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(headings);
    table
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

    #[test]
    fn a_closed_pipe_is_quiet_and_a_full_disk_is_not() {
        assert!(quiet_when_closed(Err(io::ErrorKind::BrokenPipe.into())).is_ok());
        assert!(quiet_when_closed(Err(io::ErrorKind::StorageFull.into())).is_err());
    }
}
