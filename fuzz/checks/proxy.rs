//! What client and server say to each other through the cutting proxy.

use settled_testkit::proxy::{CutPoint, Protocol, Side, rehearse};

use super::draw::Draw;

/// The most that is held back of what either side has said, in bytes: the head of a message, but one.
const HELD_BACK: [usize; 2] = [255, 12];

/// A protocol, the points that are armed, and chunks with who says them.
pub fn check(data: &[u8]) {
    let mut draw = Draw::new(data);
    let protocol = draw.pick(&[Protocol::Postgres, Protocol::Amqp, Protocol::Stream]);
    let armed: Vec<CutPoint> = CutPoint::ALL.into_iter().filter(|_| draw.flag()).collect();
    let mut chunks: Vec<(Side, &[u8])> = Vec::new();
    while !draw.is_empty() {
        chunks.push((draw.pick(&[Side::Client, Side::Server]), draw.bytes()));
    }
    let through = rehearse(protocol, &armed, chunks.iter().copied());
    assert!(through.cut.is_none_or(|point| armed.contains(&point) && point.protocol() == protocol));
    let forwarded = [(Side::Client, &through.client), (Side::Server, &through.server)];
    for ((side, forwarded), held_back) in forwarded.into_iter().zip(HELD_BACK) {
        let said = said(&chunks, side);
        assert!(said.starts_with(forwarded), "{side:?}: no byte is changed");
        if through.cut.is_none() && !through.is_refused {
            assert!(said.len() - forwarded.len() <= held_back, "{side:?}: {} bytes of {}", forwarded.len(), said.len());
        }
    }
    let bytes = chunks.iter().flat_map(|(side, chunk)| chunk.chunks(1).map(move |byte| (*side, byte)));
    let by_bytes = rehearse(protocol, &armed, bytes);
    assert_eq!(by_bytes, through, "however it comes");
}

fn said(chunks: &[(Side, &[u8])], of: Side) -> Vec<u8> {
    chunks.iter().filter(|(side, _)| *side == of).flat_map(|(_, chunk)| chunk.iter().copied()).collect()
}
