//! One HTTP request on a connection of its own: to a daemon's admin server and its socket for profiles, or to a collector
//! of traces.

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// The longest body of a response, in bytes.
const LONGEST: usize = 64 << 20;

/// Sends a GET request. Returns the status and the body. It has no time limit.
pub(crate) async fn get(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    host: &str,
    path: &str,
) -> anyhow::Result<(StatusCode, Bytes)> {
    exchange(stream, Request::get(path).header(header::HOST, host).body(Full::default())?).await
}

/// Sends a request, and receives the whole response. It has no time limit.
pub(crate) async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // The connection has to be driven while the response comes. It ends when the sender is dropped.
    let (answer, _) = tokio::join!(
        async move {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LONGEST).collect().await;
            anyhow::Ok((status, body.map_err(|error| anyhow::anyhow!(error))?.to_bytes()))
        },
        connection
    );
    answer
}
