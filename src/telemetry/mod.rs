//! The metrics exporter and the log.
//!
//! Amounts of money, account names and ids are never labels.

pub mod exporter;
pub mod logging;
mod process;
mod settings;
mod targets;

pub use self::settings::{LogFormat, LogSettings};
