//! Runs the filter without a socket, for tests, fuzzing and benchmarks.

use std::sync::Arc;

use settled_core::contract::Findings;
use settled_pipeline::budget::Budget;

use super::filter::{Filter, MAX_FRAME, Pulled};
use super::inbox::Inbox;

/// What the filter made of the broker's bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rehearsed {
    /// The bytes that lapin would read.
    pub forwarded: Vec<u8>,
    /// Tag and findings of each delivery, in order.
    pub deliveries: Vec<(u64, Option<Findings>)>,
    /// Why the filter would have ended the connection.
    pub violation: Option<String>,
    /// Whether a delivery waits for the budget.
    pub is_paused: bool,
    /// Bytes taken from the budget.
    pub used: usize,
}

/// Passes `chunks`, as a broker would send them, through a filter with a budget of `limit` bytes. lapin reads up to
/// `room` bytes at a time, and no delivery is settled.
pub fn rehearse<'s>(limit: usize, room: usize, chunks: impl IntoIterator<Item = &'s [u8]>) -> Rehearsed {
    let budget = Arc::new(Budget::new(limit));
    let inbox = Inbox::new(Arc::clone(&budget));
    let mut filter = Filter::new(Arc::clone(&inbox), MAX_FRAME);
    let (mut rehearsed, mut out) = (Rehearsed::default(), vec![0; room.max(1)]);
    'sent: for mut chunk in chunks {
        loop {
            match filter.pull(&mut out) {
                Ok(Pulled::Bytes(bytes)) => rehearsed.forwarded.extend_from_slice(&out[..bytes]),
                Ok(Pulled::NeedsInput) if chunk.is_empty() => break,
                Ok(Pulled::NeedsInput) => {
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
    while let Some(note) = inbox.pop() {
        rehearsed.deliveries.push((note.tag, note.findings.map(|findings| *findings)));
    }
    drop(filter);
    assert_eq!(budget.used(), 0, "memory is given back");
    rehearsed
}
