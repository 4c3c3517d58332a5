//! The task that carries a session's connection: it sends what is handed over, and takes what the server says.
//!
//! Both happen at the same time. While its disk alarm is on, and while it has many messages of a connection to write,
//! RabbitMQ reads nothing from that connection; but it goes on to send heartbeats, and expects none. So whether the
//! connection is alive is decided by what is read alone.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout, timeout_at};

use super::command::{METADATA, Request, heartbeat};
use super::declare::{fate, without_leader};
use super::frame::{Code, Frame, code};
use super::link::{Duplex, FrameReader, LinkError};

/// Heartbeats that may be missing before the connection counts as dead.
const MISSING: u32 = 2;

/// How long the server may take to say what has become of the stream, or why it has closed the connection.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The correlation of the one command that the task sends by itself. Sessions count up from 1.
const OWN: u32 = 0;

/// What the task and its session share.
#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    confirmed: Vec<u64>,
    answer: Option<(u32, Code, Vec<u8>)>,
    lost: Option<String>,
}

impl Shared {
    /// Waits until `look` finds something.
    async fn until<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            // A change between the look and the wait leaves a permit, which the wait takes at once.
            if let Some(found) = look(&mut self.state.lock()) {
                return found;
            }
            self.changed.notified().await;
        }
    }

    /// Waits for confirms, and moves them to `ids`. What came before the connection was lost is returned before that.
    pub(super) async fn confirmed(&self, ids: &mut Vec<u64>) -> Result<(), String> {
        self.until(|state| match (state.confirmed.is_empty(), &state.lost) {
            (false, _) => {
                ids.append(&mut state.confirmed);
                Some(Ok(()))
            }
            (true, Some(reason)) => Some(Err(reason.clone())),
            (true, None) => None,
        })
        .await
    }

    /// Waits for the answer to the command that had this correlation.
    pub(super) async fn answer(&self, correlation: u32) -> Result<(Code, Vec<u8>), String> {
        self.until(|state| match (&state.lost, state.answer.take_if(|(of, ..)| *of == correlation)) {
            (_, Some((_, code, body))) => Some(Ok((code, body))),
            (Some(reason), None) => Some(Err(reason.clone())),
            (None, None) => None,
        })
        .await
    }

    /// Returns why the connection is lost, if it is.
    pub(super) fn lost(&self) -> Option<String> {
        self.state.lock().lost.clone()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.changed.notify_one();
    }
}

/// The two ends of a connection, and how it is kept alive.
pub(super) struct Carrier {
    pub(super) socket: Duplex,
    pub(super) reader: FrameReader,
    /// The streams that are appended to, in the order of their publishers.
    pub(super) streams: Arc<[String]>,
    pub(super) heartbeat: Duration,
    pub(super) shared: Arc<Shared>,
}

impl Carrier {
    /// Carries frames until the connection is lost. `handed` gives the frames to send.
    pub(super) async fn run(self, mut handed: mpsc::Receiver<Vec<Vec<u8>>>) {
        let Self { socket, mut reader, streams, heartbeat, shared } = self;
        let receiving = receive(&mut reader, &socket, &streams, heartbeat, &shared);
        tokio::pin!(receiving);
        let reason = tokio::select! {
            biased;
            reason = &mut receiving => reason,
            unsent = send(&socket, &mut handed, heartbeat) => {
                // What the server has said before it closed tells more.
                timeout(LAST_WORDS, receiving).await.unwrap_or_else(|_| unsent.to_string())
            }
        };
        // Before `handed` is dropped, by which the session notices.
        shared.change(|state| state.lost = Some(reason));
    }
}

/// Sends what is handed over, and a heartbeat when there is nothing else for half of its time.
async fn send(socket: &Duplex, handed: &mut mpsc::Receiver<Vec<Vec<u8>>>, pause: Duration) -> std::io::Error {
    loop {
        let frames = match beat(pause / 2, handed.recv()).await {
            Some(Some(frames)) => frames,
            // The session is gone, and aborts this task.
            Some(None) => std::future::pending().await,
            None => vec![heartbeat()],
        };
        for frame in frames {
            if let Err(error) = socket.write(&frame).await {
                return error;
            }
        }
    }
}

/// Waits for `work`, but no longer than `limit`, unless that is zero: then there is no limit.
async fn beat<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    if limit.is_zero() { Some(work.await) } else { timeout(limit, work).await.ok() }
}

/// Takes what the server says until the connection or the publisher is lost. Returns the reason.
async fn receive(
    reader: &mut FrameReader,
    socket: &Duplex,
    streams: &[String],
    heartbeat: Duration,
    shared: &Shared,
) -> String {
    loop {
        let frame = match beat(heartbeat * MISSING, reader.next()).await {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return error.to_string(),
            None => return format!("RabbitMQ has not been heard of for {:?}", heartbeat * MISSING),
        };
        match frame {
            Frame::Confirm(ids) => shared.change(|state| state.confirmed.extend(ids.iter())),
            Frame::Refusal(publisher, count, code) => {
                let stream = streams.get(usize::from(publisher)).map_or("?", String::as_str);
                return format!("RabbitMQ refuses {count} messages for the stream `{stream}`: {code}");
            }
            Frame::MetadataUpdate(_, name) => {
                if let Some(stream) = streams.iter().find(|stream| **stream == name) {
                    return ask_fate(reader, socket, stream).await;
                }
            }
            Frame::Close(code, reason) => return LinkError::Closed(code, reason.into_owned()).to_string(),
            Frame::Answer { key, correlation, body } => match code(key, body) {
                Ok((code, rest)) => {
                    shared.change(|state| state.answer = Some((correlation, code, rest.0.to_owned())));
                }
                Err(malformed) => return malformed.to_string(),
            },
            _ => {}
        }
    }
}

/// Asks what has become of a stream whose publisher the server has forgotten.
async fn ask_fate(reader: &mut FrameReader, socket: &Duplex, stream: &str) -> String {
    let deadline = Instant::now() + LAST_WORDS;
    let asking = async {
        socket.write(&Request::Metadata { stream }.encode(OWN)).await?;
        loop {
            if let Frame::Answer { key: METADATA, correlation: OWN, body } = reader.next().await? {
                return Ok::<_, LinkError>(fate(stream, body)?);
            }
        }
    };
    match timeout_at(deadline, asking).await {
        Ok(Ok(fate)) => fate,
        _ => without_leader(stream),
    }
}
