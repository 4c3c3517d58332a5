use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use settled_pipeline::health::Health;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::yield_now;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::limits::Limits;
use super::places::Places;
use super::routes::{AdminState, router};
use super::stream::Timed;
use crate::telemetry::exporter::Exporter;

/// The most bytes of headers.
const MAX_HEADERS: usize = 16 * 1024;

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
    limits: Limits,
}

impl AdminServer {
    /// Binds the address, so that a wrong one is found before anything else is started.
    pub async fn bind(listen: SocketAddr) -> Result<Self, BindError> {
        let bound = async {
            let listener = TcpListener::bind(listen).await?;
            let local_addr = listener.local_addr()?;
            Ok(Self { listener, local_addr, limits: Limits::default() })
        };
        bound.await.map_err(|source| BindError { listen, source })
    }

    /// Returns the bound address; the port is the one the system chose if 0 was requested.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Returns the server with other limits than the usual ones.
    #[must_use]
    pub fn limited_to(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Serves until `stop` is canceled. It should stop last, so that a drain can be observed.
    pub async fn serve(
        self,
        health: Arc<Health>,
        exporter: Arc<Exporter>,
        liveness_timeout: Duration,
        stop: CancellationToken,
    ) {
        let Self { mut listener, limits, .. } = self;
        let router = router(AdminState { health, exporter, liveness_timeout });
        let mut places = Places::new(limits);
        loop {
            let (stream, address) = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                // axum's implementation waits when the process is out of file descriptors.
                accepted = Listener::accept(&mut listener) => accepted,
            };
            places.serve(address.ip(), converse(stream, limits, router.clone(), stop.clone()));
            // A request that is there already is answered before another connection can take the place of this one.
            yield_now().await;
        }
        drop(listener);
        // Those that take longer are closed.
        let _ = timeout(GRACE, places.all_ended()).await;
    }
}

/// Answers the requests of a connection, until its client ends it, is too slow, or `stop` is canceled. axum's own loop
/// has no limit for a request.
async fn converse(stream: TcpStream, limits: Limits, router: Router, stop: CancellationToken) {
    let stream = TokioIo::new(Timed::new(stream, limits.response));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.request)
        .max_buf_size(MAX_HEADERS)
        .serve_connection(stream, TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    // Its error is the client's fault, or its end.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
