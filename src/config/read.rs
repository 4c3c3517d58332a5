//! Reads the file and the environment into a configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use settled_pipeline::intake::PublisherSettings;
use settled_pipeline::settings::{Field, Key, Section, closest, did_you_mean};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::field::{self, Refusal};
use super::problem::{Origin, Problem};
use super::{Config, Overrides, SectionKeys};

/// Sets values of a configuration and collects all problems.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) problems: Vec<Problem>,
    /// The origin of each value that is not a default, by its key.
    pub(super) origins: BTreeMap<String, Origin>,
    /// Keys whose value was refused; checks that read them are skipped.
    pub(super) refused: BTreeSet<String>,
    /// The file is not TOML, so its keys are unknown.
    pub(super) not_toml: bool,
}

/// The text of the file, to find the line of a position.
struct Source<'t> {
    path: &'t Path,
    text: &'t str,
}

impl Source<'_> {
    fn origin(&self, span: &Range<usize>) -> Origin {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        Origin::File(self.path.to_owned(), before.iter().filter(|byte| **byte == b'\n').count() + 1)
    }
}

impl Reader {
    /// Sets the values of the file.
    pub(super) fn file(&mut self, config: &mut Config, path: &Path, text: &str) {
        let source = Source { path, text };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            self.syntax(&source, error);
        }
        if self.not_toml {
            return;
        }
        if let Some(value) = table.get_ref().get(PublisherSettings::NAME) {
            config.publishers = self.publishers(&source, value);
        }
        let mut sections = config.sections();
        let others = table.get_ref().iter().filter(|(name, _)| name.get_ref() != PublisherSettings::NAME);
        for (name, value) in others {
            let origin = source.origin(&name.span());
            match (sections.iter_mut().find(|section| section.name == name.get_ref()), value.get_ref()) {
                (Some(section), DeValue::Table(keys)) => self.section(&source, section.name, section, keys),
                (Some(section), _) => {
                    let remedy = format!("write [{}] on a line of its own, and the keys below it", section.name);
                    self.problem(origin, section.name, "found a value, expected a section".to_owned(), remedy);
                }
                (None, value) => self.unknown_at_top(origin, name.get_ref(), value, &sections),
            }
        }
    }

    /// Sets the values that variables and credentials override. A variable that is set and empty is a problem.
    pub(super) fn environment(&mut self, config: &mut Config, overrides: &Overrides<'_>) {
        for section in &mut config.sections() {
            for key in &mut section.keys {
                let path = format!("{}.{}", section.name, key.name);
                if let Field::Path(field) = &mut key.field
                    && let Some(file) = (overrides.credential)(&path)
                {
                    **field = Some(file.clone());
                    self.refused.remove(&path);
                    self.origins.insert(path, Origin::Credential(file));
                    continue;
                }
                let found = key.env.and_then(|name| Some((name, (overrides.variable)(name)?)));
                let Some((variable, (value, origin))) = found else { continue };
                let taken = match value.to_str() {
                    Some("") => Err(Refusal::new("it is set and empty")),
                    Some(text) => field::set_text(&mut key.field, text),
                    None => Err(Refusal::new("it is not UTF-8")),
                };
                let remedy = match &origin {
                    Origin::Env(_) => format!("correct the variable or unset it: unset {variable}"),
                    _ => format!("correct {variable} there, or take it out"),
                };
                self.record(key, path, origin, taken, remedy);
            }
        }
    }

    /// Reports a syntax error. After a duplicate key the rest of the file is readable; after any other error it is not.
    fn syntax(&mut self, source: &Source<'_>, error: &toml::de::Error) {
        let span = error.span().unwrap_or(0..0);
        let origin = source.origin(&span);
        // Only the message: the error's `Display` quotes the line, which may hold a password.
        match error.message() {
            message if message.contains("duplicate key") => {
                let name = source.text.get(span).unwrap_or_default();
                let message = format!("found `{name}` a second time, expected every key and section once");
                self.problem(origin, "", message, format!("merge the two `{name}`, or delete one"));
            }
            message => {
                self.not_toml = true;
                self.problem(origin, "", format!("not TOML: {message}"), syntax_remedy(message));
            }
        }
    }

    /// Reads the tables of `[[publisher]]`.
    fn publishers(&mut self, source: &Source<'_>, value: &Spanned<DeValue<'_>>) -> Vec<PublisherSettings> {
        let tables = match value.get_ref() {
            DeValue::Array(tables) if tables.iter().all(|table| table.get_ref().is_table()) => tables,
            _ => {
                let remedy =
                    "write [[publisher]] on a line of its own, and the keys below it, once for each".to_owned();
                let found = format!("found a value of type {}, expected tables", value.get_ref().type_str());
                self.problem(source.origin(&value.span()), PublisherSettings::NAME, found, remedy);
                return Vec::new();
            }
        };
        let mut publishers = Vec::new();
        for (place, table) in tables.iter().enumerate() {
            let (mut settings, path) = (PublisherSettings::default(), publisher_path(place));
            self.origins.insert(path.clone(), source.origin(&table.span()));
            if let DeValue::Table(keys) = table.get_ref() {
                self.section(source, &path, &mut super::section(&mut settings), keys);
            }
            publishers.push(settings);
        }
        publishers
    }

    fn section(&mut self, source: &Source<'_>, path: &str, section: &mut SectionKeys<'_>, table: &DeTable<'_>) {
        let names: Vec<&str> = section.keys.iter().map(|key| key.name).collect();
        for (name, value) in table {
            let path = format!("{path}.{}", name.get_ref());
            let Some(key) = section.keys.iter_mut().find(|key| key.name == name.get_ref()) else {
                let remedy = did_you_mean(name.get_ref(), names.iter().copied())
                    .unwrap_or_else(|| format!("the keys of [{}] are {}", section.name, names.join(", ")));
                let message = format!("unknown key, expected one of [{}]", section.name);
                self.problem(source.origin(&name.span()), &path, message, remedy);
                continue;
            };
            let default = field::show(&key.field);
            let taken = field::set(&mut key.field, value.get_ref());
            let place = taken.as_ref().err().and_then(|refusal| refusal.span.clone());
            let origin = source.origin(&place.unwrap_or_else(|| value.span()));
            let remedy = match default {
                serde_json::Value::Null => "delete the key to do without".to_owned(),
                serde_json::Value::Array(none) if none.is_empty() => "delete the key to allow none".to_owned(),
                serde_json::Value::String(none) if none.is_empty() => "write a name".to_owned(),
                default => format!("delete the key to use the default, {default}"),
            };
            self.record(key, path, origin, taken, remedy);
        }
    }

    /// Records the origin of a value, and the problem if it was refused.
    fn record(&mut self, key: &Key<'_>, path: String, origin: Origin, taken: Result<(), Refusal>, remedy: String) {
        if let Err(refusal) = taken {
            let message = format!("{}, expected {}", refusal.found, field::expected(&key.field));
            self.problem(origin.clone(), &path, message, refusal.remedy.unwrap_or(remedy));
            self.refused.insert(path.clone());
        }
        self.origins.insert(path, origin);
    }

    /// Reports a top-level name that is no section: a typo, or a key outside its section.
    fn unknown_at_top(&mut self, origin: Origin, name: &str, value: &DeValue<'_>, sections: &[SectionKeys<'_>]) {
        let section_names = || sections.iter().map(|section| section.name);
        if !value.is_table() {
            let home = sections.iter().find(|section| section.keys.iter().any(|key| key.name == name));
            let remedy = match home {
                Some(section) => format!("write it below [{}]", section.name),
                None => "write it below its section; `settled config --sample` shows every key".to_owned(),
            };
            return self.problem(origin, name, "found a key, expected a section before it".to_owned(), remedy);
        }
        let all = section_names().collect::<Vec<_>>().join(", ");
        let remedy = match closest(name, section_names()) {
            Some(section) => format!("did you mean `[{section}]`?"),
            None => format!("the sections are {all}"),
        };
        self.problem(origin, name, format!("unknown section, expected one of {all}"), remedy);
    }

    pub(super) fn problem(&mut self, origin: Origin, key: &str, message: String, remedy: String) {
        self.problems.push(Problem { origin, key: key.to_owned(), message, remedy });
    }
}

/// Returns the name of a publisher's table in messages, such as `publisher[0]`.
pub(super) fn publisher_path(index: usize) -> String {
    format!("{}[{index}]", PublisherSettings::NAME)
}

fn syntax_remedy(message: &str) -> String {
    let remedy = match message {
        m if m.contains("must be quoted") => "write a value after the equals sign; text and durations in double quotes",
        m if m.contains("string") => "close the double quotes on the same line: key = \"text\"",
        m if m.contains("unclosed table") => "close the bracket: [section]",
        m if m.contains("unclosed array") => "close the bracket: key = [\"one\", \"two\"]",
        _ => "write: key = value; text and durations in double quotes; `settled config --sample` shows every key",
    };
    remedy.to_owned()
}
