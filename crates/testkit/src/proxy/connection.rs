//! One proxied connection: forwards both directions until the connection is cut or both have ended.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::cutter::Cutter;
use super::postgres::Session;
use super::{CutPoint, Listed, Weather};

/// Size of the read buffer.
const CHUNK: usize = 32 * 1024;

/// Why forwarding stopped before the sender closed.
enum Stop {
    Cut(CutPoint),
    Gone,
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// Forwards between client and server until the connection ends. Returns where it was cut, if it was.
pub(super) async fn carry(client: &mut TcpStream, server: &mut TcpStream, listed: &Listed) -> Option<CutPoint> {
    let (shared, session) = (&listed.shared, Session::default());
    let [up, down] = shared.protocol.cutters(&session, &shared.points);
    let weather = || (listed.id, shared.weather.subscribe());
    let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
    // Concurrently: a direction that is blocked by a full buffer doesn't block the other.
    let carried = tokio::try_join!(
        forward(from_client, to_server, up, weather()),
        forward(from_server, to_client, down, weather()),
    );
    match carried {
        Err(Stop::Cut(point)) => Some(point),
        Ok(((), ())) | Err(Stop::Gone) => None,
    }
}

/// Forwards one direction until its sender closes, and then closes the receiver's side.
async fn forward(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut cutter: Cutter<'_>,
    mut weather: (u64, watch::Receiver<Weather>),
) -> Result<(), Stop> {
    let (mut chunk, mut out) = (vec![0; CHUNK], Vec::with_capacity(CHUNK));
    loop {
        let count = from.read(&mut chunk).await?;
        pass(&mut weather).await?;
        if count == 0 {
            return Ok(to.shutdown().await?);
        }
        out.clear();
        let cut = cutter.feed(&chunk[..count], &mut out)?;
        to.write_all(&out).await?;
        if let Some(point) = cut {
            return Err(Stop::Cut(point));
        }
    }
}

/// Waits for the configured delay, and while the connection is half-open or forgotten.
async fn pass((id, weather): &mut (u64, watch::Receiver<Weather>)) -> Result<(), Stop> {
    let delay = weather.wait_for(|weather| weather.lets_pass(*id)).await.map_err(|_| Stop::Gone)?.delay;
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    Ok(())
}
