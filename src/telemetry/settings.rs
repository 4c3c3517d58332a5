//! `[log]`: level and format of the log on standard error.

use settled_pipeline::section;
use settled_pipeline::settings::{Choice, Rule, always, closest};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

section! {
    pub struct LogSettings in "log", "What is written to standard error, and how.";

    /// "auto": text on a terminal, JSON everywhere else.
    pub format: LogFormat = LogFormat::Auto => Parsed();
    /// A level, or one per module.
    pub level: String = "info".to_owned() => Text(&LEVEL), reloads(always);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// [`Text`](Self::Text) on a terminal, otherwise [`Json`](Self::Json).
    Auto,
    /// One JSON object per line.
    Json,
    Text,
}

impl Choice for LogFormat {
    const NAMES: &'static [(&'static str, Self)] = &[("auto", Self::Auto), ("json", Self::Json), ("text", Self::Text)];
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// `EnvFilter` takes a misspelled level for a module name and then logs nothing else, so a word alone must be a level.
const LEVEL: Rule = Rule {
    expected: "off, error, warn, info, debug or trace, or a list such as \"info,settled_store=debug\"",
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
