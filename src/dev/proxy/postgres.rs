//! PostgreSQL's protocol, version 3: messages, which COMMIT is that of a batch, and which answer
//! belongs to it.

use std::collections::{HashSet, VecDeque};
use std::io;

use parking_lot::Mutex;

use super::CutPoint;
use super::cutter::{Direction, Verdict, not_spoken};
use super::points::Points;

/// Type and length.
const HEADER: usize = 5;

/// What the first message of a client has instead of a type: length and the version of the
/// protocol, or one of the codes below.
const START_HEADER: usize = 8;

/// The codes by which a client asks for encryption, with TLS and with GSSAPI.
const ASK_FOR_ENCRYPTION: [u32; 2] = [80_877_103, 80_877_104];

/// The code by which a client asks for another one's statement to be cancelled.
const CANCEL: u32 = 80_877_102;

/// What stands in the text of the statement that makes a transaction that of a batch.
const BATCH: &[u8] = b"INSERT INTO payment";

/// The most statements remembered per connection, and the most commits that are under way. The
/// daemon has one or two of each.
const MOST: usize = 1024;

/// What both directions of a connection know.
#[derive(Debug, Default)]
pub(super) struct Session(Mutex<Asked>);

#[derive(Debug, Default)]
struct Asked {
    /// How many messages were sent that end with a ReadyForQuery.
    sent: u64,
    /// How many of them have been answered.
    answered: u64,
    /// Which of them are the COMMIT of a batch, oldest first.
    commits: VecDeque<u64>,
    /// How many times encryption was asked for: it is answered by a single byte.
    encryption: u64,
}

/// What the client says.
pub(super) struct Frontend<'s> {
    session: &'s Session,
    points: &'s Points,
    started: bool,
    /// The prepared statements that make a transaction that of a batch.
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
            // Answered by the end of the connection.
            Some(CANCEL) => self.started = true,
            _ => {
                self.started = true;
                asked.sent += 1;
            }
        }
    }

    /// A Parse gives a name to a text, or a new text to the name without letters.
    fn parse(&mut self, payload: &[u8]) {
        let Some((name, text)) = cut_string(payload) else { return };
        let found = text.windows(BATCH.len()).any(|part| part == BATCH);
        if found && self.statements.len() < MOST {
            self.statements.insert(name.to_vec());
        } else {
            self.statements.remove(name);
        }
    }

    /// A Bind has a portal and a statement.
    fn bind(&mut self, payload: &[u8]) {
        let statement = cut_string(payload).and_then(|(_, rest)| cut_string(rest));
        self.is_batch |= statement.is_some_and(|(name, _)| self.statements.contains(name));
    }

    /// A Close of a statement; that of a portal ends nothing that matters.
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

    /// A message that ends with a ReadyForQuery.
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
    /// Enough to see what a statement does that begins with a name and a verb.
    const LOOK: usize = 256;

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
            // Sync, and the call of a function.
            Some(b'S' | b'F') => self.ask(false),
            _ => {}
        }
        Ok(Verdict::Pass)
    }
}

/// What the server says.
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
    /// A CommandComplete of a COMMIT, and one byte in which a longer one differs.
    const LOOK: usize = HEADER + b"COMMIT\0".len() + 1;

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

/// The length of a message that has a type.
fn typed_length(header: &[u8]) -> io::Result<u64> {
    Ok(length_at(header, 1)? + 1)
}

/// The length that counts itself and what follows, at this place of a header.
fn length_at(header: &[u8], place: usize) -> io::Result<u64> {
    match number(header.get(place..)) {
        Some(length @ 4..=0x7fff_ffff) => Ok(u64::from(length)),
        length => Err(not_spoken(format!("no message of PostgreSQL has the length {length:?}"))),
    }
}

fn number(bytes: Option<&[u8]>) -> Option<u32> {
    bytes?.first_chunk().copied().map(u32::from_be_bytes)
}

/// A string that ends with a zero, and what follows.
fn cut_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}
