//! From a stream of bytes to messages, and back to the same bytes, up to where they are cut. Pure:
//! whatever chunks the bytes come in, what comes out is the same.

use std::io;

use super::CutPoint;

/// One direction of one connection, as its protocol reads it.
pub(super) trait Direction {
    /// How many bytes of a message are looked at, at most; not fewer than any header.
    const LOOK: usize;

    /// How many bytes it takes to know the length of the next message, 1 at least.
    fn header(&self) -> usize;

    /// The length of the message with this header, which is a part of it.
    fn length(&self, header: &[u8]) -> io::Result<u64>;

    /// Looks at the first [`LOOK`](Self::LOOK) bytes of a message, or all of it if it is shorter.
    fn judge(&mut self, head: &[u8]) -> io::Result<Verdict>;
}

/// What is to happen to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    CutBefore(CutPoint),
    CutAfter(CutPoint),
}

/// Holds the head of a message back until it has been judged, and nothing else.
#[derive(Debug)]
pub(super) struct Cutter<D> {
    direction: D,
    head: Vec<u8>,
    /// The length of the message that `head` begins, once it is known.
    length: Option<u64>,
    /// How much is still to come of a message that has been judged.
    rest: u64,
    /// Where to cut when it has come.
    cut: Option<CutPoint>,
}

impl<D: Direction> Cutter<D> {
    pub(super) fn new(direction: D) -> Self {
        Self { direction, head: Vec::with_capacity(D::LOOK), length: None, rest: 0, cut: None }
    }

    /// Takes a chunk and appends to `out` what may be forwarded. If it answers a point, the
    /// connection is to be cut once that is forwarded, and nothing may be fed any more.
    pub(super) fn feed(&mut self, mut chunk: &[u8], out: &mut Vec<u8>) -> io::Result<Option<CutPoint>> {
        while !chunk.is_empty() {
            if self.rest > 0 {
                let passing = up_to(&mut chunk, self.rest);
                out.extend_from_slice(passing);
                self.rest -= passing.len() as u64;
            } else if let Some(length) = self.collect(&mut chunk)? {
                match self.direction.judge(&self.head)? {
                    Verdict::Pass => {}
                    Verdict::CutBefore(point) => return Ok(Some(point)),
                    Verdict::CutAfter(point) => self.cut = Some(point),
                }
                self.rest = length - self.head.len() as u64;
                out.append(&mut self.head);
            }
            if self.cut.is_some() && self.rest == 0 {
                return Ok(self.cut);
            }
        }
        Ok(None)
    }

    /// Collects the head of a message; answers the length of the message when all of it is there.
    fn collect(&mut self, chunk: &mut &[u8]) -> io::Result<Option<u64>> {
        let length = match self.length {
            Some(length) => length,
            None => {
                // What was asked for meanwhile may have a shorter answer than what has begun.
                let header = self.direction.header();
                self.head.extend_from_slice(up_to(chunk, header.saturating_sub(self.head.len()) as u64));
                if self.head.len() < header {
                    return Ok(None);
                }
                let length = self.direction.length(&self.head)?;
                *self.length.insert(length.max(header as u64))
            }
        };
        let wanted = length.min(D::LOOK as u64);
        self.head.extend_from_slice(up_to(chunk, wanted - self.head.len() as u64));
        let complete = self.head.len() as u64 == wanted;
        Ok(if complete { self.length.take() } else { None })
    }
}

/// Takes the first `most` bytes off `chunk`, or all of it.
fn up_to<'c>(chunk: &mut &'c [u8], most: u64) -> &'c [u8] {
    let count = usize::try_from(most).map_or(chunk.len(), |most| most.min(chunk.len()));
    let (taken, left) = chunk.split_at(count);
    *chunk = left;
    taken
}

/// What a message says that the protocol doesn't allow for.
pub(super) fn not_spoken(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}
