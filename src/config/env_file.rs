//! Reads a file of environment variables as systemd does (`EnvironmentFile=`): `NAME=value` on each line, comments behind
//! `#` and `;`, quotes, and a backslash before a character that is meant as it is. Nothing is substituted, so that a
//! password may have a `$`.

use std::iter::Peekable;
use std::str::Chars;

/// A line that sets a variable, or that nothing can be made of (`Err`, without its text: it may hold a password).
pub(super) struct Line {
    /// Its number, counted from 1.
    pub(super) number: usize,
    pub(super) content: Result<(String, String), ()>,
}

/// Returns the lines of a file, without those that are empty or comments.
pub(super) fn parse(text: &str) -> Vec<Line> {
    let (mut lines, mut number) = (Vec::new(), 1);
    let mut rest = text.chars().peekable();
    while rest.peek().is_some() {
        let start = number;
        let name = take_name(&mut rest);
        let is_comment = name.trim_start().starts_with(['#', ';']);
        if rest.peek() != Some(&'=') || is_comment {
            skip_line(&mut rest);
            number += 1;
            if !is_comment && !name.trim().is_empty() {
                lines.push(Line { number: start, content: Err(()) });
            }
            continue;
        }
        rest.next();
        let value = take_value(&mut rest, &mut number);
        let name = name.trim().to_owned();
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        lines.push(Line { number: start, content: if is_name { Ok((name, value)) } else { Err(()) } });
    }
    lines
}

/// Takes what stands before `=` or the end of the line.
fn take_name(rest: &mut Peekable<Chars<'_>>) -> String {
    std::iter::from_fn(|| rest.next_if(|c| !matches!(c, '=' | '\n'))).collect()
}

fn skip_line(rest: &mut Peekable<Chars<'_>>) {
    rest.find(|c| *c == '\n');
}

/// Takes a value and the end of its line. Adds the ends of lines to `number`.
fn take_value(rest: &mut Peekable<Chars<'_>>, number: &mut usize) -> String {
    let (mut value, mut quote) = (String::new(), None);
    // White space at the end of a value without quotes is not part of it.
    let mut kept = 0;
    while let Some(character) = rest.next() {
        *number += usize::from(character == '\n');
        match (quote, character) {
            (None, '\n') => break,
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), close) if open == close => quote = None,
            (None | Some('"'), '\\') => match rest.next() {
                // The line goes on.
                Some('\n') => *number += 1,
                Some(escaped) => {
                    if quote.is_some() && !matches!(escaped, '"' | '\\' | '`' | '$') {
                        value.push('\\');
                    }
                    value.push(escaped);
                }
                None => {}
            },
            (None, space) if space.is_whitespace() => {
                if !value.is_empty() {
                    value.push(space);
                }
                continue;
            }
            (_, other) => value.push(other),
        }
        kept = value.len();
    }
    value.truncate(kept);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(usize, Option<(String, String)>)> {
        parse(text).into_iter().map(|line| (line.number, line.content.ok())).collect()
    }

    fn value(text: &str) -> String {
        parsed(&format!("A={text}\nB=b\n"))[0].1.clone().expect("a variable").1
    }

    #[test]
    fn a_value_is_what_systemd_makes_of_it() {
        for (text, expected) in [
            ("amqp://u:p@h/%2f", "amqp://u:p@h/%2f"),
            ("pa$word", "pa$word"),
            ("  spaces around  ", "spaces around"),
            ("\"a b \"", "a b "),
            ("'a \\ \"$b'", "a \\ \"$b"),
            ("\"a \\\" \\$b \\n\"", "a \" $b \\n"),
            ("a\\ \\'b", "a 'b"),
            ("a\\\nb", "ab"),
            ("'a'\"b\"c", "abc"),
            ("a#b", "a#b"),
            ("", ""),
            ("a=b", "a=b"),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn comments_are_skipped_and_what_is_no_assignment_is_told_by_its_line() {
        let text = "# A=1\n; B=2\n\n  C=3\nexport D=4\nnothing\nE='x\ny'\nF=6";
        let names: Vec<_> = parsed(text).into_iter().map(|(line, found)| (line, found.map(|(name, _)| name))).collect();
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(names, [(4, some("C")), (5, None), (6, None), (7, some("E")), (9, some("F"))]);
    }
}
