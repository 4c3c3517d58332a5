//! Reads PostgreSQL's protocol, version 3: messages, the COMMITs of batches, and the replies to them.

use std::collections::{HashSet, VecDeque};
use std::io;

use parking_lot::Mutex;

use super::CutPoint;
use super::cutter::{Direction, Verdict, not_spoken};
use super::points::Points;

/// Length of a header: type and length.
const HEADER: usize = 5;

/// Length of the first header of a client: a length, and the protocol version or one of the codes below instead of a
/// type.
const START_HEADER: usize = 8;

/// Codes of requests for encryption, with TLS and with GSSAPI.
const ASK_FOR_ENCRYPTION: [u32; 2] = [80_877_103, 80_877_104];

/// Code of a request to cancel a statement of another connection.
const CANCEL: u32 = 80_877_102;

/// Text that identifies the statements that write a batch.
const BATCH: &[u8] = b"INSERT INTO payment";

/// Maximum number of remembered statements per connection and of commits in progress. The daemon has one or two of
/// each.
const MOST: usize = 1024;

/// State shared by both directions of a connection.
#[derive(Debug, Default)]
pub(super) struct Session(Mutex<Asked>);

#[derive(Debug, Default)]
struct Asked {
    /// Number of messages sent whose replies end with a ReadyForQuery.
    sent: u64,
    /// Number of them that have been answered.
    answered: u64,
    /// Those of them that are the COMMIT of a batch, oldest first.
    commits: VecDeque<u64>,
    /// Number of pending encryption requests, each of which is answered with a single byte.
    encryption: u64,
}

/// Reads the messages of the client.
pub(super) struct Frontend<'s> {
    session: &'s Session,
    points: &'s Points,
    started: bool,
    /// Prepared statements that write a batch.
    statements: HashSet<Vec<u8>>,
    /// Whether one of them was bound since the last BEGIN.
    is_batch: bool,
}

impl<'s> Frontend<'s> {
    pub(super) fn new(session: &'s Session, points: &'s Points) -> Self {
        Self { session, points, started: false, statements: HashSet::new(), is_batch: false }
    }

    fn start(&mut self, head: &[u8]) {
        let mut asked = self.session.0.lock();
        match number(head.get(4..)) {
            Some(code) if ASK_FOR_ENCRYPTION.contains(&code) => asked.encryption += 1,
            // The server replies by closing the connection.
            Some(CANCEL) => self.started = true,
            _ => {
                self.started = true;
                asked.sent += 1;
            }
        }
    }

    /// Handles a Parse, which assigns a text to a statement name. The name may be empty.
    fn parse(&mut self, payload: &[u8]) {
        let Some((name, text)) = cut_string(payload) else { return };
        let found = text.windows(BATCH.len()).any(|part| part == BATCH);
        if found && self.statements.len() < MOST {
            self.statements.insert(name.to_vec());
        } else {
            self.statements.remove(name);
        }
    }

    /// Handles a Bind, which names a portal and a statement.
    fn bind(&mut self, payload: &[u8]) {
        let statement = cut_string(payload).and_then(|(_, rest)| cut_string(rest));
        self.is_batch |= statement.is_some_and(|(name, _)| self.statements.contains(name));
    }

    /// Handles a Close of a statement. Closing a portal has no effect here.
    fn close(&mut self, payload: &[u8]) {
        if let Some((b'S', rest)) = payload.split_first()
            && let Some((name, _)) = cut_string(rest)
        {
            self.statements.remove(name);
        }
    }

    fn query(&mut self, payload: &[u8]) -> Verdict {
        let text = cut_string(payload).map_or(payload, |(text, _)| text).trim_ascii();
        let is = |word: &[u8]| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
        let is_commit = text.trim_ascii_end().eq_ignore_ascii_case(b"COMMIT");
        let is_batch = is_commit && self.is_batch;
        if is_batch && self.points.take(CutPoint::BeforeCommit) {
            return Verdict::CutBefore(CutPoint::BeforeCommit);
        }
        if is_commit || is(b"BEGIN") || is(b"START TRANSACTION") || is(b"ROLLBACK") {
            self.is_batch = false;
        }
        self.ask(is_batch);
        Verdict::Pass
    }

    /// Records a message whose reply ends with a ReadyForQuery.
    fn ask(&self, is_batch: bool) {
        let mut asked = self.session.0.lock();
        if is_batch && asked.commits.len() < MOST {
            let number = asked.sent;
            asked.commits.push_back(number);
        }
        asked.sent += 1;
    }
}

impl Direction for Frontend<'_> {
    /// Enough for the name and the verb of a statement.
    fn look(&self) -> usize {
        256
    }

    fn header(&self) -> usize {
        if self.started { HEADER } else { START_HEADER }
    }

    fn length(&self, header: &[u8]) -> io::Result<u64> {
        if self.started { typed_length(header) } else { length_at(header, 0) }
    }

    fn judge(&mut self, head: &[u8]) -> io::Result<Verdict> {
        if !self.started {
            self.start(head);
            return Ok(Verdict::Pass);
        }
        let payload = head.get(HEADER..).unwrap_or_default();
        match head.first() {
            Some(b'Q') => return Ok(self.query(payload)),
            Some(b'P') => self.parse(payload),
            Some(b'B') => self.bind(payload),
            Some(b'C') => self.close(payload),
            // Sync and FunctionCall.
            Some(b'S' | b'F') => self.ask(false),
            _ => {}
        }
        Ok(Verdict::Pass)
    }
}

/// Reads the messages of the server.
pub(super) struct Backend<'s> {
    session: &'s Session,
    points: &'s Points,
}

impl<'s> Backend<'s> {
    pub(super) const fn new(session: &'s Session, points: &'s Points) -> Self {
        Self { session, points }
    }
}

impl Direction for Backend<'_> {
    /// Length of the CommandComplete of a COMMIT, plus one byte to tell it from a longer one.
    fn look(&self) -> usize {
        HEADER + b"COMMIT\0".len() + 1
    }

    fn header(&self) -> usize {
        if self.session.0.lock().encryption > 0 { 1 } else { HEADER }
    }

    fn length(&self, header: &[u8]) -> io::Result<u64> {
        match header {
            [b'N'] => Ok(1),
            [_] => Err(not_spoken("the server wants to encrypt")),
            header => typed_length(header),
        }
    }

    fn judge(&mut self, head: &[u8]) -> io::Result<Verdict> {
        let mut asked = self.session.0.lock();
        match head.first() {
            Some(b'N') if head.len() == 1 => asked.encryption = asked.encryption.saturating_sub(1),
            Some(b'Z') => {
                if asked.commits.front() == Some(&asked.answered) {
                    asked.commits.pop_front();
                }
                asked.answered += 1;
            }
            Some(b'C') if head.get(HEADER..) == Some(b"COMMIT\0") => {
                let is_batch = asked.commits.front() == Some(&asked.answered);
                if is_batch && self.points.take(CutPoint::AfterCommit) {
                    return Ok(Verdict::CutBefore(CutPoint::AfterCommit));
                }
            }
            _ => {}
        }
        Ok(Verdict::Pass)
    }
}

/// Returns the length of a message that has a type.
fn typed_length(header: &[u8]) -> io::Result<u64> {
    Ok(length_at(header, 1)? + 1)
}

/// Returns the message length from the length field at `place`, which counts itself.
fn length_at(header: &[u8], place: usize) -> io::Result<u64> {
    match number(header.get(place..)) {
        Some(length @ 4..=0x7fff_ffff) => Ok(u64::from(length)),
        length => Err(not_spoken(format!("no message of PostgreSQL has the length {length:?}"))),
    }
}

fn number(bytes: Option<&[u8]>) -> Option<u32> {
    bytes?.first_chunk().copied().map(u32::from_be_bytes)
}

/// Splits off a zero-terminated string. Returns it and the rest.
fn cut_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}
