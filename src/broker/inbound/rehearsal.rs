//! A connection without a socket: what of it lapin would get.

use std::sync::Arc;

use super::filter::{Filter, MAX_FRAME, Pulled};
use super::{Budget, Inbox};
use crate::contract::Findings;

/// What has come through.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rehearsed {
    /// The bytes for lapin.
    pub forwarded: Vec<u8>,
    /// The deliveries in their order: their tags, and what was found out about them.
    pub deliveries: Vec<(u64, Option<Findings>)>,
    /// Why the connection would have ended.
    pub violation: Option<String>,
    /// Whether deliveries wait for memory.
    pub is_paused: bool,
    /// The most bytes that were held back, not counting the one buffer.
    pub used: usize,
}

/// Has the broker send these chunks, of which lapin reads up to `room` bytes at a time; nothing is settled meanwhile.
pub fn rehearse<'s>(limit: usize, room: usize, chunks: impl IntoIterator<Item = &'s [u8]>) -> Rehearsed {
    let budget = Arc::new(Budget::new(limit));
    let inbox = Inbox::new(Arc::clone(&budget));
    let mut filter = Filter::new(Arc::clone(&inbox), MAX_FRAME);
    let (mut rehearsed, mut out) = (Rehearsed::default(), vec![0; room.max(1)]);
    'sent: for mut chunk in chunks {
        loop {
            match filter.pull(&mut out) {
                Ok(Pulled::Bytes(bytes)) => rehearsed.forwarded.extend_from_slice(&out[..bytes]),
                Ok(Pulled::Hungry) if chunk.is_empty() => break,
                Ok(Pulled::Hungry) => {
                    let space = filter.space();
                    let count = space.len().min(chunk.len());
                    space[..count].copy_from_slice(&chunk[..count]);
                    chunk = &chunk[count..];
                    filter.filled(count);
                }
                Ok(Pulled::Paused) => {
                    rehearsed.is_paused = true;
                    break 'sent;
                }
                Err(violation) => {
                    rehearsed.violation = Some(violation.to_string());
                    break 'sent;
                }
            }
        }
    }
    rehearsed.used = budget.used();
    while let Some(note) = inbox.notes.lock().pop_front() {
        rehearsed.deliveries.push((note.tag, note.findings.map(|findings| *findings)));
    }
    drop(filter);
    assert_eq!(budget.used(), 0, "memory is given back");
    rehearsed
}
