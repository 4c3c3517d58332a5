//! Replies by RabbitMQ's direct reply-to. Their address is no queue but says which channel of which
//! node is to be sent to; and a broker that can't take it apart, or doesn't know the node (any more),
//! fails, and ends the connection of whoever replies. Nobody waits at such an address for long, so
//! it must never hold up the events of all others.

use crate::store::Parcel;

/// How the line of such a reply begins.
const LINE: &[u8] = br#"{"reply_to":"amq.rabbitmq.reply-to."#;

/// Takes these replies out of a parcel; answers how many there were.
pub(super) fn leave_out(parcel: &mut Parcel) -> u32 {
    let mut left_out = 0;
    let mut body = Vec::with_capacity(parcel.body.len());
    for line in parcel.body.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(LINE) {
            left_out += 1;
        } else {
            body.extend_from_slice(line);
        }
    }
    parcel.body = body;
    parcel.events = parcel.events.saturating_sub(left_out);
    left_out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_direct_replies_are_left_out() {
        let line = |queue: &str| format!("{{\"reply_to\":\"{queue}\",\"event\":{{}}}}\n");
        let (queue, direct) = (line("replies"), line("amq.rabbitmq.reply-to.g1h2.key"));
        let body = format!("{{\"type\":\"a\"}}\n{direct}{queue}{direct}");
        let mut parcel = Parcel { id: 1, body: body.into_bytes(), events: 4, held_key: None, held_reason: None };
        assert_eq!(leave_out(&mut parcel), 2);
        assert_eq!((parcel.body, parcel.events), (format!("{{\"type\":\"a\"}}\n{queue}").into_bytes(), 2));
    }
}
