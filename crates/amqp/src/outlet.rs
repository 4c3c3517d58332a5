//! Where events go.

use crate::stream::EventStream;

/// Where the daemon publishes events.
#[derive(Clone, Debug)]
pub struct Outlet {
    /// The exchange, which is declared in any case.
    pub exchange: String,
    /// The stream that events are appended to instead, if there is one.
    pub stream: Option<EventStream>,
}

impl From<&str> for Outlet {
    fn from(exchange: &str) -> Self {
        Self { exchange: exchange.to_owned(), stream: None }
    }
}
