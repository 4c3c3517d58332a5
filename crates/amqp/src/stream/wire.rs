//! The bytes of RabbitMQ's stream protocol: numbers, strings, and where a frame ends.

use std::borrow::Cow;

/// Length of the size that stands before a frame, and does not count itself.
pub(super) const SIZE: usize = 4;

/// The largest frame that is read. A confirm of as many messages as RabbitMQ takes at once is a twentieth of it.
pub(super) const LARGEST: usize = 8 << 20;

/// What the server has said is not of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("a frame of RabbitMQ's stream protocol ends too early")]
    Short,
    #[error("a frame of {0} bytes is none of RabbitMQ's stream protocol; another server may listen at this port")]
    Size(usize),
    #[error("RabbitMQ speaks version {0} of a command that was not asked for")]
    Version(u16),
}

/// Reads a frame from its beginning to its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// Reads a string. One that is null has the length -1, and counts as empty.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, Malformed> {
        let length = self.u16()?.cast_signed();
        self.take(usize::try_from(length).unwrap_or(0)).map(String::from_utf8_lossy)
    }

    /// Reads a list that begins with the number of its elements. Reserves nothing for a number that may be made up.
    pub(super) fn list<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        (0..self.u32()?).map(|_| element(self)).collect()
    }
}

/// Splits what is read into frames.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    buffer: Vec<u8>,
    /// Where the next frame begins.
    next: usize,
}

impl Splitter {
    /// Adds what was read.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.next);
        self.next = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether all of the next frame is there.
    pub(super) fn is_ready(&self) -> Result<bool, Malformed> {
        Ok(self.size()?.is_some_and(|size| self.buffer.len() - self.next >= SIZE + size))
    }

    /// Returns the next frame, without its size, if all of it is there.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, Malformed> {
        let Some(size) = self.size()? else { return Ok(None) };
        let start = self.next + SIZE;
        let frame = self.buffer.get(start..start + size);
        self.next = if frame.is_some() { start + size } else { self.next };
        Ok(frame)
    }

    /// Returns the size of the next frame, if that is there.
    fn size(&self) -> Result<Option<usize>, Malformed> {
        let Some(size) = self.buffer[self.next..].first_chunk::<SIZE>() else { return Ok(None) };
        let size = usize::try_from(u32::from_be_bytes(*size)).unwrap_or(usize::MAX);
        if size > LARGEST { Err(Malformed::Size(size)) } else { Ok(Some(size)) }
    }
}

/// Begins a frame with this key, which [`finish`] ends.
pub(super) fn begin(key: u16) -> Vec<u8> {
    let mut frame = vec![0; SIZE];
    frame.extend(key.to_be_bytes());
    frame.extend(super::command::VERSION.to_be_bytes());
    frame
}

/// Writes the size of a frame into its place.
pub(super) fn finish(mut frame: Vec<u8>) -> Vec<u8> {
    let size = u32::try_from(frame.len() - SIZE).unwrap_or(u32::MAX);
    frame[..SIZE].copy_from_slice(&size.to_be_bytes());
    frame
}

/// Appends a string. The names of the settings are shorter than a string may be.
pub(super) fn put_string(frame: &mut Vec<u8>, text: &str) {
    let bytes = &text.as_bytes()[..text.len().min(usize::from(i16::MAX.cast_unsigned()))];
    frame.extend(u16::try_from(bytes.len()).unwrap_or_default().to_be_bytes());
    frame.extend_from_slice(bytes);
}

/// Appends pairs of strings, behind their number.
pub(super) fn put_map(frame: &mut Vec<u8>, pairs: &[(&str, &str)]) {
    frame.extend(u32::try_from(pairs.len()).unwrap_or_default().to_be_bytes());
    for (name, value) in pairs {
        put_string(frame, name);
        put_string(frame, value);
    }
}
