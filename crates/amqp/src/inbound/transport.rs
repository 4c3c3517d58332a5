//! The stream that lapin reads from and writes to: TCP or TLS, with a [`Filter`] on the reading side.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use lapin::tcp::RustlsConnector;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};
use tokio::runtime::Handle;
use tokio::time::Sleep;

use super::filter::{Filter, MAX_FRAME, Pulled};
use super::inbox::Inbox;
use crate::socket::{self, Socket};

/// How often lapin gets a heartbeat while the budget is exhausted. It closes a connection that is silent for two
/// heartbeat intervals, which are at least a second each.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);

/// Opens a connection that is read through a filter, whose notes go to `inbox`.
pub(crate) async fn connect(
    uri: AMQPUri,
    properties: ConnectionProperties,
    tls: Option<RustlsConnector>,
    inbox: Arc<Inbox>,
) -> lapin::Result<Connection> {
    let handle = Handle::current();
    let most = uri.query.frame_max.unwrap_or(MAX_FRAME);
    let wrap = move |socket| Transport {
        socket,
        filter: Filter::new(Arc::clone(&inbox), most),
        handle: handle.clone(),
        heartbeat: None,
    };
    socket::connect(uri, properties, tls, wrap).await
}

/// A socket whose reading side is filtered.
pub(super) struct Transport {
    socket: Socket,
    filter: Filter,
    handle: Handle,
    /// When the next heartbeat is due, while the budget is exhausted.
    heartbeat: Option<Pin<Box<Sleep>>>,
}

impl Transport {
    /// Waits until deliveries may pass again, or the next heartbeat for lapin is due.
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let inbox = self.filter.inbox();
        if inbox.is_closed() || !inbox.budget().wait(cx.waker()) {
            self.heartbeat = None;
            return Poll::Ready(());
        }
        // lapin reads on a thread of its own, outside the tokio runtime.
        let handle = &self.handle;
        let heartbeat = self.heartbeat.get_or_insert_with(|| {
            let _entered = handle.enter();
            Box::pin(tokio::time::sleep(HEARTBEAT_INTERVAL))
        });
        ready!(heartbeat.as_mut().poll(cx));
        self.heartbeat = None;
        self.filter.insert_heartbeat();
        Poll::Ready(())
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            match this.filter.pull(buf) {
                Ok(Pulled::Bytes(bytes)) => return Poll::Ready(Ok(bytes)),
                Ok(Pulled::NeedsInput) => {
                    match ready!(Pin::new(&mut this.socket).poll_read(cx, this.filter.space()))? {
                        0 => return Poll::Ready(Ok(0)),
                        bytes => this.filter.filled(bytes),
                    }
                }
                Ok(Pulled::Paused) => ready!(this.poll_pause(cx)),
                Err(violation) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, violation))),
            }
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_close(cx)
    }
}
