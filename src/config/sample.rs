//! The documented sample: every key with its meaning, range and default.

use std::fmt::Write;

use serde_json::Value;
use settled_pipeline::intake::PublisherSettings;
use settled_pipeline::settings::{Field, Key, Section};

use super::Config;
use super::field::{expected, show};

/// The maximum length of a comment line.
const WIDTH: usize = 96;

const HEAD: &str = "\
# settled: the sample configuration: every key with its default, commented out; and where a new
# installation should be stricter than the default, the value that it should have.
#
# Durations are a whole number with ms, s, m or h, in quotes. `settled check` says what is
# wrong with a file, `settled config` what is in effect and where it comes from.
# `systemctl reload settled` (SIGHUP) changes the keys that say that they reload. Others need a
# restart.
";

/// Returns the text of the sample. Defaults are commented out, so that a later version may change them. Keys with a
/// recommended value are not: it is stricter than the default, which suits existing installations.
pub fn sample() -> String {
    let mut config = Config::default();
    let mut text = HEAD.to_owned();
    for section in config.sections() {
        let _ = write!(text, "\n# {}\n[{}]\n", section.about, section.name);
        for key in section.keys {
            let env = key.env.map(|name| format!(" Overridden by {name}.")).unwrap_or_default();
            let about = format!("{}{env}{} ({})", key.doc, reloads(&key), accepts(&key.field));
            let _ = write!(text, "\n{}", comment(&about));
            let _ = writeln!(text, "#{} = {}", key.name, literal(&show(&key.field)));
            if let Some(recommended) = key.recommended {
                let _ = writeln!(text, "{} = {recommended}", key.name);
            }
        }
    }
    text + &publisher()
}

/// Returns an example of `[[publisher]]`, commented out: names of publishers and accounts are the operator's own.
fn publisher() -> String {
    let (mut example, mut text) = (PublisherSettings::example(), String::new());
    let _ = write!(text, "\n{}#[[{}]]\n", comment(PublisherSettings::ABOUT), PublisherSettings::NAME);
    for key in example.keys() {
        let _ = write!(text, "\n{}", comment(&format!("{}{} ({})", key.doc, reloads(&key), accepts(&key.field))));
        let _ = writeln!(text, "#{} = {}", key.name, literal(&show(&key.field)));
    }
    text
}

/// Says whether a reload changes the key: `always`, or under a condition that is the name of a function.
fn reloads(key: &Key<'_>) -> String {
    match key.reloads {
        None => String::new(),
        Some("always") => " Reloads.".to_owned(),
        Some(condition) => format!(" Reloads: {}.", condition.replace('_', " ")),
    }
}

/// Returns the accepted values, abbreviated to stand in brackets.
fn accepts(field: &Field<'_>) -> String {
    let expected = expected(field);
    let short = ["a whole number from ", "a number from ", "a duration from "];
    let short = short.iter().find_map(|prefix| expected.strip_prefix(prefix));
    short.map_or(expected.clone(), str::to_owned)
}

/// Formats a value as TOML, in which numbers, strings and lists of strings are as in JSON.
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
