//! The socket to a node: TCP, or TLS by a client of our own. lapin's own client trusts the system's authorities, too,
//! if it is given others.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_rs::traits::{Executor, Reactor, RuntimeKit};
use async_rs::util::Task;
use async_rs::{Runtime, Tokio};
use futures_io::{AsyncRead, AsyncWrite};
use lapin::tcp::{AsyncTcpStream, RustlsConnector};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties};
use settled_tls::Opening;
use tokio::runtime::Handle;

/// Opens a connection that lapin reads and writes through what `wrap` makes of the socket.
pub(crate) async fn connect<S>(
    uri: AMQPUri,
    properties: ConnectionProperties,
    tls: Option<RustlsConnector>,
    wrap: impl Fn(Socket) -> S + Send + Sync + 'static,
) -> lapin::Result<Connection>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let tokio = Tokio::default().with_handle(Handle::current());
    let runtime = Runtime::new(tokio.clone());
    let connect = async move |uri: AMQPUri, _: Runtime<Kit<S>>| {
        let stream = open(&uri, tls.as_ref(), &runtime).await?;
        Ok(AsyncTcpStream::Plain(wrap(Socket { stream, opening: Opening::default() })))
    };
    Connection::connector(uri, Runtime::new(Kit(tokio, PhantomData)), connect, properties).await
}

/// Opens a socket that lapin has no part in.
pub(crate) async fn open_alone(uri: &AMQPUri, tls: Option<&RustlsConnector>) -> io::Result<Socket> {
    let runtime = Runtime::new(Tokio::default().with_handle(Handle::current()));
    Ok(Socket { stream: open(uri, tls, &runtime).await?, opening: Opening::default() })
}

/// Connects to the node of `uri`, and completes the TLS handshake if it is `amqps://`.
async fn open(uri: &AMQPUri, tls: Option<&RustlsConnector>, runtime: &Runtime<Tokio>) -> io::Result<Stream> {
    let (host, port) = (uri.authority.host.clone(), uri.authority.port);
    let addresses = runtime.to_socket_addrs((host, port));
    let stream = AsyncTcpStream::connect(runtime, addresses).await?;
    match (&uri.scheme, tls) {
        (AMQPScheme::AMQP, _) => Ok(stream),
        (AMQPScheme::AMQPS, Some(tls)) => stream.into_rustls(tls, &uri.authority.host).await,
        (AMQPScheme::AMQPS, None) => Err(io::Error::new(io::ErrorKind::InvalidInput, "amqps:// without a TLS client")),
    }
}

type Stream = AsyncTcpStream<<Tokio as Reactor>::TcpStream>;

/// A socket that says what the server said last, rather than that writing failed.
pub(crate) struct Socket {
    stream: Stream,
    opening: Opening,
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let bytes = ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.opening.read(bytes);
        Poll::Ready(Ok(bytes))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.opening.write(written, buf.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.opening.write(written, bufs.iter().map(|buf| buf.len()).sum())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.opening.write(flushed, ())
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

/// The tokio runtime as lapin uses it, with `S` as the type of its streams.
struct Kit<S>(Tokio, PhantomData<fn() -> S>);

impl<S> Clone for Kit<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<S> fmt::Debug for Kit<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> RuntimeKit for Kit<S> {}

impl<S: 'static> Executor for Kit<S> {
    type Task<T: Send + 'static> = <Tokio as Executor>::Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, future: F) -> T {
        self.0.block_on(future)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(&self, future: F) -> Task<Self::Task<T>> {
        self.0.spawn(future)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(&self, work: F) -> Task<Self::Task<T>> {
        self.0.spawn_blocking(work)
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Reactor for Kit<S> {
    type TcpStream = S;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: io::Read + io::Write + std::os::fd::AsFd + std::os::fd::AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl futures_util::Stream<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    /// Never called: [`connect`] makes the stream.
    fn tcp_connect_addr(&self, _: SocketAddr) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        std::future::ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::TcpListener;
    use std::sync::Arc;

    use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::server::WebPkiClientVerifier;
    use rustls::{RootCertStore, ServerConfig, ServerConnection};
    use settled_tls::Files;

    use super::*;

    fn certificate(name: &str) -> CertifiedKey<KeyPair> {
        generate_simple_self_signed([name.to_owned()]).unwrap()
    }

    /// Returns a server that shows this certificate, and trusts no other one.
    fn server(CertifiedKey { cert, signing_key }: &CertifiedKey<KeyPair>) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider)).build().unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = builder.with_client_cert_verifier(clients).with_single_cert(vec![cert.der().clone()], key);
        Arc::new(config.unwrap())
    }

    #[tokio::test]
    async fn what_the_server_has_said_is_read_although_writing_fails() {
        let (ours, foreign, dir) = (certificate("127.0.0.1"), certificate("foreign"), tempfile::tempdir().unwrap());
        let file = |name, content: String| {
            let path = dir.path().join(name);
            std::fs::write(&path, content).unwrap();
            Some(path)
        };
        let files = Files {
            authorities: file("ca.pem", ours.cert.pem()),
            certificate: file("foreign.pem", foreign.cert.pem()),
            key: file("foreign.key", foreign.signing_key.serialize_pem()),
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let uri = format!("amqps://{}", listener.local_addr().unwrap()).parse().unwrap();
        // It sends an alert and closes the connection.
        let refusing = tokio::task::spawn_blocking(move || {
            let (mut socket, _) = listener.accept().unwrap();
            ServerConnection::new(server(&ours)).unwrap().complete_io(&mut socket).unwrap_err();
        });
        let tls = RustlsConnector::from(files.client_config().unwrap());
        let runtime = Runtime::new(Tokio::default().with_handle(Handle::current()));
        let stream = open(&uri, Some(&tls), &runtime).await.unwrap();
        refusing.await.unwrap();
        let mut socket = Socket { stream, opening: Opening::default() };
        for _ in 0..100 {
            poll_fn(|cx| Pin::new(&mut socket).poll_write(cx, &[0; 100])).await.unwrap();
            poll_fn(|cx| Pin::new(&mut socket).poll_flush(cx)).await.unwrap();
        }
        let error = poll_fn(|cx| Pin::new(&mut socket).poll_read(cx, &mut [0; 100])).await.unwrap_err();
        let reason = files.explain(&error).unwrap();
        assert!(reason.contains("the server refuses the client's certificate"), "{reason}");
    }
}
