//! From the broker into the lanes.

mod probe;
mod settings;

pub use probe::probe;
pub(crate) use settings::BROKER_NAME;
pub use settings::{BrokerSettings, BrokerUri, MAX_PREFETCH};
