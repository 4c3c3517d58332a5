//! What the broker sends, on its way to the client library.

use amq_protocol::frame::parse_frame;
use settled_amqp::inbound::rehearse;

use super::draw::Draw;

/// What lapin agrees to at most, in bytes.
const MAX_FRAME: usize = 128 * 1024;

/// What the deliveries may take in memory.
const LIMIT: usize = 1 << 20;

/// How much is read at once, how much comes at once, and deliveries: or any bytes.
pub fn check(data: &[u8]) {
    let mut draw = Draw::new(data);
    let (room, chunk) = (usize::from(draw.byte()) + 1, usize::from(draw.byte()) + 1);
    let is_framed = draw.flag();
    let sent = if is_framed { deliveries(&mut draw) } else { draw.rest().to_vec() };
    let whole = rehearse(LIMIT, 1 << 16, [&sent[..]]);
    assert_eq!(rehearse(LIMIT, room, sent.chunks(chunk)), whole, "in whatever pieces it comes");
    assert!(whole.forwarded.len() <= sent.len() + 8, "nothing is made up");
    if !is_framed {
        return;
    }
    assert_eq!(whole.violation, None);
    let mut rest = &whole.forwarded[..];
    while !rest.is_empty() {
        let (next, _) = parse_frame(rest).unwrap_or_else(|error| panic!("lapin can't read it: {error:?}"));
        assert!(rest.len() - next.len() <= MAX_FRAME, "lapin refuses larger frames");
        rest = next;
    }
}

/// Deliveries whose routing keys, properties and bodies are any bytes.
fn deliveries(draw: &mut Draw<'_>) -> Vec<u8> {
    let mut sent = Vec::new();
    for tag in 1u64.. {
        if draw.is_empty() {
            break;
        }
        let (routing_key, properties) = (draw.bytes(), draw.bytes());
        // Now and then the beginning of a large one.
        let body = draw.bytes().repeat(draw.pick(&[1, 1, 300]));
        let key = [&[routing_key.len() as u8][..], routing_key].concat();
        frame(&mut sent, 1, &[&[0, 60, 0, 60, 1, b't'][..], &tag.to_be_bytes(), &[0, 0], &key].concat());
        let flags = if properties.len() < 2 { &[0, 0][..] } else { properties };
        frame(&mut sent, 2, &[&[0, 60, 0, 0][..], &(body.len() as u64).to_be_bytes(), flags].concat());
        body.chunks(50_000).for_each(|part| frame(&mut sent, 3, part));
    }
    sent
}

fn frame(sent: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    sent.extend([kind, 0, 1]);
    sent.extend((payload.len() as u32).to_be_bytes());
    sent.extend_from_slice(payload);
    sent.push(0xce);
}
