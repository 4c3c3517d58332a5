//! Section `[events]` of the configuration.

use std::time::Duration;

use super::publication::Encoding;
use crate::section;
use crate::settings::{BROKER_NAME, Choice, Rule};

section! {
    /// Where and how events are published, and the limits of the relay queue.
    pub struct EventSettings in "events", "What the world is told: an event for every outcome, at least once.";

    /// "exchange": events go to a topic exchange, each at least once. "stream": each goes exactly once to the stream that
    /// [stream] names, for a fraction of the broker's work; it needs the plugin rabbitmq_stream. Replies are the same.
    pub transport: Transport = Transport::Exchange => Parsed();
    /// How many streams share the events: each has those of a part of the payments, by a hash of the payment's id. More
    /// than one are the partitions of a super stream, which needs RabbitMQ 3.11. Another number needs another stream.name.
    pub partitions: usize = 1 => Whole(1..=64);
    /// The topic exchange for events, with the routing key payment.settled and so on.
    pub exchange: String = "payments.events".to_owned() => Text(&BROKER_NAME);
    /// The beginning of the CloudEvents source attribute, give each installation its own; a slash and the ledger's
    /// incarnation follow.
    pub source: String = "settled".to_owned() => Text(&SOURCE);
    /// "single": a message per event. "batch": application/cloudevents-batch+json, about twice the throughput.
    pub format: EventFormat = EventFormat::Single => Parsed();
    /// What the names of the headers with the CloudEvents attributes begin with, in format "single" and in replies.
    /// "cloudEvents_" for consumers that speak JMS, whose names of properties have no colon; "ce-" for those that follow
    /// Knative's RabbitMQ binding.
    pub header_prefix: HeaderPrefix = HeaderPrefix::Colon => Parsed();
    /// What becomes of an event that no queue takes. "hold": it stays in the outbox until a queue is bound. "discard":
    /// it is counted and dropped.
    pub unroutable: Unroutable = Unroutable::Hold => Parsed();
    /// Whether there is an event task.dead_lettered for each message that becomes a dead letter. Who asks for a reply
    /// is told in any case.
    pub dead_letters: bool = false => Flag();
    /// The most events in a message of format "batch".
    pub batch_events: usize = 500 => Whole(1..=5000);
    // RabbitMQ 4 refuses messages above 16 MiB, unless configured otherwise. 500 usual events have a third of this.
    /// The most bytes in a message of format "batch", unless a single event is longer: no more than the broker's
    /// max_message_size.
    pub batch_bytes: usize = 1 << 20 => Whole(1024..=128 << 20);
    /// Channels that publish at the same time, each the events of one committed batch; all of them wait for their
    /// confirms before the next.
    pub publishers: usize = 2 => Whole(1..=64);
    /// Events that wait in memory for the relay; more are read back from the table.
    pub handover: usize = 4000 => Whole(1..=1_000_000);
    /// How many bytes the events in memory may have, waiting or being published; more are read back from the table.
    pub handover_bytes: u32 = 32 << 20 => Whole(1 << 20..=1 << 30);
    /// How long a relay has outbox rows for itself; after a crash another one takes them this much later.
    pub lease: Duration = Duration::from_secs(10) => Span(Duration::from_secs(1)..=Duration::from_secs(300));
    /// How often events that no queue took, or the broker refused, are tried again.
    pub retry_held: Duration = Duration::from_secs(5) => Span(Duration::from_secs(1)..=Duration::from_secs(300));
    /// How long a reply is held that the broker refuses, or whose queue is full: nobody waits for it for ever. Then it
    /// is counted as discarded.
    pub hold_replies: Duration = Duration::from_secs(15 * 60)
        => Span(Duration::ZERO..=Duration::from_secs(7 * 24 * 3600));
}

impl EventSettings {
    /// Returns how messages are made of events.
    pub const fn encoding(&self) -> Encoding {
        let Self { format, header_prefix, batch_events, batch_bytes, .. } = *self;
        Encoding { format, header_prefix, batch_events, batch_bytes }
    }
}

/// Where events are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// To a topic exchange, with AMQP 0-9-1.
    Exchange,
    /// To a stream, with its own protocol.
    Stream,
}

impl Choice for Transport {
    const NAMES: &'static [(&'static str, Self)] = &[("exchange", Self::Exchange), ("stream", Self::Stream)];
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

/// What the names of the headers that carry CloudEvents attributes begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderPrefix {
    /// `cloudEvents:`, as the AMQP binding of CloudEvents recommends where JMS plays no part.
    Colon,
    /// `cloudEvents_`, the other prefix of the AMQP binding.
    Underscore,
    /// `ce-`, the prefix of Knative's RabbitMQ binding and of the HTTP binding.
    Short,
}

impl HeaderPrefix {
    /// Returns the names of the headers: specversion, id, source, type, subject, time.
    pub const fn header_names(self) -> [&'static str; 6] {
        macro_rules! names {
            ($prefix:literal) => {
                [
                    concat!($prefix, "specversion"),
                    concat!($prefix, "id"),
                    concat!($prefix, "source"),
                    concat!($prefix, "type"),
                    concat!($prefix, "subject"),
                    concat!($prefix, "time"),
                ]
            };
        }
        match self {
            Self::Colon => names!("cloudEvents:"),
            Self::Underscore => names!("cloudEvents_"),
            Self::Short => names!("ce-"),
        }
    }
}

impl Choice for HeaderPrefix {
    const NAMES: &'static [(&'static str, Self)] =
        &[("cloudEvents:", Self::Colon), ("cloudEvents_", Self::Underscore), ("ce-", Self::Short)];
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
