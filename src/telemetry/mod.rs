//! Metrics and the log.

mod settings;

pub use settings::{LogFormat, LogSettings};
