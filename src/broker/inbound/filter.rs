//! AMQP 0-9-1 from the broker to lapin, frame after frame: no input or output of its own.
//!
//! Method frames, content headers and the heads of body frames are looked at; bodies pass in one piece.

mod frames;

use std::collections::VecDeque;
use std::sync::Arc;

use aws_lc_rs::digest;
use smallvec::SmallVec;

use super::{Inbox, Note};
use crate::contract::{Flaw, MAX_BODY_BYTES, Oversize};

/// The largest frame that is agreed on with a broker: lapin has buffers for 32 of them.
pub(crate) const MAX_FRAME: u32 = 128 * 1024;

/// The largest content header whose properties are read. The broker adds headers to those of the publisher, so it
/// can be larger than a frame should be.
const MAX_HEADER: usize = 2 * MAX_FRAME as usize;

/// The smallest that a broker may ask for.
const MIN_FRAME: u32 = 4096;

/// What is kept of a body: one byte more than a task may have, and the first of them are stored.
const KEPT: u64 = MAX_BODY_BYTES as u64 + 1;

/// How much is read at once if no frame asks for more.
const READ: usize = 64 * 1024;

/// Type, channel and size.
const HEAD: usize = 7;

/// The head, and the byte at the end.
const AROUND: usize = HEAD + 1;

/// The last byte of a frame.
const FRAME_END: u8 = 0xce;

/// The types of frames.
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

/// How the broker says that it speaks another version, in place of a frame.
const GREETING: (u8, usize) = (b'A', b"AMQP\x00\x00\x09\x01".len());

/// Class and method of a delivery, and of the limits that the broker asks for.
const DELIVER: [u8; 4] = [0, 60, 0, 60];
const TUNE: [u8; 4] = [0, 10, 0, 30];

/// Class, method, consumer tag, delivery tag, redelivered, exchange and routing key.
const MAX_DELIVER: usize = 4 + 256 + 8 + 1 + 256 + 256;

/// What a delivery takes in memory beside its body and its properties.
const DELIVERY: usize = 1024;

/// Nothing has to be said, and somebody is there.
const ALIVE: &[u8] = &[HEARTBEAT, 0, 0, 0, 0, 0, 0, FRAME_END];

/// What is not AMQP 0-9-1, or not as RabbitMQ speaks it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the broker sent {0}")]
pub(super) struct Violation(String);

/// What came of [`Filter::pull`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pulled {
    /// So many bytes for lapin.
    Bytes(usize),
    /// More has to be read first.
    Hungry,
    /// The budget is used up, and the next is a delivery.
    Paused,
}

/// What is done with the next bytes.
#[derive(Debug)]
struct Step {
    left: usize,
    is_passed: bool,
    /// The channel, if they are of an oversize body.
    hashed: Option<u16>,
}

/// The content of a delivery that is on its way.
#[derive(Debug)]
struct Content {
    channel: u16,
    tag: u64,
    flaws: Vec<Flaw>,
    /// Whether it is kept from lapin altogether.
    is_dropped: bool,
    /// What has still to come of the body, once its header is there.
    left: u64,
    has_header: bool,
    excess: Option<Box<Excess>>,
}

/// A body that is larger than a task may be. Of it pass the first bytes and, when all of it is known, the last one:
/// with that one lapin hands the delivery over.
struct Excess {
    /// Bytes that still pass before the last one.
    front: u64,
    /// Bytes that are still to be hashed.
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

/// The state of one connection.
#[derive(Debug)]
pub(super) struct Filter {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// What the frame at the start of the buffer needs to be judged.
    needed: usize,
    /// Comes before what is in the buffer.
    inserted: &'static [u8],
    steps: VecDeque<Step>,
    /// One for each channel that has a delivery on its way.
    contents: SmallVec<[Content; 1]>,
    /// The largest frame that lapin agrees to, and the largest that it has agreed to.
    most: u32,
    frame_max: usize,
    inbox: Arc<Inbox>,
}

impl Filter {
    /// Of a connection whose frames are to have at most `most` bytes, so far as the broker agrees.
    pub(super) fn new(inbox: Arc<Inbox>, most: u32) -> Self {
        let most = most.clamp(MIN_FRAME, MAX_FRAME);
        Self {
            // Pages that no large header fills stay untouched.
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

    /// Where what is read next belongs. There is room after [`Pulled::Hungry`].
    pub(super) fn space(&mut self) -> &mut [u8] {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= std::mem::take(&mut self.start);
        &mut self.buffer[self.end..self.needed.max(READ)]
    }

    /// So many bytes have been read into the space.
    pub(super) const fn filled(&mut self, bytes: usize) {
        self.end += bytes;
    }

    /// Puts a heartbeat before the next frame, at a pause.
    pub(super) const fn insert_heartbeat(&mut self) {
        self.inserted = ALIVE;
    }

    /// Moves what is for lapin into `out`.
    ///
    /// # Errors
    ///
    /// What comes can't be understood, and so can't anything after it.
    pub(super) fn pull(&mut self, out: &mut [u8]) -> Result<Pulled, Violation> {
        let mut written = self.inserted.len().min(out.len());
        out[..written].copy_from_slice(&self.inserted[..written]);
        self.inserted = &self.inserted[written..];
        while written < out.len() {
            let stop = match self.steps.front_mut() {
                None => match self.next_frame() {
                    // What has been written is read first.
                    Err(_) if written > 0 => break,
                    judged => judged?,
                },
                Some(_) if self.start == self.end => Some(Pulled::Hungry),
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

    /// Does what can be done of the first step. Returns how many bytes have passed.
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
                    self.inbox.note(content.excess.map(|excess| excess.note()).unwrap_or_default());
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
