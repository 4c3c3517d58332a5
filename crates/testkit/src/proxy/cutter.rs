//! Splits a byte stream into messages and forwards the same bytes, up to where they are cut. Does no I/O. The output
//! doesn't depend on how the input is divided into chunks.

use std::io;

use super::CutPoint;

/// Protocol state of one direction of one connection.
pub(super) trait Direction {
    /// Returns the maximum number of bytes of a message that are inspected; at least the length of every header.
    fn look(&self) -> usize;

    /// Returns the number of bytes needed to know the length of the next message, at least 1.
    fn header(&self) -> usize;

    /// Returns the length of the message that starts with this header, header included.
    fn length(&self, header: &[u8]) -> io::Result<u64>;

    /// Inspects the first [`look`](Self::look) bytes of a message, or all of a shorter one.
    fn judge(&mut self, head: &[u8]) -> io::Result<Verdict>;
}

/// What to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    CutBefore(CutPoint),
    CutAfter(CutPoint),
}

/// Buffers the start of a message until it is judged; the rest passes through.
pub(super) struct Cutter<'p> {
    direction: Box<dyn Direction + Send + 'p>,
    head: Vec<u8>,
    /// Length of the message that starts with `head`, once it is known.
    length: Option<u64>,
    /// Number of bytes to come of a message that has been judged.
    rest: u64,
    /// Where to cut after these bytes.
    cut: Option<CutPoint>,
}

impl<'p> Cutter<'p> {
    pub(super) fn new(direction: impl Direction + Send + 'p) -> Self {
        let head = Vec::with_capacity(direction.look());
        Self { direction: Box::new(direction), head, length: None, rest: 0, cut: None }
    }

    /// Takes a chunk and appends the bytes to forward to `out`. If it returns a point, the caller must cut the
    /// connection after forwarding them, and not call this again.
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

    /// Collects the start of a message. Returns the message's length once enough is collected.
    fn collect(&mut self, chunk: &mut &[u8]) -> io::Result<Option<u64>> {
        let length = match self.length {
            Some(length) => length,
            None => {
                // Asked in each round: messages of the other direction can change the expected header length.
                let header = self.direction.header();
                self.head.extend_from_slice(up_to(chunk, header.saturating_sub(self.head.len()) as u64));
                if self.head.len() < header {
                    return Ok(None);
                }
                let length = self.direction.length(&self.head)?;
                *self.length.insert(length.max(header as u64))
            }
        };
        let wanted = length.min(self.direction.look() as u64);
        self.head.extend_from_slice(up_to(chunk, wanted - self.head.len() as u64));
        let complete = self.head.len() as u64 == wanted;
        Ok(if complete { self.length.take() } else { None })
    }
}

/// Removes and returns the first `most` bytes of `chunk`, or all of it.
fn up_to<'c>(chunk: &mut &'c [u8], most: u64) -> &'c [u8] {
    let count = usize::try_from(most).map_or(chunk.len(), |most| most.min(chunk.len()));
    let (taken, left) = chunk.split_at(count);
    *chunk = left;
    taken
}

/// Returns the error for bytes that violate the protocol.
pub(super) fn not_spoken(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}
