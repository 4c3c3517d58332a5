//! Replies through RabbitMQ's direct reply-to.
//!
//! Their address, `amq.rabbitmq.reply-to.…`, is no queue but names a channel of a node. A broker that cannot parse it,
//! or no longer knows the node, fails with an internal error and ends the publisher's connection. Such a reply must not
//! hold up all other events, and its requester does not wait for long, so it is discarded then.

use crate::store::EventBatch;

/// The beginning of the outbox line of such a reply.
const PREFIX: &[u8] = br#"{"reply_to":"amq.rabbitmq.reply-to."#;

/// Removes these replies from an event batch. Returns how many there were.
pub(super) fn discard(event_batch: &mut EventBatch) -> u32 {
    let mut discarded = 0;
    let mut body = Vec::with_capacity(event_batch.body.len());
    for line in event_batch.body.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(PREFIX) {
            discarded += 1;
        } else {
            body.extend_from_slice(line);
        }
    }
    event_batch.body = body;
    event_batch.events = event_batch.events.saturating_sub(discarded);
    discarded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_direct_replies_are_discarded() {
        let line = |queue: &str| format!("{{\"reply_to\":\"{queue}\",\"event\":{{}}}}\n");
        let (queue, direct) = (line("replies"), line("amq.rabbitmq.reply-to.g1h2.key"));
        let body = format!("{{\"type\":\"a\"}}\n{direct}{queue}{direct}");
        let mut event_batch =
            EventBatch { id: 1, body: body.into_bytes(), events: 4, held_key: None, held_reason: None };
        assert_eq!(discard(&mut event_batch), 2);
        assert_eq!((event_batch.body, event_batch.events), (format!("{{\"type\":\"a\"}}\n{queue}").into_bytes(), 2));
    }
}
