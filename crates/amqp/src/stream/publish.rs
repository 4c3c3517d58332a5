//! Puts messages into as few frames as their limit allows, without a copy of a message before.

use settled_pipeline::outbox::Publication;

use super::command::{PUBLISH, PUBLISHER};
use super::message::{TypeIn, put_message};
use super::wire::{begin, finish};

/// Frames are filled up to here, even if the server takes larger ones: they are sent as a whole.
const FILLED: usize = 1 << 20;

/// Where the number of messages of a frame stands: behind size, key, version and publisher.
const COUNT: usize = 9;

/// Where the first message of a frame begins.
const FIRST: usize = COUNT + 4;

/// What stands before each message: its publishing id and its length.
const HEAD: usize = 12;

/// The messages of an append, as they are sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Packed {
    pub(super) frames: Vec<Vec<u8>>,
    /// The places of the messages that are longer than a frame may be.
    pub(super) left_out: Vec<usize>,
}

/// Packs messages whose publishing ids count up from `first_id` into frames that are no longer than `limit`, sizes
/// included.
pub(super) fn pack(first_id: u64, messages: &[Publication<'_>], limit: usize, type_in: TypeIn) -> Packed {
    let mut packed = Packed::default();
    let mut open = Open::new(messages.iter().map(|message| message.body.len() + 512).sum::<usize>().min(FILLED));
    for (place, (message, id)) in messages.iter().zip(first_id..).enumerate() {
        let start = open.put(id, message, type_in);
        if open.count > 1 && open.bytes.len() > limit.min(FILLED) {
            let moved = open.split_off(start);
            packed.frames.push(std::mem::replace(&mut open, moved).close());
        }
        if open.bytes.len() > limit {
            open = Open::new(0);
            packed.left_out.push(place);
        }
    }
    if open.count > 0 {
        packed.frames.push(open.close());
    }
    packed
}

/// A frame that still takes messages.
struct Open {
    bytes: Vec<u8>,
    count: u32,
}

impl Open {
    fn new(capacity: usize) -> Self {
        let mut bytes = begin(PUBLISH);
        bytes.reserve(capacity);
        bytes.push(PUBLISHER);
        bytes.extend(0_u32.to_be_bytes());
        Self { bytes, count: 0 }
    }

    /// Appends a message, and returns where it begins.
    fn put(&mut self, id: u64, message: &Publication<'_>, type_in: TypeIn) -> usize {
        let start = self.bytes.len();
        self.bytes.extend(id.to_be_bytes());
        self.bytes.extend(0_u32.to_be_bytes());
        put_message(&mut self.bytes, message, type_in);
        let length = u32::try_from(self.bytes.len() - start - HEAD).unwrap_or(u32::MAX);
        self.bytes[start + 8..start + HEAD].copy_from_slice(&length.to_be_bytes());
        self.count += 1;
        start
    }

    /// Moves the last message, which begins at `start`, into a frame of its own.
    fn split_off(&mut self, start: usize) -> Self {
        let mut moved = Self::new(FILLED.min(self.bytes.capacity()));
        moved.bytes.extend_from_slice(&self.bytes[start..]);
        moved.count = 1;
        self.bytes.truncate(start);
        self.count -= 1;
        moved
    }

    fn close(mut self) -> Vec<u8> {
        self.bytes[COUNT..FIRST].copy_from_slice(&self.count.to_be_bytes());
        finish(self.bytes)
    }
}
