//! The log on standard error: JSON for machines (one object per line), text for a terminal.
//!
//! The daemon's own modules log at the configured level, libraries at `warn` and above.

use std::sync::OnceLock;
use std::{fmt, io};

use tracing::Subscriber;
use tracing::field::Field;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::reload;

use super::LogFormat;
use super::targets;
use crate::printable::printable;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// One JSON object per line: `timestamp`, `level`, `target`, `message` and the event's fields.
    Json,
    /// Text for people, with ANSI colours if `colour` is set.
    Text { colour: bool },
}

impl Style {
    pub fn of(format: LogFormat, is_terminal: bool) -> Self {
        match format {
            LogFormat::Auto if !is_terminal => Self::Json,
            LogFormat::Json => Self::Json,
            LogFormat::Auto | LogFormat::Text => Self::Text { colour: is_terminal },
        }
    }
}

/// Replaces the filter of a subscriber.
type SetFilter = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

/// A process has one log only.
static SET_FILTER: OnceLock<SetFilter> = OnceLock::new();

#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// `level` is neither a level nor a list of directives.
    #[error(
        "`{level}`: {detail}; expected off, error, warn, info, debug or trace, or a list such as `info,settled_pipeline::intake=debug`"
    )]
    Level { level: String, detail: String },
    /// This process has a global `tracing` subscriber already.
    #[error("the log is set up already")]
    SetUpAlready,
}

/// Sends the log to standard error from now on. For `level` see [`filter`].
pub fn init(style: Style, level: &str) -> Result<(), LoggingError> {
    let (subscriber, set_filter) = subscriber(style, filter(level)?, io::stderr);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LoggingError::SetUpAlready)?;
    let _ = SET_FILTER.set(set_filter);
    Ok(())
}

/// Has the log that [`init`] has set up follow another filter. Without one it does nothing.
pub fn set_filter(filter: EnvFilter) {
    if let Some(Err(error)) = SET_FILTER.get().map(|set| set(filter)) {
        tracing::error!(%error, "the level of the log cannot be changed");
    }
}

/// Parses `level`: a level such as `info`, or a list such as `info,settled_pipeline::intake=debug,lapin=info`.
///
/// A level without a module is that of the daemon's own modules (`info` if there is none). Libraries log at `warn`, or
/// less if the daemon does. lapin is off, because it logs whole messages, and its errors are logged by the daemon. A
/// library logs more if it is named.
/// A target may be named as it was before the daemon was cut into crates: `settled::store` is `settled_store`.
pub fn filter(level: &str) -> Result<EnvFilter, LoggingError> {
    let refuse = |detail: String| LoggingError::Level { level: level.to_owned(), detail };
    let mut own = LevelFilter::INFO;
    let mut named = Vec::new();
    for directive in level.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
        if directive.contains(['=', '[']) {
            named.push(directive);
        } else {
            // `EnvFilter` would take a misspelled level for a module's name and log nothing else.
            own = directive.parse().map_err(|_| refuse(format!("`{directive}` is not a level")))?;
        }
    }
    let mut directives = format!("{},lapin=off,settled={own}", own.min(LevelFilter::WARN));
    for directive in targets::of_today(&named) {
        directives.push(',');
        directives.push_str(&directive);
    }
    EnvFilter::builder().with_regex(false).parse(directives).map_err(|error| refuse(error.to_string()))
}

fn subscriber<W>(style: Style, filter: EnvFilter, writer: W) -> (Box<dyn Subscriber + Send + Sync>, SetFilter)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    match style {
        Style::Json => {
            let builder = builder.with_writer(writer).json().flatten_event(true).with_span_list(false);
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            (Box::new(builder.finish()), Box::new(move |filter: EnvFilter| handle.reload(filter)))
        }
        Style::Text { colour } => {
            let builder = builder.fmt_fields(debug_fn(field).delimited(" ")).with_ansi(colour).with_writer(writer);
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            (Box::new(builder.finish()), Box::new(move |filter: EnvFilter| handle.reload(filter)))
        }
    }
}

/// Writes a field with control characters escaped. The subscriber's own formatter lets newlines through, and in
/// displayed fields escape sequences, too.
fn field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let text = format!("{value:?}");
    match field.name() {
        "message" => writer.write_str(&printable(&text)),
        // Metadata that the `log` crate adds.
        name if name.starts_with("log.") => Ok(()),
        name => write!(writer, "{name}={}", printable(&text)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(style: Style, level: &str, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let (subscriber, _) = subscriber(style, filter(level).expect("a filter"), move || writer.clone());
        tracing::subscriber::with_default(subscriber, log);
        let bytes = lines.0.lock().clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn json_lines_have_their_fields_at_the_top() {
        let text = logged(Style::Json, "info", || tracing::info!(trace_id = "4bf9", amount = 12, "settled"));
        let line: serde_json::Value = serde_json::from_str(text.trim()).expect("one JSON object");
        assert_eq!(line["message"], "settled");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["trace_id"], "4bf9");
        assert_eq!(line["amount"], 12);
        assert!(line["timestamp"].as_str().is_some_and(|timestamp| timestamp.ends_with('Z')), "{line}");
    }

    #[test]
    fn text_is_plain_without_a_terminal() {
        let text = logged(Style::Text { colour: false }, "info", || tracing::warn!(reason = "refused", "down"));
        assert!(text.contains(" WARN ") && text.contains("down reason=\"refused\""), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn what_is_logged_of_others_stays_on_its_line() {
        let forged = "order\u{1b}[2J\r\n2026-01-01 WARN all is well\u{202e}\u{9b}2J";
        for colour in [false, true] {
            let text = logged(Style::Text { colour }, "info", || tracing::info!(reference = %forged, "{forged}"));
            assert_eq!(text.lines().count(), 1, "{text:?}");
            assert!(!text.contains(['\r', '\u{202e}', '\u{9b}']) && !text.contains("\u{1b}[2J"), "{text:?}");
            assert_eq!(text.contains('\u{1b}'), colour, "{text:?}");
        }
    }

    #[test]
    fn libraries_are_quiet_unless_asked() {
        let speak = || {
            tracing::info!(target: "lapin::channel", "library info");
            tracing::warn!(target: "lapin::channel", "a whole message");
            tracing::warn!(target: "tokio_postgres", "library warning");
            tracing::debug!(target: "settled_pipeline::intake", "own debug");
        };
        let text = logged(Style::Json, "debug", speak);
        assert!(!text.contains("library info") && text.contains("library warning") && text.contains("own debug"));
        assert!(!text.contains("a whole message"), "{text}");
        let text = logged(Style::Json, "error", speak);
        assert_eq!(text, "");
        let text = logged(Style::Json, "lapin=info", speak);
        assert!(text.contains("library info") && !text.contains("own debug"), "{text}");
        let text = logged(Style::Json, "info,settled_pipeline::intake=debug", speak);
        assert!(!text.contains("library info") && text.contains("own debug"), "{text}");
    }

    #[test]
    fn a_target_may_be_named_as_it_was() {
        let speak = || {
            tracing::debug!(target: "settled_store::driver", "the store");
            tracing::debug!(target: "settled_amqp::sink", "the sink");
            tracing::warn!(target: "settled_amqp::source", "the source");
            tracing::debug!(target: "settled_pipeline::outbox::relay", "the relay");
        };
        let text = logged(Style::Json, "info,settled::store=debug,settled::intake::rabbitmq=off", speak);
        assert!(text.contains("the store") && !text.contains("the source"), "{text}");
        assert!(!text.contains("the sink") && !text.contains("the relay"), "{text}");
        let text = logged(Style::Json, "settled::outbox::rabbitmq=warn,settled::outbox=debug", speak);
        assert!(text.contains("the relay") && text.contains("the source") && !text.contains("the sink"), "{text}");
    }

    #[test]
    fn the_filter_can_be_replaced() {
        for style in [Style::Json, Style::Text { colour: false }] {
            let lines = Lines::default();
            let writer = lines.clone();
            let (subscriber, set_filter) = subscriber(style, filter("info").expect("a filter"), move || writer.clone());
            tracing::subscriber::with_default(subscriber, || {
                for level in ["info", "debug", "warn"] {
                    set_filter(filter(level).expect("a filter")).expect("replaced");
                    tracing::debug!("detail at {level}");
                    tracing::info!("news at {level}");
                }
            });
            let bytes = lines.0.lock().clone();
            let text = String::from_utf8(bytes).expect("UTF-8");
            let logged = ["news at info", "detail at debug", "news at debug"];
            assert!(text.lines().count() == 3 && logged.iter().all(|line| text.contains(line)), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_what_was_expected() {
        for (level, expected) in
            [("inof", "`inof`: `inof` is not a level; expected off, "), ("settled=loud", "`settled=loud`: ")]
        {
            let error = filter(level).expect_err("not a level").to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
