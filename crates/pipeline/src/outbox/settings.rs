//! Section `[events]` of the configuration.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::section;
use crate::settings::{BROKER_NAME, Choice, Rule};

/// Intervals at which rows of the outbox are looked at again.
const RANGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);

section! {
    /// Where and how events are published, and the limits of the relay queue.
    EventSettings = "events", "What the world is told: an event for every outcome, at least once." {
        exchange: String = "payments.events".to_owned(), Text(&BROKER_NAME),
            "The topic exchange for events, with the routing key payment.settled and so on.";
        source: String = "settled".to_owned(), Text(&SOURCE),
            "The beginning of the CloudEvents source attribute, give each installation its own; a slash and the ledger's incarnation follow.";
        format: EventFormat = EventFormat::Single, Parsed(),
            "\"single\": a message per event. \"batch\": application/cloudevents-batch+json, about twice the throughput.";
        unroutable: Unroutable = Unroutable::Hold, Parsed(),
            "What becomes of an event that no queue takes. \"hold\": it stays in the outbox until a queue is bound. \"discard\": it is counted and dropped.";
        dead_letters: bool = false, Flag(),
            "Whether there is an event task.dead_lettered for each message that becomes a dead letter. Who asks for a reply is told in any case.";
        batch_events: usize = 500, Whole(1..=5000),
            "The most events in a message of format \"batch\".";
        // RabbitMQ 4 refuses messages above 16 MiB, unless configured otherwise. 500 usual events have a third of 1 MiB.
        batch_bytes: usize = 1 << 20, Whole(1024..=128 << 20),
            "The most bytes in a message of format \"batch\", unless a single event is longer: no more than the broker's max_message_size.";
        publishers: usize = 2, Whole(1..=64),
            "Channels that publish at the same time, each the events of one committed batch; all of them wait for their confirms before the next.";
        handover: usize = 4000, Whole(1..=1_000_000),
            "Events that wait in memory for the relay; more are read back from the table.";
        handover_bytes: u32 = 32 << 20, Whole(1 << 20..=1 << 30),
            "How many bytes the events in memory may have, waiting or being published; more are read back from the table.";
        lease: Duration = Duration::from_secs(10), Span(RANGE),
            "How long a relay has outbox rows for itself; after a crash another one takes them this much later.";
        retry_held: Duration = Duration::from_secs(5), Span(RANGE),
            "How often events that no queue took, or the broker refused, are tried again.";
        hold_replies: Duration = Duration::from_secs(15 * 60), Span(Duration::ZERO..=Duration::from_secs(7 * 24 * 3600)),
            "How long a reply is held that the broker refuses, or whose queue is full: nobody waits for it for ever. Then it is counted as discarded.";
    }
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
