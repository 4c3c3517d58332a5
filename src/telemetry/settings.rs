//! `[log]`: what is written to standard error, and how.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::{Choice, Field, Key, Rule, Section, closest};

/// The log.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// How a line is written.
    pub format: LogFormat,
    /// Which lines are written: a directive of `tracing`'s `EnvFilter`.
    pub level: String,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON everywhere else.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Choice for LogFormat {
    const NAMES: &'static [(&'static str, Self)] = &[("auto", Self::Auto), ("json", Self::Json), ("text", Self::Text)];
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// `EnvFilter` takes a misspelled level for the name of a module and logs nothing else, so a
/// word alone must be a level.
const LEVEL: Rule = Rule {
    expected: "off, error, warn, info, debug or trace, or a list such as \"info,settled::store=debug\"",
    check: |text| {
        let word_alone = |directive: &&str| !directive.contains(['=', '[']);
        for word in text.split(',').map(str::trim).filter(word_alone) {
            word.parse::<LevelFilter>().map_err(|_| match closest(word, LEVELS) {
                Some(level) => format!("\"{word}\" is not a level; did you mean `{level}`?"),
                None => format!("\"{word}\" is not a level"),
            })?;
        }
        EnvFilter::builder().parse(text).map(drop).map_err(|error| error.to_string())
    },
};

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::Auto, level: "info".to_owned() }
    }
}

impl Section for LogSettings {
    const NAME: &'static str = "log";
    const ABOUT: &'static str = "What is written to standard error, and how.";

    #[rustfmt::skip]
    fn keys(&mut self) -> Vec<Key<'_>> {
        vec![
            Key::new("format", Field::Parsed(&mut self.format), "\"auto\": text on a terminal, JSON everywhere else."),
            Key::new("level", Field::Text(&mut self.level, &LEVEL), "A level, or one per module."),
        ]
    }
}
