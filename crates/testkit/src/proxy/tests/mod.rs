//! Tests of the proxy without servers: byte by byte in memory, and between two sockets.

mod amqp;
mod postgres;
mod sockets;
mod stream;

use proptest::prelude::*;

use super::{CutPoint, Protocol, Side, Through, rehearse};

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

/// Returns the chunks of a side.
fn said<'b>(side: Side, bytes: &'b [u8], sizes: &[usize]) -> impl Iterator<Item = (Side, &'b [u8])> {
    in_chunks(bytes, sizes).into_iter().map(move |chunk| (side, chunk))
}

/// Passes what one side says through a new connection. Returns the forwarded bytes, and where they were cut.
fn fed(
    protocol: Protocol,
    side: Side,
    armed: &[CutPoint],
    bytes: &[u8],
    sizes: &[usize],
) -> (Vec<u8>, Option<CutPoint>) {
    let Through { client, server, cut, is_refused } = rehearse(protocol, armed, said(side, bytes, sizes));
    assert!(!is_refused, "it is spoken");
    (if side == Side::Client { client } else { server }, cut)
}
