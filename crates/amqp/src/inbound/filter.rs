//! Filters AMQP 0-9-1 from the broker to lapin, frame by frame. Does no input or output itself.
//!
//! It looks at method frames, content headers and the heads of body frames, and passes on the bytes of bodies unseen.

mod frames;

use std::collections::VecDeque;
use std::sync::Arc;

use aws_lc_rs::digest;
use settled_core::contract::{Flaw, MAX_BODY_BYTES, Oversize};
use smallvec::SmallVec;

use super::inbox::{Inbox, Note};

/// The largest frame that is negotiated with a broker: lapin allocates buffers for 32 of them.
pub(crate) const MAX_FRAME: u32 = 128 * 1024;

/// The largest content header whose properties are read. The broker adds headers to the publisher's, so the frame can
/// exceed the negotiated size.
const MAX_HEADER: usize = 2 * MAX_FRAME as usize;

/// The smallest frame limit that a broker may ask for.
const MIN_FRAME: u32 = 4096;

/// Bytes that lapin gets of a body: one more than a task may have, so that an oversize body is recognized as one.
const MAX_KEPT: u64 = MAX_BODY_BYTES as u64 + 1;

/// Bytes that are read at once, unless a frame needs more.
const READ_SIZE: usize = 64 * 1024;

/// Bytes before a frame's payload: type, channel and size.
const HEAD: usize = 7;

/// Bytes of a frame besides its payload: the head, and [`FRAME_END`].
const OVERHEAD: usize = HEAD + 1;

/// The last byte of a frame.
const FRAME_END: u8 = 0xce;

// Types of frames.
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

/// First byte and length of the protocol header, which a broker sends in place of a frame if it speaks another version.
const PROTOCOL_HEADER: (u8, usize) = (b'A', b"AMQP\x00\x00\x09\x01".len());

/// Class and method of `basic.deliver`.
const DELIVER: [u8; 4] = [0, 60, 0, 60];

/// Class and method of `connection.tune`.
const TUNE: [u8; 4] = [0, 10, 0, 30];

/// The longest payload of `basic.deliver`: class, method, consumer tag, delivery tag, redelivered, exchange and routing
/// key.
const MAX_DELIVER: usize = 4 + 256 + 8 + 1 + 256 + 256;

/// Estimated memory of a delivery besides its body and its properties, in bytes.
const DELIVERY: usize = 1024;

const HEARTBEAT_FRAME: &[u8] = &[HEARTBEAT, 0, 0, 0, 0, 0, 0, FRAME_END];

/// Bytes from the broker that are not AMQP 0-9-1, or not as RabbitMQ sends it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the broker sent {0}")]
pub(super) struct Violation(String);

/// The result of [`Filter::pull`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pulled {
    /// This many bytes were written for lapin.
    Bytes(usize),
    /// More has to be read from the socket first.
    NeedsInput,
    /// The budget is exhausted, and the next frame is a delivery.
    Paused,
}

/// Passes on, or drops, the next `left` bytes.
#[derive(Debug)]
struct Step {
    left: usize,
    is_passed: bool,
    /// The channel of the oversize body that the bytes belong to.
    hashed: Option<u16>,
}

/// A delivery of which not all frames have come yet.
#[derive(Debug)]
struct Content {
    channel: u16,
    tag: u64,
    flaws: Vec<Flaw>,
    /// Whether lapin gets nothing of it.
    is_dropped: bool,
    /// Bytes of the body that have still to come, once `has_header` is true.
    left: u64,
    has_header: bool,
    excess: Option<Box<Excess>>,
}

/// The state of a body that is larger than a task may be. Its first bytes pass, and its last byte: lapin hands the
/// delivery over with that one, when the hash and the note are complete.
struct Excess {
    /// Bytes that still pass before the last one.
    front: u64,
    /// Bytes that have still to be hashed.
    unseen: u64,
    size: u64,
    hash: digest::Context,
    note: Note,
}

impl Excess {
    fn note(self) -> Note {
        let Self { size, hash, mut note, .. } = self;
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(hash.finish().as_ref());
        note.findings.get_or_insert_default().oversize = Some(Oversize { size, sha256 });
        note
    }
}

impl std::fmt::Debug for Excess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} bytes are still to come", self.unseen, self.size)
    }
}

/// The filter of one connection.
#[derive(Debug)]
pub(super) struct Filter {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes of the frame at the start of the buffer that are needed to decide about it.
    needed: usize,
    /// Bytes for lapin that come before those in the buffer.
    inserted: &'static [u8],
    steps: VecDeque<Step>,
    /// Incomplete deliveries, at most one for each channel.
    contents: SmallVec<[Content; 1]>,
    /// The largest frame that lapin accepts.
    most: u32,
    /// The largest frame as negotiated.
    frame_max: usize,
    inbox: Arc<Inbox>,
}

impl Filter {
    /// Creates the filter of a connection for which lapin negotiates frames of at most `most` bytes.
    pub(super) fn new(inbox: Arc<Inbox>, most: u32) -> Self {
        let most = most.clamp(MIN_FRAME, MAX_FRAME);
        Self {
            // Zeroed pages take no memory until a large header fills them.
            buffer: vec![0; MAX_HEADER].into(),
            start: 0,
            end: 0,
            needed: HEAD,
            inserted: &[],
            steps: VecDeque::with_capacity(8),
            contents: SmallVec::new(),
            most,
            frame_max: most as usize,
            inbox,
        }
    }

    pub(super) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Returns the free part of the buffer, to read into. It is not empty after [`Pulled::NeedsInput`].
    pub(super) fn space(&mut self) -> &mut [u8] {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= std::mem::take(&mut self.start);
        &mut self.buffer[self.end..self.needed.max(READ_SIZE)]
    }

    /// Tells that `bytes` bytes have been read into [`Self::space`].
    pub(super) const fn filled(&mut self, bytes: usize) {
        self.end += bytes;
    }

    /// Inserts a heartbeat before the next frame. Only for use after [`Pulled::Paused`].
    pub(super) const fn insert_heartbeat(&mut self) {
        self.inserted = HEARTBEAT_FRAME;
    }

    /// Writes bytes for lapin to `out`.
    ///
    /// # Errors
    ///
    /// When the next frame cannot be read; no frame after it can be read either.
    pub(super) fn pull(&mut self, out: &mut [u8]) -> Result<Pulled, Violation> {
        let mut written = self.inserted.len().min(out.len());
        out[..written].copy_from_slice(&self.inserted[..written]);
        self.inserted = &self.inserted[written..];
        while written < out.len() {
            let stop = match self.steps.front_mut() {
                None => match self.next_frame() {
                    // Returns what has been written; the next call returns the error.
                    Err(_) if written > 0 => break,
                    judged => judged?,
                },
                Some(_) if self.start == self.end => Some(Pulled::NeedsInput),
                Some(_) => {
                    written += self.step(&mut out[written..]);
                    None
                }
            };
            match stop {
                Some(stop) if written == 0 => return Ok(stop),
                Some(_) => break,
                None => {}
            }
        }
        Ok(Pulled::Bytes(written))
    }

    /// Executes the first step as far as the buffer and `out` allow. Returns how many bytes were written.
    fn step(&mut self, out: &mut [u8]) -> usize {
        let Some(step) = self.steps.front_mut() else { return 0 };
        let there = &self.buffer[self.start..self.end];
        let most = if step.is_passed { out.len() } else { usize::MAX };
        let bytes = &there[..there.len().min(step.left).min(most)];
        let passed = if step.is_passed { bytes.len() } else { 0 };
        out[..passed].copy_from_slice(&bytes[..passed]);
        step.left -= bytes.len();
        let (is_done, hashed) = (step.left == 0, step.hashed);
        self.start += bytes.len();
        if let Some(channel) = hashed {
            let place = self.contents.iter().position(|content| content.channel == channel);
            let excess = place.and_then(|place| self.contents[place].excess.as_mut());
            if let (Some(excess), Some(place)) = (excess, place) {
                excess.hash.update(bytes);
                excess.unseen -= bytes.len() as u64;
                if excess.unseen == 0 {
                    let content = self.contents.swap_remove(place);
                    self.inbox.push(content.excess.map(|excess| excess.note()).unwrap_or_default());
                }
            }
        }
        if is_done {
            self.steps.pop_front();
        }
        passed
    }
}

#[cfg(test)]
mod tests;
