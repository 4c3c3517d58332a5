//! Waiting between attempts.

mod settings;

pub use settings::RetrySettings;
