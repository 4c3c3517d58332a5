//! The documented sample: every key with its meaning, its range and its default.

use std::fmt::Write;

use serde_json::Value;

use super::Config;
use super::key::Field;

/// How wide a line of documentation may be.
const WIDTH: usize = 96;

const HEAD: &str = "\
# settled: the sample configuration, with every key at its default.
#
# Durations are a whole number with ms, s, m or h, in quotes. `settled check` says what is
# wrong with a file, `settled config` what is in effect and where it comes from.
";

/// The text of the sample. What is commented out is the default, so the file may be installed
/// as it is and a later version may choose better defaults.
#[must_use]
pub fn sample() -> String {
    let mut config = Config::default();
    let mut text = HEAD.to_owned();
    for section in config.sections() {
        let _ = write!(text, "\n# {}\n[{}]\n", section.about, section.name);
        for key in section.keys {
            let env = key.env.map(|name| format!(" Overridden by {name}.")).unwrap_or_default();
            let about = format!("{}{} ({})", key.doc, env, accepts(&key.field));
            let _ = write!(text, "\n{}", comment(&about));
            let _ = writeln!(text, "#{} = {}", key.name, literal(&key.field.show()));
        }
    }
    text
}

/// What the field takes, short enough to stand in brackets.
fn accepts(field: &Field<'_>) -> String {
    let expected = field.expected();
    let short = ["a whole number from ", "a number from ", "a duration from "];
    let short = short.iter().find_map(|prefix| expected.strip_prefix(prefix));
    short.map_or(expected.clone(), str::to_owned)
}

/// A value as TOML. JSON writes numbers, strings and lists of strings the same way.
fn literal(value: &Value) -> String {
    match value {
        Value::Null => "\"/path/to/file\"".to_owned(),
        value => value.to_string(),
    }
}

fn comment(text: &str) -> String {
    let mut lines = String::new();
    let mut line = String::from("#");
    for word in text.split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            lines.push_str(&line);
            lines.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    lines + &line + "\n"
}
