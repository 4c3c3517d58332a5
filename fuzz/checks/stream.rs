//! What the broker says on a connection for streams.

use settled_amqp::stream::rehearse;

use super::draw::Draw;

/// How much comes at once, and frames with their keys: or any bytes.
pub fn check(data: &[u8]) {
    let mut draw = Draw::new(data);
    let chunk = usize::from(draw.byte()) + 1;
    let said = if draw.flag() { frames(&mut draw) } else { draw.rest().to_vec() };
    let whole = rehearse([&said[..]]);
    assert_eq!(rehearse(said.chunks(chunk)), whole, "in whatever pieces it comes");
    assert!(whole.frames.len() <= said.len() / 8, "no frame is made up");
}

/// Frames of this protocol whose bodies are any bytes.
fn frames(draw: &mut Draw<'_>) -> Vec<u8> {
    let mut said = Vec::new();
    while !draw.is_empty() {
        let (answer, key) = (draw.pick(&[0, 0x80]), draw.byte());
        // Now and then many publishing ids.
        let body = draw.bytes().repeat(draw.pick(&[1, 1, 300]));
        said.extend((body.len() as u32 + 4).to_be_bytes());
        said.extend([answer, key, 0, 1]);
        said.extend(body);
    }
    said
}
