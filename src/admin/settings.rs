//! `[admin]`: where health and metrics are served.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use settled_pipeline::settings::{Field, Key, Section};

#[derive(Debug, Clone)]
pub struct AdminSettings {
    /// Port 0 lets the system choose a free one.
    pub listen: SocketAddr,
    /// How long a pipeline with work may make no progress before `/livez` fails.
    pub liveness_timeout: Duration,
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self { listen: (Ipv4Addr::LOCALHOST, 9464).into(), liveness_timeout: Duration::from_secs(60) }
    }
}

impl Section for AdminSettings {
    const NAME: &'static str = "admin";
    const ABOUT: &'static str = "HTTP for the operator: /livez, /readyz, /metrics.";

    #[rustfmt::skip]
    fn keys(&mut self) -> Vec<Key<'_>> {
        vec![
            Key::new("listen", Field::Parsed(&mut self.listen), "There is no authentication: beyond loopback only where the network is trusted. Port 0 takes a free one.").or_env("SETTLED_ADMIN_LISTEN"),
            Key::new("liveness_timeout", Field::Span(&mut self.liveness_timeout, Duration::from_secs(1)..=Duration::from_secs(3600)), "How long a pipeline with work to do may make no progress before /livez fails; more than postgres.statement_timeout."),
        ]
    }
}
