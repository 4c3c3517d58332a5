//! Binding and serving.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::connection::Bounded;
use super::routes::{Seen, router};
use crate::health::Health;
use crate::telemetry::exporter::Exporter;

/// Connections at a time. A scraper and a few probes need a handful.
const CONNECTIONS: usize = 64;

/// How long a connection may be silent; longer than scrape intervals usually are.
const IDLE: Duration = Duration::from_secs(75);

/// What a client gets to take its answer when the server stops.
const GRACE: Duration = Duration::from_millis(500);

/// The address can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("admin.listen = \"{listen}\": can't listen there ({source}); choose a free address, or port 0 for any")]
pub struct BindError {
    /// What was asked for.
    pub listen: SocketAddr,
    /// What the system says.
    pub source: io::Error,
}

/// A server that has its address and doesn't serve yet.
pub struct AdminServer {
    listener: TcpListener,
    local_addr: SocketAddr,
}

impl AdminServer {
    /// Takes the address, so that a wrong one is found before anything is started.
    pub async fn bind(listen: SocketAddr) -> Result<Self, BindError> {
        let bound = async {
            let listener = TcpListener::bind(listen).await?;
            let local_addr = listener.local_addr()?;
            Ok(Self { listener, local_addr })
        };
        bound.await.map_err(|source| BindError { listen, source })
    }

    /// The address, with the port that the system chose where 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `stop`. It should be the last to stop, so that a drain can be watched.
    pub async fn serve(
        self,
        health: Arc<Health>,
        exporter: Arc<Exporter>,
        liveness_timeout: Duration,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let listener = Bounded::new(self.listener, CONNECTIONS, IDLE);
        let router = router(Seen { health, exporter, liveness_timeout });
        let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        let out_of_patience = async {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            result = serving => result,
            () = out_of_patience => Ok(()),
        }
    }
}
