//! Escapes untrusted text before it is printed.
//!
//! Terminals interpret control characters: an escape sequence clears the screen or moves the cursor, a carriage return
//! overwrites the line, a newline forges another line, and some Unicode characters reorder or hide their neighbours.
//! Everything that is printed for people passes [`printable`].

use std::borrow::Cow;
use std::fmt::Write;

/// Returns the text with every control or invisible character written as an escape, such as `\n` or `\u{1b}`.
/// The result is one line.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            other if is_unsafe(other) => {
                // Writing to a string can't fail.
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(other));
            }
            other => shown.push(other),
        }
    }
    Cow::Owned(shown)
}

/// Returns whether a terminal interprets the character, or shows nothing for it.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character,
            // Marks, embeddings, overrides and isolates of bidirectional text.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
            // Without width: spaces, joiners, soft hyphen, invisible operators, byte order mark.
            | '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            // Separators of lines and paragraphs, and annotations.
            | '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}'
            // Tags and selectors beyond the first plane.
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_written_out() {
        for (text, shown) in [
            ("\u{1b}[2J\n2026-01-01 ● settled", "\\u{1b}[2J\\n2026-01-01 ● settled"),
            ("a\rb\tc\0d\u{7f}", "a\\rb\\tc\\u{0}d\\u{7f}"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("\u{202e}dlrow\u{2066}", "\\u{202e}dlrow\\u{2066}"),
            ("pay\u{200b}pal\u{feff}", "pay\\u{200b}pal\\u{feff}"),
            ("a\u{2028}b", "a\\u{2028}b"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }

    #[test]
    fn every_language_stays_as_it_is() {
        for text in ["", "order-123", "Zoë", "e\u{301}", "日本語", "שלום", "السلام", "😀", "\\n", "│ ● ◌"]
        {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }
}
