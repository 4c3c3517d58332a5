//! A session: the publishing side of one connection, with its named publisher on each partition.

use std::sync::Arc;
use std::time::Duration;

use settled_pipeline::outbox::{LogSession, Publication, SessionLost};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::carrier::{Carrier, Shared};
use super::command::Request;
use super::declare::sequence;
use super::frame::Code;
use super::link::Link;
use super::login::Agreed;
use super::publish::{Packed, pack};

/// Appends that wait while another one is sent.
const WAITING: usize = 2;

/// How long the answer to `close` is waited for.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// A connection that appends to the stream as one named publisher.
pub struct StreamSession {
    shared: Arc<Shared>,
    handed: mpsc::Sender<Vec<Vec<u8>>>,
    agreed: Agreed,
    who: Who,
    /// How long an answer may take.
    limit: Duration,
    correlation: u32,
    carrier: AbortHandle,
}

/// Whom a session is for, and where.
#[derive(Clone)]
pub(super) struct Who {
    pub(super) reference: String,
    /// The streams that events are appended to, in the order of the partitions.
    pub(super) streams: Arc<[String]>,
    pub(super) user: String,
    /// Whether one of them was created for the session, while another one has events of the publisher.
    pub(super) is_renewed: bool,
}

impl StreamSession {
    /// Makes a session of a connection on which the publisher is declared.
    pub(super) fn of(link: Link, agreed: Agreed, who: Who, limit: Duration) -> Self {
        let shared = Arc::new(Shared::default());
        let (handed, receiver) = mpsc::channel(WAITING);
        let carrier = Carrier {
            socket: link.socket,
            reader: link.reader,
            streams: Arc::clone(&who.streams),
            heartbeat: agreed.heartbeat,
            shared: Arc::clone(&shared),
        };
        let carrier = tokio::spawn(carrier.run(receiver)).abort_handle();
        Self { shared, handed, agreed, who, limit, correlation: 0, carrier }
    }

    /// Hands frames over to be sent: all of them or, if the future is dropped, none.
    async fn send(&self, frames: Vec<Vec<u8>>) -> Result<(), SessionLost> {
        let is_sent = self.handed.send(frames).await.is_ok();
        match self.shared.lost() {
            Some(reason) => Err(SessionLost(reason)),
            None if is_sent => Ok(()),
            None => Err(SessionLost("the connection has ended".to_owned())),
        }
    }

    async fn ask(&mut self, request: Request<'_>) -> Result<(Code, Vec<u8>), SessionLost> {
        self.correlation += 1;
        let frame = request.encode(self.correlation);
        self.send(vec![frame]).await?;
        self.shared.answer(self.correlation).await.map_err(SessionLost)
    }
}

impl LogSession for StreamSession {
    async fn last_id(&mut self) -> Result<u64, SessionLost> {
        let (limit, Who { reference, streams, user, .. }) = (self.limit, self.who.clone());
        let asked = async {
            let mut last_id = 0;
            for stream in &*streams {
                let answer = self.ask(Request::QueryPublisherSequence { reference: &reference, stream }).await?;
                let of_stream =
                    sequence(answer, (stream, &user)).map_err(|failure| SessionLost(failure.to_string()))?;
                last_id = last_id.max(of_stream);
            }
            Ok(last_id)
        };
        timeout(limit, asked).await.unwrap_or_else(|_| Err(SessionLost(format!("no answer within {limit:?}"))))
    }

    fn is_renewed(&self) -> bool {
        self.who.is_renewed
    }

    async fn append(&mut self, first_id: u64, messages: &[Publication<'_>]) -> Result<Vec<usize>, SessionLost> {
        let Packed { frames, left_out } =
            pack(first_id, messages, self.who.streams.len(), (self.agreed.frame_max, self.agreed.type_in));
        if !frames.is_empty() {
            self.send(frames).await?;
        }
        Ok(left_out)
    }

    async fn confirmed(&mut self, ids: &mut Vec<u64>) -> Result<(), SessionLost> {
        self.shared.confirmed(ids).await.map_err(SessionLost)
    }

    async fn close(mut self) {
        let _ = timeout(CLOSE_LIMIT, self.ask(Request::Close { reason: "settled is done" })).await;
    }
}

impl Drop for StreamSession {
    fn drop(&mut self) {
        self.carrier.abort();
    }
}
