//! Reads the fields of `basic.deliver` and of content headers, and overwrites those that lapin cannot read.
//!
//! The rules are those of lapin's parser or stricter, so lapin can read whatever passes. Lengths come from the
//! publisher, so nothing is allocated by them.

use std::ops::Range;

use settled_core::contract::Flaw;

/// Length of a content header before its properties: class, weight, size of the body and flags.
pub(super) const FIXED: usize = 14;

const BODY_SIZE: Range<usize> = 4..12;

const FLAGS: Range<usize> = 12..FIXED;

/// How deep tables and arrays may be nested. lapin's parser recurses for each level, and a frame can nest deeper than
/// its stack allows.
const MAX_DEPTH: usize = 32;

/// The most flaws that are recorded of a message.
const MAX_FLAWS: usize = 8;

/// The most bytes that are recorded of a flaw.
const MAX_EVIDENCE: usize = 64;

/// Estimated memory of a table's entry besides its name, in bytes.
const ENTRY: usize = 160;

/// Estimated memory of an array's element, in bytes.
const ELEMENT: usize = 80;

/// The type of a property on the wire.
#[derive(Clone, Copy)]
enum Kind {
    ShortString,
    Table,
    Octet,
    Timestamp,
}

/// The properties in the order of their flags. The first has the highest bit.
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

const HEADERS_FLAG: u16 = 1 << 13;

/// A content header that lapin can read.
#[derive(Debug, Default)]
pub(super) struct ContentHeader {
    /// The most memory that the decoded properties take, in bytes.
    pub(super) weight: usize,
    /// Strings that were not UTF-8, or why the properties were not read.
    pub(super) flaws: Vec<Flaw>,
    /// Place of the table of headers in the payload, including its length.
    headers: Option<Range<usize>>,
}

impl ContentHeader {
    /// Creates a header without properties, which could not be read because of `flaw`.
    pub(super) fn of(flaw: Flaw) -> Self {
        Self { flaws: vec![flaw], ..Self::default() }
    }

    /// Reads a payload, and overwrites bytes that are not UTF-8 where lapin requires text.
    ///
    /// # Errors
    ///
    /// The flaw, if the payload is not a content header of AMQP 0-9-1.
    pub(super) fn read(payload: &mut [u8]) -> Result<Self, Flaw> {
        let Some(flags) = payload.get(FLAGS).map(|flags| u16::from_be_bytes([flags[0], flags[1]])) else {
            return Err(Flaw::new(HEADERS, "the content header is cut short", &[]));
        };
        let end = payload.len();
        let mut cursor = Cursor { payload, at: FIXED, end, property: HEADERS, header: Self::default() };
        for (place, (property, kind)) in PROPERTIES.iter().enumerate() {
            if flags & (1 << (15 - place)) == 0 {
                continue;
            }
            cursor.property = property;
            let begin = cursor.at;
            match kind {
                Kind::ShortString => cursor.short_string("")?,
                Kind::Table => cursor.table(0)?,
                Kind::Octet => cursor.skip(1)?,
                Kind::Timestamp => cursor.skip(8)?,
            }
            if matches!(kind, Kind::Table) {
                cursor.header.headers = Some(begin..cursor.at);
            }
        }
        // The two lowest bits are no flags of properties: one announces more flags, and no version has defined any.
        if cursor.at != end || flags & 0b11 != 0 {
            cursor.property = "properties";
            return Err(cursor.flaw("more bytes than the flags announce"));
        }
        Ok(cursor.header)
    }

    /// Removes the table of headers from the payload, and keeps the other properties. Returns where the payload then
    /// begins.
    pub(super) fn without_headers(&self, payload: &mut [u8]) -> usize {
        let Some(headers) = &self.headers else { return 0 };
        let flags = u16::from_be_bytes([payload[FLAGS.start], payload[FLAGS.start + 1]]) & !HEADERS_FLAG;
        payload[FLAGS].copy_from_slice(&flags.to_be_bytes());
        payload.copy_within(..headers.start, headers.len());
        headers.len()
    }
}

/// Returns the size of the body. The payload must have at least [`FIXED`] bytes.
pub(super) fn body_size(payload: &[u8]) -> u64 {
    payload[BODY_SIZE].iter().fold(0, |size, byte| size << 8 | u64::from(*byte))
}

/// Changes the number of bytes of the body that lapin waits for.
pub(super) fn set_body_size(payload: &mut [u8], size: u64) {
    payload[BODY_SIZE].copy_from_slice(&size.to_be_bytes());
}

/// Reads the payload of `basic.deliver`. Returns the delivery tag, and the flaws of the fields that the publisher has
/// chosen.
///
/// # Errors
///
/// The flaw, if the payload has another structure than AMQP 0-9-1 gives it.
pub(super) fn deliver(payload: &mut [u8]) -> Result<(u64, Vec<Flaw>), Flaw> {
    let end = payload.len();
    let mut cursor =
        Cursor { payload, at: 4.min(end), end, property: "consumer_tag", header: ContentHeader::default() };
    cursor.short_string("")?;
    let tag = cursor.take(8)?;
    let tag = cursor.payload[tag].iter().fold(0, |tag, byte| tag << 8 | u64::from(*byte));
    cursor.skip(1)?;
    for field in ["exchange", "routing_key"] {
        cursor.property = field;
        cursor.short_string("")?;
    }
    if cursor.at != end {
        return Err(cursor.flaw("more bytes than it should have"));
    }
    Ok((tag, cursor.header.flaws))
}

/// Removes all properties. Returns where the payload then begins: the fixed part has moved to the end.
pub(super) fn strip(payload: &mut [u8]) -> usize {
    payload[FLAGS].fill(0);
    let begin = payload.len() - FIXED;
    payload.copy_within(..FIXED, begin);
    begin
}

/// Reads a payload from the front.
struct Cursor<'p> {
    payload: &'p mut [u8],
    at: usize,
    /// Where the table or array that is being read ends, or the payload.
    end: usize,
    property: &'static str,
    header: ContentHeader,
}

impl Cursor<'_> {
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
        Ok(self.payload[taken].iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// Reads a string that lapin requires to be UTF-8. If it is not, records a flaw, and overwrites the bytes that are
    /// not ASCII with NUL, which is replaced later as it cannot be stored.
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
        self.nested(depth, |cursor| {
            cursor.header.weight += ENTRY;
            cursor.short_string("the name ")?;
            cursor.value(depth)
        })
    }

    fn array(&mut self, depth: usize) -> Result<(), Flaw> {
        self.nested(depth, |cursor| {
            cursor.header.weight += ELEMENT;
            cursor.value(depth)
        })
    }

    /// Reads the length of a table or array, and as many entries as it says. The last one has to end where it says.
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
            // lapin reads both as bytes, so they need not be UTF-8.
            b'S' | b'x' => self.long()?,
            b'F' => return self.table(depth + 1),
            b'A' => return self.array(depth + 1),
            _ => return Err(self.flaw("a value of an unknown type")),
        };
        self.header.weight += length;
        self.skip(length)
    }

    /// Returns a flaw with the bytes around the current place.
    fn flaw(&self, what: &'static str) -> Flaw {
        let begin = self.at.saturating_sub(MAX_EVIDENCE / 2).max(FIXED);
        let end = (begin + MAX_EVIDENCE).min(self.payload.len());
        Flaw::new(self.property, what, self.payload.get(begin..end).unwrap_or_default())
    }
}
