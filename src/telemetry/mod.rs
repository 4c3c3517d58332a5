//! What an operator sees: metrics and logs.
//!
//! Every metric is named and described in [`metrics`], every label value in [`labels`]. Amounts of
//! money, account names and ids are never labels.

pub mod exporter;
pub mod labels;
pub mod logging;
pub mod metrics;
mod process;
mod settings;

pub use self::settings::{LogFormat, LogSettings};
