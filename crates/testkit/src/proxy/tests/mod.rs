//! Tests of the proxy without servers: byte by byte in memory, and between two sockets.

mod amqp;
mod postgres;
mod sockets;

use proptest::prelude::*;

use super::CutPoint;
use super::cutter::{Cutter, Direction};

/// Splits bytes into chunks of these sizes, repeated as often as needed.
fn in_chunks<'b>(bytes: &'b [u8], sizes: &[usize]) -> Vec<&'b [u8]> {
    let (mut rest, mut chunks) = (bytes, Vec::new());
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, later) = rest.split_at((*size).min(rest.len()));
        chunks.push(chunk);
        rest = later;
    }
    chunks
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1..8_usize, 1..2000_usize], 1..20)
}

/// Feeds the bytes to a cutter. Returns the forwarded bytes, and where they were cut.
fn fed<D: Direction>(direction: D, bytes: &[u8], sizes: &[usize]) -> (Vec<u8>, Option<CutPoint>) {
    let (mut cutter, mut out) = (Cutter::new(direction), Vec::new());
    for chunk in in_chunks(bytes, sizes) {
        if let Some(point) = cutter.feed(chunk, &mut out).expect("it is spoken") {
            return (out, Some(point));
        }
    }
    (out, None)
}
