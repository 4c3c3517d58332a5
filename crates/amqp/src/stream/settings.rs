//! Section `[stream]` of the configuration.

use std::ops::RangeInclusive;
use std::time::Duration;

use settled_pipeline::section;
use settled_pipeline::settings::BROKER_NAME;

/// The stream plugin's own ports.
const PORT: u16 = 5552;
const TLS_PORT: u16 = 5551;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Up to ten years. That zero keeps nothing is said by a check of the configuration.
const AGES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(10 * 365 * 24 * 60 * 60);

section! {
    /// The stream that events are appended to, and what it keeps of them.
    pub struct StreamSettings in "stream", "The stream that events are appended to, if events.transport is \"stream\".";

    /// The stream, declared if broker.declare is true. One that exists keeps its own limits.
    pub name: String = "payments.events.log".to_owned() => Text(&BROKER_NAME);
    /// The port of RabbitMQ's stream plugin, on all nodes of broker.uris. 0 is the plugin's own: 5552, and 5551 for
    /// amqps://.
    pub port: u16 = 0 => Whole(0..=65_535);
    /// How long the stream keeps events at least, unless max_length_bytes is reached. It removes whole segments.
    pub max_age: Duration = DAY * 7 => Span(AGES);
    /// The disk that the stream may take on each node that has a copy, in bytes. Beyond it the oldest segments are
    /// removed, whoever has not read them.
    pub max_length_bytes: usize = 10 << 30 => Whole(0..=1 << 50);
    /// The size of a segment, in bytes. The upper limit is RabbitMQ's.
    pub segment_bytes: usize = 100 << 20 => Whole(1 << 20..=3_000_000_000);
}

impl StreamSettings {
    /// Returns the port for a URI with or without TLS.
    pub fn port_of(&self, is_tls: bool) -> u16 {
        match self.port {
            0 if is_tls => TLS_PORT,
            0 => PORT,
            port => port,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_the_plugins_own_unless_it_is_set() {
        let of = |port| StreamSettings { port, ..StreamSettings::default() };
        assert_eq!([false, true].map(|is_tls| of(0).port_of(is_tls)), [5552, 5551]);
        assert_eq!([false, true].map(|is_tls| of(7).port_of(is_tls)), [7, 7]);
    }
}
