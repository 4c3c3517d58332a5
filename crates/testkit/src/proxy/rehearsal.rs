//! Runs the proxy's logic on a conversation without sockets, to see what would be forwarded.

use super::points::Points;
use super::postgres::Session;
use super::{CutPoint, Protocol};

/// The sender of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The daemon.
    Client,
    /// The database or the broker.
    Server,
}

/// The forwarded bytes, and why forwarding stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Through {
    /// Bytes forwarded from the client.
    pub client: Vec<u8>,
    /// Bytes forwarded from the server.
    pub server: Vec<u8>,
    /// Where the connection was cut, if it was.
    pub cut: Option<CutPoint>,
    /// Whether a side has violated the protocol, which ends the connection.
    pub is_refused: bool,
}

/// Passes the chunks in `said` through a new connection, and cuts it at the first point in `armed` that it reaches.
/// If a chunk violates the protocol, the bytes before the violation count as forwarded, whereas a real connection
/// drops them.
pub fn rehearse<'s>(
    protocol: Protocol,
    armed: &[CutPoint],
    said: impl IntoIterator<Item = (Side, &'s [u8])>,
) -> Through {
    let (points, session) = (Points::default(), Session::default());
    armed.iter().for_each(|point| points.at(*point).armed += 1);
    let [mut client, mut server] = protocol.cutters(&session, &points);
    let mut through = Through::default();
    for (side, chunk) in said {
        let fed = match side {
            Side::Client => client.feed(chunk, &mut through.client),
            Side::Server => server.feed(chunk, &mut through.server),
        };
        match fed {
            Ok(None) => continue,
            Ok(cut) => through.cut = cut,
            Err(_) => through.is_refused = true,
        }
        break;
    }
    through
}
