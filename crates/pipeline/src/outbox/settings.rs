//! Section `[events]` of the configuration.

use std::time::Duration;

use crate::settings::{BROKER_NAME, Choice, Field, Key, Rule, Section};

/// Where and how events are published, and the limits of the relay queue.
#[derive(Debug, Clone)]
pub struct EventSettings {
    /// The topic exchange that events are published to.
    pub exchange: String,
    /// The CloudEvents attribute `source`, without the ledger's incarnation.
    pub source: String,
    /// Whether a message has one event or several.
    pub format: EventFormat,
    /// What is done with an event that no queue takes.
    pub unroutable: Unroutable,
    /// Whether an event is published for each message that becomes a dead letter.
    pub dead_letters: bool,
    /// The most events in a message of [`EventFormat::Batch`].
    pub batch_events: usize,
    /// The most bytes in a message of [`EventFormat::Batch`], unless a single event is longer.
    pub batch_bytes: usize,
    /// Channels that publish at the same time.
    pub publishers: usize,
    /// The most events in the relay queue; the sweeper reads further ones from the table.
    pub handover: usize,
    /// The most bytes of events in the relay queue and being published.
    pub handover_bytes: u32,
    /// How long a process holds the lease of an outbox row before it has to renew it.
    pub lease: Duration,
    /// The interval at which events that no queue took, or the broker refused, are tried again.
    pub retry_held: Duration,
    /// How long a reply is held that the broker or its queue refuses.
    pub hold_replies: Duration,
}

/// How events are put into messages: a content mode of CloudEvents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventFormat {
    /// One event a message, with the CloudEvents attributes as headers.
    Single,
    /// Up to [`EventSettings::batch_events`] events a message, as `application/cloudevents-batch+json`.
    Batch,
}

impl Choice for EventFormat {
    const NAMES: &'static [(&'static str, Self)] = &[("single", Self::Single), ("batch", Self::Batch)];
}

/// What is done with an event that no queue takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unroutable {
    /// It stays in the outbox until a queue is bound.
    Hold,
    /// It is counted and dropped.
    Discard,
}

impl Choice for Unroutable {
    const NAMES: &'static [(&'static str, Self)] = &[("hold", Self::Hold), ("discard", Self::Discard)];
}

/// Rejects texts that are certainly no URI reference, which a CloudEvents `source` has to be.
const SOURCE: Rule = Rule {
    expected: "a URI reference of 1 to 255 bytes without spaces, such as \"settled\" or \"https://example.com/eu\"",
    check: |text| match text {
        "" => Err("it is empty".to_owned()),
        text if text.len() > 255 => Err(format!("it has {} bytes", text.len())),
        text if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err("it has spaces or non-ASCII characters".to_owned())
        }
        _ => Ok(()),
    },
};

impl Default for EventSettings {
    fn default() -> Self {
        Self {
            exchange: "payments.events".to_owned(),
            source: "settled".to_owned(),
            format: EventFormat::Single,
            unroutable: Unroutable::Hold,
            dead_letters: false,
            batch_events: 500,
            // RabbitMQ 4 refuses messages above 16 MiB, unless configured otherwise. 500 usual events have a third of
            // this.
            batch_bytes: 1 << 20,
            publishers: 2,
            handover: 4000,
            handover_bytes: 32 << 20,
            lease: Duration::from_secs(10),
            retry_held: Duration::from_secs(5),
            hold_replies: Duration::from_secs(15 * 60),
        }
    }
}

impl Section for EventSettings {
    const NAME: &'static str = "events";
    const ABOUT: &'static str = "What the world is told: an event for every outcome, at least once.";

    #[rustfmt::skip]
    fn keys(&mut self) -> Vec<Key<'_>> {
        let range = || Duration::from_secs(1)..=Duration::from_secs(300);
        vec![
            Key::new("exchange", Field::Text(&mut self.exchange, &BROKER_NAME), "The topic exchange for events, with the routing key payment.settled and so on."),
            Key::new("source", Field::Text(&mut self.source, &SOURCE), "The beginning of the CloudEvents source attribute, give each installation its own; a slash and the ledger's incarnation follow."),
            Key::new("format", Field::Parsed(&mut self.format), "\"single\": a message per event. \"batch\": application/cloudevents-batch+json, about twice the throughput."),
            Key::new("unroutable", Field::Parsed(&mut self.unroutable), "What becomes of an event that no queue takes. \"hold\": it stays in the outbox until a queue is bound. \"discard\": it is counted and dropped."),
            Key::new("dead_letters", Field::Flag(&mut self.dead_letters), "Whether there is an event task.dead_lettered for each message that becomes a dead letter. Who asks for a reply is told in any case."),
            Key::new("batch_events", Field::Whole(&mut self.batch_events, 1..=5000), "The most events in a message of format \"batch\"."),
            Key::new("batch_bytes", Field::Whole(&mut self.batch_bytes, 1024..=128 << 20), "The most bytes in a message of format \"batch\", unless a single event is longer: no more than the broker's max_message_size."),
            Key::new("publishers", Field::Whole(&mut self.publishers, 1..=64), "Channels that publish at the same time, each the events of one committed batch; all of them wait for their confirms before the next."),
            Key::new("handover", Field::Whole(&mut self.handover, 1..=1_000_000), "Events that wait in memory for the relay; more are read back from the table."),
            Key::new("handover_bytes", Field::Whole(&mut self.handover_bytes, 1 << 20..=1 << 30), "How many bytes the events in memory may have, waiting or being published; more are read back from the table."),
            Key::new("lease", Field::Span(&mut self.lease, range()), "How long a relay has outbox rows for itself; after a crash another one takes them this much later."),
            Key::new("retry_held", Field::Span(&mut self.retry_held, range()), "How often events that no queue took, or the broker refused, are tried again."),
            Key::new("hold_replies", Field::Span(&mut self.hold_replies, Duration::ZERO..=Duration::from_secs(7 * 24 * 3600)), "How long a reply is held that the broker refuses, or whose queue is full: nobody waits for it for ever. Then it is counted as discarded."),
        ]
    }
}
