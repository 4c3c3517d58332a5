use std::time::Duration;

/// What clients may take of the admin server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most connections at a time. A scraper and a few probes need a handful.
    pub connections: usize,
    /// The most of them from one address.
    pub per_address: usize,
    /// How long a client may take from connecting, or from its last response, to the end of its next request's headers.
    pub request: Duration,
    /// How long it may take to receive a response.
    pub response: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let (request, response) = (Duration::from_secs(10), Duration::from_secs(10));
        Self { connections: 64, per_address: 16, request, response }
    }
}
