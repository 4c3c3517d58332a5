//! The daemon's configuration for a run: the private servers, and whatever is to be tried out.

use std::str::FromStr;

use toml::{Table, Value};

/// A setting from the command line, for the daemon's configuration: `pipeline.lanes=1`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Setting {
    section: String,
    key: String,
    value: Value,
}

impl Setting {
    pub(crate) fn new(section: &str, key: &str, value: impl Into<Value>) -> Self {
        Self { section: section.to_owned(), key: key.to_owned(), value: value.into() }
    }

    /// The value of a key, if it is set; the last one counts.
    pub(crate) fn of<'a>(settings: &'a [Self], section: &str, key: &str) -> Option<&'a Value> {
        let found = settings.iter().rev().find(|setting| setting.section == section && setting.key == key);
        found.map(|setting| &setting.value)
    }
}

impl FromStr for Setting {
    type Err = String;

    /// What is no value of TOML is a string whose quotes the shell ate.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(path, value)| Some((path.split_once('.')?, value.trim())));
        let Some(((section, key), value)) = parts else {
            return Err("expected SECTION.KEY=VALUE, such as pipeline.lanes=1".to_owned());
        };
        let read = format!("value = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
        Ok(Self::new(section.trim(), key.trim(), read.unwrap_or_else(|| value.into())))
    }
}

/// The text of a configuration file, of the settings that are not at the daemon's own defaults:
/// those are what is to be measured. Of a key that is set twice the last value counts.
pub(crate) fn text<'a>(settings: impl IntoIterator<Item = &'a Setting>) -> String {
    let mut sections = Table::new();
    for Setting { section, key, value } in settings {
        let section = sections.entry(section).or_insert_with(|| Table::new().into());
        if let Some(keys) = section.as_table_mut() {
            keys.insert(key.clone(), value.clone());
        }
    }
    sections.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_toml_whatever_the_shell_left_of_its_quotes() {
        for (given, value) in [
            ("pipeline.lanes=1", Value::from(1)),
            ("events.format=batch", "batch".into()),
            ("events.format=\"batch\"", "batch".into()),
            ("events.lease = 30s", "30s".into()),
            ("broker.declare=true", true.into()),
            ("broker.uris=[\"amqp://a\"]", vec!["amqp://a"].into()),
        ] {
            assert_eq!(given.parse::<Setting>().map(|setting| setting.value), Ok(value));
        }
        assert!("lanes=1".parse::<Setting>().is_err());
        assert!("pipeline.lanes".parse::<Setting>().is_err());
    }

    #[test]
    fn the_last_value_of_a_key_counts() {
        let settings = [Setting::new("events", "format", "single"), Setting::new("events", "format", "batch")];
        assert_eq!(text(&settings), "[events]\nformat = \"batch\"\n");
        assert_eq!(text(&[Setting::new("broker", "uris", vec!["amqp://a"])]), "[broker]\nuris = [\"amqp://a\"]\n");
    }
}
