//! The content of an outbox row: events and replies, one a line.

use settled_core::contract::{Event, Reply};

/// The content of an outbox row.
#[derive(Debug, Default)]
pub struct Events {
    /// One line an event.
    pub body: Vec<u8>,
    /// How many.
    pub count: i32,
}

impl Events {
    /// Appends the event (unless it was published before) and the reply that is asked for.
    pub fn tell(&mut self, event: &Event<'_>, to_all: bool) {
        if to_all {
            event.write(&mut self.body);
            self.count += 1;
        }
        if let Some(reply_to) = event.properties.reply_to.as_deref() {
            let reply = Reply { reply_to, correlation_id: event.properties.correlation_id.as_deref() };
            event.write_reply(reply, &mut self.body);
            self.count += 1;
        }
    }
}
