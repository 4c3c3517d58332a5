//! From the committed outbox to the events exchange.

mod settings;

pub use settings::{EventFormat, EventSettings, Unroutable};
