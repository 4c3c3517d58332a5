//! HTTP for the operator.

mod settings;

pub use settings::AdminSettings;
