//! The metrics exporter, the log and the traces.
//!
//! Amounts of money, account names and ids are never labels.

pub mod exporter;
pub mod logging;
mod process;
mod settings;
mod targets;
pub mod traces;

pub use self::settings::{LogFormat, LogSettings};
pub use self::traces::TraceSettings;
