//! A proxy between the daemon and one of its servers. It cuts connections at named points, such as just before a
//! COMMIT or just after an acknowledgement. It can also delay, stop forwarding, and reset connections.
//!
//! Of each protocol it understands only the boundaries and the types of messages, and it forwards every byte
//! unchanged. Per direction it buffers at most a chunk and the start of a message. It doesn't support TLS.

mod amqp;
mod connection;
mod cutter;
mod points;
mod postgres;
mod rehearsal;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use amqp::Frames;
use cutter::Cutter;
pub use points::CutPoint;
use points::Points;
use postgres::{Backend, Frontend, Session};
pub use rehearsal::{Side, Through, rehearse};
use stream::StreamFrames;

/// Protocol of the proxied connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// PostgreSQL's protocol, version 3.
    Postgres,
    /// AMQP 0-9-1.
    Amqp,
    /// RabbitMQ's stream protocol.
    Stream,
}

impl Protocol {
    /// Returns the readers of what the client and the server of a connection send.
    fn cutters<'p>(self, session: &'p Session, points: &'p Points) -> [Cutter<'p>; 2] {
        match self {
            Self::Postgres => [Cutter::new(Frontend::new(session, points)), Cutter::new(Backend::new(session, points))],
            Self::Amqp => [Cutter::new(Frames::of_client(points)), Cutter::new(Frames::of_server(points))],
            Self::Stream => [Cutter::new(StreamFrames::of_client()), Cutter::new(StreamFrames::of_server(points))],
        }
    }
}

/// A running proxy, on tasks of the current tokio runtime. Dropping it ends the tasks and closes all connections.
pub struct CuttingProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _end: DropGuard,
}

/// Network conditions that the proxy simulates.
#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    delay: Duration,
    half_open: bool,
    /// Connections with smaller numbers forward nothing.
    forgotten: u64,
}

impl Weather {
    /// Returns true if the connection with this number forwards bytes.
    const fn lets_pass(&self, id: u64) -> bool {
        !self.half_open && id >= self.forgotten
    }
}

/// State shared by all connections.
struct Shared {
    protocol: Protocol,
    target: SocketAddr,
    points: Points,
    weather: watch::Sender<Weather>,
    /// Open connections by number, each with a token that resets it.
    open: Mutex<HashMap<u64, CancellationToken>>,
}

impl CuttingProxy {
    /// Listens on a free loopback port and forwards to `target`. The target need not be listening yet: connections
    /// are closed while it isn't. Fails if no port is available.
    pub async fn start(protocol: Protocol, target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            protocol,
            target,
            points: Points::default(),
            weather: watch::Sender::new(Weather::default()),
            open: Mutex::default(),
        });
        let end = CancellationToken::new();
        tokio::spawn(accept(listener, Arc::clone(&shared), end.clone()));
        Ok(Self { address, shared, _end: end.drop_guard() })
    }

    /// Returns the address of the listener.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Cuts the next connection that reaches `point`, once. Several calls add up. A point of the other protocol is
    /// never reached.
    pub fn arm(&self, point: CutPoint) {
        self.shared.points.at(point).armed += 1;
    }

    /// Returns how many cuts are pending at `point`. It is 0 as soon as the last cut has begun.
    pub fn armed(&self, point: CutPoint) -> u64 {
        self.shared.points.at(point).armed
    }

    /// Returns how often a connection has reached `point`, whether it was cut or not.
    pub fn reached(&self, point: CutPoint) -> u64 {
        self.shared.points.at(point).reached
    }

    /// Returns how many connections have been cut at `point` and are closed on both sides.
    pub fn cuts(&self, point: CutPoint) -> u64 {
        self.shared.points.at(point).cuts
    }

    /// Resets all connections, as a firewall does that has lost its state. Returns their number.
    pub fn cut_all(&self) -> usize {
        let open = std::mem::take(&mut *self.shared.open.lock());
        for connection in open.values() {
            connection.cancel();
        }
        open.len()
    }

    /// Delays each chunk in each direction by `by` from now on. Zero ends the delay.
    pub fn delay(&self, by: Duration) {
        self.shared.weather.send_modify(|weather| weather.delay = by);
    }

    /// While on, accepts and keeps connections open but forwards nothing, not even the end of a connection, as a
    /// router does that has failed. Turning it off forwards what was held back.
    pub fn half_open(&self, on: bool) {
        self.shared.weather.send_modify(|weather| weather.half_open = on);
    }

    /// Stops forwarding on all open connections for ever, without closing them, as a firewall does that has lost its
    /// state and drops packets. New connections work. Returns the number of connections.
    pub fn forget_all(&self) -> usize {
        let open = self.shared.open.lock();
        let next = open.keys().max().map_or(0, |newest| newest + 1);
        self.shared.weather.send_modify(|weather| weather.forgotten = weather.forgotten.max(next));
        open.len()
    }

    /// Returns the number of open connections.
    pub fn connections(&self) -> usize {
        self.shared.open.lock().len()
    }
}

/// Registers a connection as open for the lifetime of the value.
struct Listed {
    id: u64,
    shared: Arc<Shared>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.shared.open.lock().remove(&self.id);
    }
}

/// Accepts connections until `end` is cancelled, which also ends the accepted ones.
async fn accept(listener: TcpListener, shared: Arc<Shared>, end: CancellationToken) {
    for id in 0.. {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = end.cancelled() => return,
        };
        // For example no file descriptors are left. The client notices that it isn't connected.
        let Ok((client, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let cut = end.child_token();
        shared.open.lock().insert(id, cut.clone());
        tokio::spawn(serve(client, Listed { id, shared: Arc::clone(&shared) }, cut));
    }
}

/// Serves one connection to its end.
async fn serve(mut client: TcpStream, listed: Listed, cut: CancellationToken) {
    let shared = &listed.shared;
    let mut weather = shared.weather.subscribe();
    let is_cut = tokio::select! {
        passes = weather.wait_for(|weather| weather.lets_pass(listed.id)) => passes.is_err(),
        () = cut.cancelled() => true,
    };
    if is_cut {
        let _ = client.set_zero_linger();
        return;
    }
    // Don't cancel this connect: the server may have accepted already, and its side has to be reset too. If it fails,
    // dropping `client` closes the connection.
    let Ok(mut server) = TcpStream::connect(shared.target).await else { return };
    let _ = client.set_nodelay(true).and(server.set_nodelay(true));
    let cut_at = tokio::select! {
        biased;
        () = cut.cancelled() => {
            let _ = client.set_zero_linger().and(server.set_zero_linger());
            None
        }
        cut_at = connection::carry(&mut client, &mut server, &listed) => cut_at,
    };
    drop((client, server));
    if let Some(point) = cut_at {
        shared.points.at(point).cuts += 1;
    }
}
