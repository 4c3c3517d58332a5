use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use settled_pipeline::health::Health;
use settled_pipeline::settings::Live;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::connection::Bounded;
use super::routes::{AdminState, router};
use crate::telemetry::exporter::Exporter;

/// The most connections at a time. A scraper and a few probes need a handful.
const CONNECTIONS: usize = 64;

/// How long a connection may be idle; longer than the usual scrape interval.
const IDLE: Duration = Duration::from_secs(75);

/// How long a client may take to read its response when the server stops.
const GRACE: Duration = Duration::from_millis(500);

#[derive(Debug, thiserror::Error)]
#[error("admin.listen = \"{listen}\": can't listen there ({source}); choose a free address, or port 0 for any")]
pub struct BindError {
    pub listen: SocketAddr,
    pub source: io::Error,
}

/// A server that is bound to its address and doesn't serve yet.
pub struct AdminServer {
    listener: TcpListener,
    local_addr: SocketAddr,
}

impl AdminServer {
    /// Binds the address, so that a wrong one is found before anything else is started.
    pub async fn bind(listen: SocketAddr) -> Result<Self, BindError> {
        let bound = async {
            let listener = TcpListener::bind(listen).await?;
            let local_addr = listener.local_addr()?;
            Ok(Self { listener, local_addr })
        };
        bound.await.map_err(|source| BindError { listen, source })
    }

    /// Returns the bound address; the port is the one the system chose if 0 was requested.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `stop` is canceled. It should stop last, so that a drain can be observed.
    pub async fn serve(
        self,
        health: Arc<Health>,
        exporter: Arc<Exporter>,
        liveness_timeout: Live<Duration>,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let listener = Bounded::new(self.listener, CONNECTIONS, IDLE);
        let router = router(AdminState { health, exporter, liveness_timeout });
        let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        let grace_is_over = async {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            result = serving => result,
            () = grace_is_over => Ok(()),
        }
    }
}
