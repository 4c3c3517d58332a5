//! Puts messages into as few frames as their limit allows, without a copy of a message before.

use settled_pipeline::outbox::Publication;

use super::command::PUBLISH;
use super::message::{TypeIn, put_message};
use super::partitions;
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
/// included. A frame is for one partition, and those of a partition are in the order of their messages.
pub(super) fn pack(
    first_id: u64,
    messages: &[Publication<'_>],
    partitions: usize,
    (limit, type_in): (usize, TypeIn),
) -> Packed {
    let mut packed = Packed::default();
    let bytes = messages.iter().map(|message| message.body.len() + 512).sum::<usize>();
    let capacity = (bytes / partitions).min(FILLED);
    let mut all: Vec<Open> = (0..=u8::MAX).take(partitions).map(|publisher| Open::new(publisher, capacity)).collect();
    for (place, (message, id)) in messages.iter().zip(first_id..).enumerate() {
        let open = &mut all[partitions::place(message, partitions)];
        let start = open.put(id, message, type_in);
        if open.count > 1 && open.bytes.len() > limit.min(FILLED) {
            let moved = open.split_off(start);
            packed.frames.push(std::mem::replace(open, moved).close());
        }
        if open.bytes.len() > limit {
            *open = Open::new(open.publisher, 0);
            packed.left_out.push(place);
        }
    }
    packed.frames.extend(all.into_iter().filter(|open| open.count > 0).map(Open::close));
    packed
}

/// A frame that still takes messages.
struct Open {
    publisher: u8,
    bytes: Vec<u8>,
    count: u32,
}

impl Open {
    fn new(publisher: u8, capacity: usize) -> Self {
        let mut bytes = begin(PUBLISH);
        bytes.reserve(capacity);
        bytes.push(publisher);
        bytes.extend(0_u32.to_be_bytes());
        Self { publisher, bytes, count: 0 }
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
        let mut moved = Self::new(self.publisher, FILLED.min(self.bytes.capacity()));
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
