//! The daemon's configuration for a run: the private servers, and whatever is to be tried out.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::str::FromStr;

/// A setting from the command line, for the daemon's configuration: `pipeline.lanes=1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    section: String,
    key: String,
    value: String,
}

impl Setting {
    /// A setting of this program's own; `value` is a string.
    pub(crate) fn text(section: &str, key: &str, value: &str) -> Self {
        Self { section: section.to_owned(), key: key.to_owned(), value: format!("{value:?}") }
    }

    /// A setting that is a list of one string.
    pub(crate) fn list(section: &str, key: &str, value: &str) -> Self {
        Self { value: format!("[{value:?}]"), ..Self::text(section, key, value) }
    }
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(path, value)| Some((path.split_once('.')?, value)));
        let Some(((section, key), value)) = parts else {
            return Err("expected SECTION.KEY=VALUE, such as pipeline.lanes=1".to_owned());
        };
        Ok(Self { section: section.trim().to_owned(), key: key.trim().to_owned(), value: toml(value.trim()) })
    }
}

/// Numbers, flags, strings and lists are the same in JSON and TOML; anything else is a string
/// whose quotes the shell ate.
fn toml(value: &str) -> String {
    match serde_json::from_str::<serde_json::Value>(value) {
        Ok(_) => value.to_owned(),
        Err(_) => format!("{value:?}"),
    }
}

/// The text of a configuration file, of the settings that are not at the daemon's own defaults:
/// those are what is to be measured. Of a key that is set twice the last value counts.
pub(crate) fn text<'a>(settings: impl IntoIterator<Item = &'a Setting>) -> String {
    let mut sections: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for setting in settings {
        sections.entry(&setting.section).or_default().insert(&setting.key, &setting.value);
    }
    let mut text = String::new();
    for (section, keys) in sections {
        let _ = writeln!(text, "[{section}]");
        for (key, value) in keys {
            let _ = writeln!(text, "{key} = {value}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_toml_whatever_the_shell_left_of_its_quotes() {
        for (given, value) in [
            ("pipeline.lanes=1", "1"),
            ("events.format=batch", r#""batch""#),
            ("events.format=\"batch\"", r#""batch""#),
            ("events.lease = 30s", r#""30s""#),
            ("broker.declare=true", "true"),
        ] {
            assert_eq!(given.parse::<Setting>().map(|setting| setting.value), Ok(value.to_owned()));
        }
        assert!("lanes=1".parse::<Setting>().is_err());
        assert!("pipeline.lanes".parse::<Setting>().is_err());
    }

    #[test]
    fn the_last_value_of_a_key_counts() {
        let settings = [Setting::text("events", "format", "single"), Setting::text("events", "format", "batch")];
        assert_eq!(text(&settings), "[events]\nformat = \"batch\"\n");
        assert_eq!(text(&[Setting::list("broker", "uris", "amqp://a")]), "[broker]\nuris = [\"amqp://a\"]\n");
    }
}
