//! A conversation without sockets: what of it would be forwarded.

use super::amqp::Frames;
use super::cutter::{Cutter, Direction};
use super::points::Points;
use super::postgres::{Backend, Frontend, Session};
use super::{CutPoint, Protocol};

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The daemon.
    Client,
    /// Its database or broker.
    Server,
}

/// What has come through, and why no more has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Through {
    /// What the client has said.
    pub client: Vec<u8>,
    /// What the server has said.
    pub server: Vec<u8>,
    /// Where it was cut.
    pub cut: Option<CutPoint>,
    /// Whether one of them has said what the protocol doesn't allow for, which ends the connection.
    pub is_refused: bool,
}

/// Has a new connection carry `said`, chunk by chunk in this order, and cuts it at the first of the
/// points in `armed` that it comes to. Of a chunk in which something is refused, what came before that
/// counts as forwarded; a connection drops it.
pub fn rehearse<'s>(
    protocol: Protocol,
    armed: &[CutPoint],
    said: impl IntoIterator<Item = (Side, &'s [u8])>,
) -> Through {
    let (points, session) = (Points::default(), Session::default());
    armed.iter().for_each(|point| points.arm(*point));
    match protocol {
        Protocol::Postgres => carry(Frontend::new(&session, &points), Backend::new(&session, &points), said),
        Protocol::Amqp => carry(Frames::of_client(&points), Frames::of_server(&points), said),
    }
}

fn carry<'s>(
    client: impl Direction,
    server: impl Direction,
    said: impl IntoIterator<Item = (Side, &'s [u8])>,
) -> Through {
    let (mut client, mut server) = (Cutter::new(client), Cutter::new(server));
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
