//! What the server says: its answers, and what it says by itself.

use std::borrow::Cow;
use std::fmt;

use super::command::{
    ANSWER, CLOSE, HEARTBEAT, METADATA, METADATA_UPDATE, PUBLISH_CONFIRM, PUBLISH_ERROR, TUNE, VERSION,
};
use super::wire::{Cursor, Malformed};

/// The code in a response, which says whether the request was carried out and why not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Code(pub(super) u16);

impl Code {
    pub(super) const OK: Self = Self(1);
    pub(super) const NO_STREAM: Self = Self(2);
    pub(super) const EXISTS: Self = Self(5);
    pub(super) const NOT_AVAILABLE: Self = Self(6);
    pub(super) const NO_MECHANISM: Self = Self(7);
    pub(super) const ONLY_LOCAL: Self = Self(11);
    pub(super) const NO_VHOST: Self = Self(12);
    pub(super) const FORBIDDEN: Self = Self(16);
    pub(super) const PRECONDITION: Self = Self(17);

    const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            1 => "OK",
            2 => "STREAM_DOES_NOT_EXIST",
            5 => "STREAM_ALREADY_EXISTS",
            6 => "STREAM_NOT_AVAILABLE",
            7 => "SASL_MECHANISM_NOT_SUPPORTED",
            8 => "AUTHENTICATION_FAILURE",
            9 => "SASL_ERROR",
            10 => "SASL_CHALLENGE",
            11 => "AUTHENTICATION_FAILURE_LOOPBACK",
            12 => "VIRTUAL_HOST_ACCESS_FAILURE",
            13 => "UNKNOWN_FRAME",
            14 => "FRAME_TOO_LARGE",
            15 => "INTERNAL_ERROR",
            16 => "ACCESS_REFUSED",
            17 => "PRECONDITION_FAILED",
            18 => "PUBLISHER_DOES_NOT_EXIST",
            _ => return None,
        })
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "response code {}", self.0),
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A frame of the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// These publishing ids are committed.
    Confirm(Ids<'a>),
    /// This many publishing ids of this publisher are refused, the first of them for this reason.
    Refusal(u8, u32, Code),
    /// Something has happened to the stream: the publisher is gone.
    MetadataUpdate(Code, Cow<'a, str>),
    /// The limits that the server proposes: the largest frame, and the seconds between two heartbeats.
    Tune(u32, u32),
    Heartbeat,
    /// The server closes the connection, for this reason.
    Close(Code, Cow<'a, str>),
    /// The answer to the command of this key that had this correlation.
    Answer {
        key: u16,
        correlation: u32,
        body: &'a [u8],
    },
    /// Something that nobody here has asked for.
    Other(u16),
}

/// Publishing ids, still as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids<'a>(&'a [[u8; 8]]);

impl Ids<'_> {
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.0.iter().copied().map(u64::from_be_bytes)
    }
}

impl<'a> Frame<'a> {
    pub(super) fn parse(frame: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor(frame);
        let (key, version) = (cursor.u16()?, cursor.u16()?);
        if version != VERSION {
            return Err(Malformed::Version(version));
        }
        Ok(match key {
            PUBLISH_CONFIRM => {
                cursor.u8()?;
                let count = usize::try_from(cursor.u32()?).unwrap_or(usize::MAX);
                let (ids, _) = cursor.0.as_chunks();
                Self::Confirm(Ids(ids.get(..count).ok_or(Malformed::Short)?))
            }
            PUBLISH_ERROR => {
                let (publisher, count) = (cursor.u8()?, cursor.u32()?);
                let _first = cursor.u64()?;
                Self::Refusal(publisher, count, Code(cursor.u16()?))
            }
            METADATA_UPDATE => Self::MetadataUpdate(Code(cursor.u16()?), cursor.string()?),
            TUNE => Self::Tune(cursor.u32()?, cursor.u32()?),
            HEARTBEAT => Self::Heartbeat,
            CLOSE => {
                cursor.u32()?;
                Self::Close(Code(cursor.u16()?), cursor.string()?)
            }
            key if key & ANSWER != 0 => Self::Answer { key: key & !ANSWER, correlation: cursor.u32()?, body: cursor.0 },
            key => Self::Other(key),
        })
    }
}

/// Returns the code of an answer, and what is behind it. An answer to [`METADATA`] has none.
pub(super) fn code(key: u16, body: &[u8]) -> Result<(Code, Cursor<'_>), Malformed> {
    let mut cursor = Cursor(body);
    let code = if key == METADATA { Code::OK } else { Code(cursor.u16()?) };
    Ok((code, cursor))
}

/// A name and its value.
pub(super) type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Returns the pairs of an answer.
pub(super) fn pairs(mut cursor: Cursor<'_>) -> Result<Vec<Pair<'_>>, Malformed> {
    cursor.list(|cursor| Ok((cursor.string()?, cursor.string()?)))
}

/// Returns the names of an answer.
pub(super) fn names(mut cursor: Cursor<'_>) -> Result<Vec<Cow<'_, str>>, Malformed> {
    cursor.list(Cursor::string)
}

/// What the cluster knows of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// There is no such stream.
    Nothing,
    /// It exists, and nobody leads it.
    NoLeader,
    /// It is led by the node of this host and port, as the node calls itself.
    Leader(String),
}

/// Returns what an answer to [`METADATA`] says of its only stream.
pub(super) fn known(mut cursor: Cursor<'_>) -> Result<Known, Malformed> {
    let nodes = cursor.list(|cursor| Ok((cursor.u16()?, cursor.string()?, cursor.u32()?)))?;
    let streams = cursor.list(|cursor| {
        let (_name, code, leader) = (cursor.string()?, Code(cursor.u16()?), cursor.u16()?);
        let _replicas = cursor.list(Cursor::u16)?;
        Ok((code, leader))
    })?;
    let Some((code, leader)) = streams.first() else { return Ok(Known::Nothing) };
    let leader = nodes.iter().find(|(number, ..)| *code == Code::OK && number == leader);
    Ok(match leader {
        Some((_, host, port)) => Known::Leader(format!("{host}:{port}")),
        None if *code == Code::NO_STREAM => Known::Nothing,
        None => Known::NoLeader,
    })
}
