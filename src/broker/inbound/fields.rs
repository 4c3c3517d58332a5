//! The fields of a delivery and of its content header.
//!
//! They are read by the rules of lapin's parser, or stricter ones: what passes here, lapin reads. Lengths come from
//! the publisher, so nothing is allocated by them.

use std::ops::Range;

use crate::contract::Flaw;

/// Class, weight, size of the body, flags.
pub(super) const FIXED: usize = 14;

/// Where the size of the body is.
const BODY_SIZE: Range<usize> = 4..12;

/// Where the flags are.
const FLAGS: Range<usize> = 12..FIXED;

/// Tables and arrays inside each other. lapin's parser calls itself for each of them, and a frame has room for
/// more than its stack has.
const MAX_DEPTH: usize = 32;

/// Flaws that are told of a message.
const MAX_FLAWS: usize = 8;

/// What the publisher's bytes of a flaw are cut to.
const MAX_EVIDENCE: usize = 64;

/// What an entry of a table takes in memory beside its name, and an element of an array.
const ENTRY: usize = 160;
const ELEMENT: usize = 80;

/// What a property is on the wire.
#[derive(Clone, Copy)]
enum Kind {
    ShortString,
    Table,
    Octet,
    Timestamp,
}

/// The properties in the order of their flags, of which the first is the highest bit.
const PROPERTIES: [(&str, Kind); 14] = [
    ("content_type", Kind::ShortString),
    ("content_encoding", Kind::ShortString),
    (HEADERS, Kind::Table),
    ("delivery_mode", Kind::Octet),
    ("priority", Kind::Octet),
    ("correlation_id", Kind::ShortString),
    ("reply_to", Kind::ShortString),
    ("expiration", Kind::ShortString),
    ("message_id", Kind::ShortString),
    ("timestamp", Kind::Timestamp),
    ("type", Kind::ShortString),
    ("user_id", Kind::ShortString),
    ("app_id", Kind::ShortString),
    ("cluster_id", Kind::ShortString),
];

const HEADERS: &str = "headers";

/// The flag of the third property.
const HEADERS_FLAG: u16 = 1 << 13;

/// A content header that lapin can read.
#[derive(Debug, Default)]
pub(super) struct ContentHeader {
    /// What its properties take in memory once they are read, at most.
    pub(super) weight: usize,
    /// Strings that were not UTF-8.
    pub(super) flaws: Vec<Flaw>,
    /// Where the table of headers is, with its length.
    headers: Option<Range<usize>>,
}

impl ContentHeader {
    /// One that is not read but for its fixed part.
    pub(super) fn of(flaw: Flaw) -> Self {
        Self { flaws: vec![flaw], ..Self::default() }
    }

    /// Walks through a payload, and overwrites what is not UTF-8 where lapin wants text.
    ///
    /// # Errors
    ///
    /// The flaw of a payload that has another structure than AMQP 0-9-1 gives it.
    pub(super) fn read(payload: &mut [u8]) -> Result<Self, Flaw> {
        let Some(flags) = payload.get(FLAGS).map(|flags| u16::from_be_bytes([flags[0], flags[1]])) else {
            return Err(Flaw::new(HEADERS, "the content header is cut short", &[]));
        };
        let end = payload.len();
        let mut walk = Walk { payload, at: FIXED, end, property: HEADERS, header: Self::default() };
        for (place, (property, kind)) in PROPERTIES.iter().enumerate() {
            if flags & (1 << (15 - place)) == 0 {
                continue;
            }
            walk.property = property;
            let begin = walk.at;
            match kind {
                Kind::ShortString => walk.short_string("")?,
                Kind::Table => walk.table(0)?,
                Kind::Octet => walk.skip(1)?,
                Kind::Timestamp => walk.skip(8)?,
            }
            if matches!(kind, Kind::Table) {
                walk.header.headers = Some(begin..walk.at);
            }
        }
        // The two lowest flags announce more flags, which nobody has ever defined.
        if walk.at != end || flags & 0b11 != 0 {
            walk.property = "properties";
            return Err(walk.flaw("more bytes than the flags announce"));
        }
        Ok(walk.header)
    }

    /// Takes the table of headers out of the payload; the other properties stay. Returns where the payload begins
    /// then.
    pub(super) fn without_headers(&self, payload: &mut [u8]) -> usize {
        let Some(headers) = &self.headers else { return 0 };
        let flags = u16::from_be_bytes([payload[FLAGS.start], payload[FLAGS.start + 1]]) & !HEADERS_FLAG;
        payload[FLAGS].copy_from_slice(&flags.to_be_bytes());
        payload.copy_within(..headers.start, headers.len());
        headers.len()
    }
}

/// The size of the body, of a payload with its fixed part.
pub(super) fn body_size(payload: &[u8]) -> u64 {
    payload[BODY_SIZE].iter().fold(0, |size, byte| size << 8 | u64::from(*byte))
}

/// Has lapin wait for another number of bytes.
pub(super) fn set_body_size(payload: &mut [u8], size: u64) {
    payload[BODY_SIZE].copy_from_slice(&size.to_be_bytes());
}

/// Reads the arguments of `basic.deliver`, after class and method. Returns the delivery tag, and the flaws of what
/// the publisher has chosen.
///
/// # Errors
///
/// When it has another structure.
pub(super) fn deliver(payload: &mut [u8]) -> Result<(u64, Vec<Flaw>), Flaw> {
    let end = payload.len();
    let mut walk = Walk { payload, at: 4.min(end), end, property: "consumer_tag", header: ContentHeader::default() };
    walk.short_string("")?;
    let tag = walk.take(8)?;
    let tag = walk.payload[tag].iter().fold(0, |tag, byte| tag << 8 | u64::from(*byte));
    walk.skip(1)?;
    for field in ["exchange", "routing_key"] {
        walk.property = field;
        walk.short_string("")?;
    }
    if walk.at != end {
        return Err(walk.flaw("more bytes than it should have"));
    }
    Ok((tag, walk.header.flaws))
}

/// Leaves nothing but the fixed part, without flags. Returns where the payload begins then: it has moved to the
/// end.
pub(super) fn strip(payload: &mut [u8]) -> usize {
    payload[FLAGS].fill(0);
    let begin = payload.len() - FIXED;
    payload.copy_within(..FIXED, begin);
    begin
}

/// A place in a payload.
struct Walk<'p> {
    payload: &'p mut [u8],
    at: usize,
    /// Where the payload ends, or the table or array that is being read.
    end: usize,
    property: &'static str,
    header: ContentHeader,
}

impl Walk<'_> {
    fn take(&mut self, length: usize) -> Result<Range<usize>, Flaw> {
        if length > self.end - self.at {
            return Err(self.flaw("its length says more than there is"));
        }
        let taken = self.at..self.at + length;
        self.at = taken.end;
        Ok(taken)
    }

    fn skip(&mut self, length: usize) -> Result<(), Flaw> {
        self.take(length)?;
        Ok(())
    }

    fn octet(&mut self) -> Result<u8, Flaw> {
        Ok(self.payload[self.take(1)?.start])
    }

    fn long(&mut self) -> Result<usize, Flaw> {
        let taken = self.take(4)?;
        // A `usize` has room for four bytes.
        Ok(self.payload[taken].iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// A string of text. What is not is written down, and overwritten: with NUL, which is no character that a
    /// publisher means, and which [`crate::intake`] shows as a replacement.
    fn short_string(&mut self, what: &'static str) -> Result<(), Flaw> {
        let length = usize::from(self.octet()?);
        let taken = self.take(length)?;
        self.header.weight += length;
        if std::str::from_utf8(&self.payload[taken.clone()]).is_err() {
            if self.header.flaws.len() < MAX_FLAWS {
                let flaw = Flaw::not_utf8(self.property, what, &self.payload[taken.clone()]);
                self.header.flaws.push(flaw);
            }
            self.payload[taken].iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = 0);
        }
        Ok(())
    }

    fn table(&mut self, depth: usize) -> Result<(), Flaw> {
        self.nested(depth, |walk| {
            walk.header.weight += ENTRY;
            walk.short_string("the name ")?;
            walk.value(depth)
        })
    }

    fn array(&mut self, depth: usize) -> Result<(), Flaw> {
        self.nested(depth, |walk| {
            walk.header.weight += ELEMENT;
            walk.value(depth)
        })
    }

    /// Reads entries up to the end that the length says, which has to be the end of one of them.
    fn nested(&mut self, depth: usize, entry: impl Fn(&mut Self) -> Result<(), Flaw>) -> Result<(), Flaw> {
        if depth == MAX_DEPTH {
            return Err(self.flaw("tables and arrays are nested too deeply"));
        }
        let length = self.long()?;
        let inside = self.take(length)?;
        let outside = std::mem::replace(&mut self.end, inside.end);
        self.at = inside.start;
        while self.at < self.end {
            entry(self)?;
        }
        self.end = outside;
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<(), Flaw> {
        let length = match self.octet()? {
            b'V' => 0,
            b't' | b'b' | b'B' => 1,
            b's' | b'U' | b'u' => 2,
            b'I' | b'i' | b'f' => 4,
            b'D' => 5,
            b'l' | b'L' | b'd' | b'T' => 8,
            // Bytes, for lapin: they need not be text.
            b'S' | b'x' => self.long()?,
            b'F' => return self.table(depth + 1),
            b'A' => return self.array(depth + 1),
            _ => return Err(self.flaw("a value of an unknown type")),
        };
        self.header.weight += length;
        self.skip(length)
    }

    /// What is wrong, with the bytes up to here.
    fn flaw(&self, what: &'static str) -> Flaw {
        let begin = self.at.saturating_sub(MAX_EVIDENCE / 2).max(FIXED);
        let end = (begin + MAX_EVIDENCE).min(self.payload.len());
        Flaw::new(self.property, what, self.payload.get(begin..end).unwrap_or_default())
    }
}
