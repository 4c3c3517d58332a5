//! A connection on which one command after the other is answered: the handshake, and what is declared.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use futures_io::{AsyncRead, AsyncWrite};
use parking_lot::Mutex;

use super::command::{Request, TUNE};
use super::frame::{Code, Frame, code};
use super::wire::{Malformed, Splitter};
use crate::socket::Socket;

/// How much is read at once, in bytes.
const CHUNK: usize = 16 << 10;

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("the broker has closed the connection")]
    Ended,
    #[error("RabbitMQ closes the connection: {1} ({0})")]
    Closed(Code, String),
}

/// A socket that is read and written at the same time, by the same task.
#[derive(Clone)]
pub(super) struct Duplex(Arc<Mutex<Socket>>);

impl Duplex {
    async fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| Pin::new(&mut *self.0.lock()).poll_read(cx, bytes)).await
    }

    pub(super) async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = poll_fn(|cx| Pin::new(&mut *self.0.lock()).poll_write(cx, bytes)).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = &bytes[written..];
        }
        poll_fn(|cx| Pin::new(&mut *self.0.lock()).poll_flush(cx)).await
    }
}

/// Reads the frames of a socket.
pub(super) struct FrameReader {
    socket: Duplex,
    splitter: Splitter,
    chunk: Box<[u8]>,
}

impl FrameReader {
    /// Returns the next frame. Nothing is lost if the future is dropped.
    pub(super) async fn next(&mut self) -> Result<Frame<'_>, LinkError> {
        while !self.splitter.is_ready()? {
            match self.socket.read(&mut self.chunk).await? {
                0 => return Err(LinkError::Ended),
                count => self.splitter.feed(&self.chunk[..count]),
            }
        }
        Ok(Frame::parse(self.splitter.next()?.unwrap_or_default())?)
    }
}

/// A connection that waits for the answer to each command.
pub(super) struct Link {
    pub(super) socket: Duplex,
    pub(super) reader: FrameReader,
    /// What the server proposes, once it has.
    pub(super) tune: Option<(u32, u32)>,
    correlation: u32,
}

impl Link {
    pub(super) fn new(socket: Socket) -> Self {
        let socket = Duplex(Arc::new(Mutex::new(socket)));
        let (splitter, chunk) = (Splitter::default(), vec![0; CHUNK].into_boxed_slice());
        let reader = FrameReader { socket: socket.clone(), splitter, chunk };
        Self { socket, reader, tune: None, correlation: 0 }
    }

    /// Sends a command. Returns the code of its answer, and what is behind the code.
    pub(super) async fn call(&mut self, request: Request<'_>) -> Result<(Code, Vec<u8>), LinkError> {
        self.correlation += 1;
        self.socket.write(&request.encode(self.correlation)).await?;
        loop {
            match self.reader.next().await? {
                Frame::Answer { key, correlation, body } if (key, correlation) == (request.key(), self.correlation) => {
                    let (code, rest) = code(key, body)?;
                    return Ok((code, rest.0.to_owned()));
                }
                Frame::Tune(frame_max, heartbeat) => self.tune = Some((frame_max, heartbeat)),
                Frame::Close(code, reason) => return Err(LinkError::Closed(code, reason.into_owned())),
                _ => {}
            }
        }
    }

    /// Returns what the server proposes behind the login.
    pub(super) async fn tuned(&mut self) -> Result<(u32, u32), LinkError> {
        loop {
            if let Some(proposed) = self.tune {
                return Ok(proposed);
            }
            match self.reader.next().await? {
                Frame::Tune(frame_max, heartbeat) => self.tune = Some((frame_max, heartbeat)),
                Frame::Close(code, reason) => return Err(LinkError::Closed(code, reason.into_owned())),
                Frame::Answer { key: TUNE, .. } => return Err(Malformed::Short.into()),
                _ => {}
            }
        }
    }
}
