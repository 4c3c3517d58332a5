//! `[admin]`: where health and metrics are served.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use settled_pipeline::section;
use settled_pipeline::settings::always;

section! {
    pub struct AdminSettings in "admin", "HTTP for the operator: /livez, /readyz, /metrics.";

    /// There is no authentication: beyond loopback only where the network is trusted. Port 0 takes a free one.
    pub listen: SocketAddr = (Ipv4Addr::LOCALHOST, 9464).into() => Parsed(), env "SETTLED_ADMIN_LISTEN";
    /// How long a pipeline with work to do may make no progress before /livez fails; more than
    /// postgres.statement_timeout.
    pub liveness_timeout: Duration = Duration::from_secs(60)
        => Span(Duration::from_secs(1)..=Duration::from_secs(3600)), reloads(always);
    /// A local socket (mode 0600) on which `settled profile` asks for profiles of CPU and memory. Without it there are none.
    pub profile_socket: Option<PathBuf> = None => Path();
}
