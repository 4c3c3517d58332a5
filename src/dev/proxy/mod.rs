//! A proxy between the daemon and one of its servers that cuts connections at named points:
//! just before a COMMIT is forwarded, just after an acknowledgement, and so on; besides, it can
//! delay, forward nothing, and reset.
//!
//! It understands of each protocol where a message begins and what it is, no more, and passes
//! every byte on unchanged. It holds at most a chunk and the head of a message per direction,
//! whatever passes through. TLS is not spoken.

mod amqp;
mod connection;
mod cutter;
mod points;
mod postgres;
mod rehearsal;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use points::CutPoint;
pub use rehearsal::{Side, Through, rehearse};

use connection::End;
use points::Points;

/// What is spoken through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// PostgreSQL's protocol, version 3.
    Postgres,
    /// AMQP 0-9-1.
    Amqp,
}

/// A proxy on tasks of the caller's tokio runtime. Dropping it ends all of them, and with them
/// every connection.
pub struct CuttingProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _end: DropGuard,
}

/// What the way through the proxy is like.
#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    delay: Duration,
    half_open: bool,
    /// Connections with smaller numbers carry nothing.
    forgotten: u64,
}

impl Weather {
    /// Whether anything gets through on the connection with this number.
    const fn lets_pass(&self, id: u64) -> bool {
        !self.half_open && id >= self.forgotten
    }
}

/// What all connections share.
struct Shared {
    protocol: Protocol,
    target: SocketAddr,
    points: Points,
    weather: watch::Sender<Weather>,
    /// The connections that are open, each with what resets it.
    open: Mutex<HashMap<u64, CancellationToken>>,
}

impl CuttingProxy {
    /// Listens on a free loopback port and forwards to `target`, which need not be there yet: a
    /// connection that cannot be forwarded is closed.
    ///
    /// # Errors
    /// If there is no port to be had.
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

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The next connection that reaches `point` is cut there, once. Several calls add up. A point
    /// of the other protocol is never reached.
    pub fn arm(&self, point: CutPoint) {
        self.shared.points.arm(point);
    }

    /// How many cuts are still to come at `point`: it is 0 once the last one has begun.
    pub fn armed(&self, point: CutPoint) -> u64 {
        self.shared.points.armed(point)
    }

    /// How often a connection has come to `point`, cut there or not.
    pub fn reached(&self, point: CutPoint) -> u64 {
        self.shared.points.reached(point)
    }

    /// How many connections have been cut at `point`, both sides of each being closed.
    pub fn cuts(&self, point: CutPoint) -> u64 {
        self.shared.points.cuts(point)
    }

    /// Resets all connections now, as a firewall does that has lost its state; answers how many.
    pub fn cut_all(&self) -> usize {
        let open = std::mem::take(&mut *self.shared.open.lock());
        for connection in open.values() {
            connection.cancel();
        }
        open.len()
    }

    /// From now on each chunk waits for this long, in each direction. Zero ends it.
    pub fn delay(&self, by: Duration) {
        self.shared.weather.send_modify(|weather| weather.delay = by);
    }

    /// While this is on, connections stay open and new ones are accepted, but nothing is forwarded
    /// either way, the end of a connection included: as behind a router that died. What was held
    /// up goes on when it is turned off.
    pub fn half_open(&self, on: bool) {
        self.shared.weather.send_modify(|weather| weather.half_open = on);
    }

    /// The connections that are open now carry nothing any more, for ever; new ones are as usual:
    /// as with a firewall that has lost its state and is silent about it. Answers how many.
    pub fn forget_all(&self) -> usize {
        let open = self.shared.open.lock();
        let next = open.keys().max().map_or(0, |newest| newest + 1);
        self.shared.weather.send_modify(|weather| weather.forgotten = weather.forgotten.max(next));
        open.len()
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.shared.open.lock().len()
    }
}

impl fmt::Debug for CuttingProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CuttingProxy")
            .field("protocol", &self.shared.protocol)
            .field("address", &self.address)
            .field("target", &self.shared.target)
            .finish_non_exhaustive()
    }
}

/// A connection in the list of those that are open, for as long as this value lives.
struct Listed {
    id: u64,
    shared: Arc<Shared>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.shared.open.lock().remove(&self.id);
    }
}

/// Accepts connections until `end`, which also ends those that were accepted.
async fn accept(listener: TcpListener, shared: Arc<Shared>, end: CancellationToken) {
    for id in 0.. {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = end.cancelled() => return,
        };
        // Out of file descriptors, say: whoever wanted to connect finds out by himself.
        let Ok((client, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let cut = end.child_token();
        shared.open.lock().insert(id, cut.clone());
        tokio::spawn(serve(client, Listed { id, shared: Arc::clone(&shared) }, cut));
    }
}

/// Carries one connection to its end.
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
    // Not given up half-way: the server has accepted it before we hear of it, and is to be reset, too.
    // Without a server the client is closed by being dropped.
    let Ok(mut server) = TcpStream::connect(shared.target).await else { return };
    let _ = client.set_nodelay(true).and(server.set_nodelay(true));
    let end = tokio::select! {
        biased;
        () = cut.cancelled() => End::Reset,
        end = connection::carry(&mut client, &mut server, &listed) => end,
    };
    if matches!(end, End::Reset) {
        let _ = client.set_zero_linger().and(server.set_zero_linger());
    }
    drop((client, server));
    if let End::Cut(point) = end {
        shared.points.has_cut(point);
    }
}
