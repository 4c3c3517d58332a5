//! Checks across the keys of the stream that events go to.

use settled_pipeline::outbox::{EventFormat, EventSettings, Transport};

use super::Config;
use super::checks::{Finding, differ, unless};
use super::span::show;

pub(super) fn stream_keeps_events(config: &Config) -> Option<Finding> {
    let age = config.stream.max_age;
    unless(
        age.as_secs() > 0,
        format!("stream.max_age is \"{}\", expected a time for which events are kept, of a second or more", show(age)),
        "write how long a consumer may be away, such as \"168h\"; stream.max_length_bytes limits the disk",
    )
}

pub(super) fn stream_holds_a_segment(config: &Config) -> Option<Finding> {
    let (length, segment) = (config.stream.max_length_bytes, config.stream.segment_bytes);
    let message = format!(
        "stream.max_length_bytes is {length}, expected at least stream.segment_bytes, {segment}: RabbitMQ removes whole \
         segments only"
    );
    let remedy = "raise stream.max_length_bytes to the disk that events may take, or lower stream.segment_bytes";
    unless(length >= segment, message, remedy)
}

pub(super) fn a_stream_has_single_events(config: &Config) -> Option<Finding> {
    let EventSettings { transport, format, .. } = config.events;
    unless(
        transport == Transport::Exchange || format == EventFormat::Single,
        "events.format is \"batch\", expected \"single\": a stream has one event in each message, and is faster so"
            .to_owned(),
        "delete events.format, or write events.transport = \"exchange\"",
    )
}

pub(super) fn partitions_are_of_a_stream(config: &Config) -> Option<Finding> {
    let EventSettings { transport, partitions, .. } = config.events;
    unless(
        transport == Transport::Stream || partitions == 1,
        format!(
            "events.partitions is {partitions}, expected 1: only a stream has partitions, and events go to an exchange"
        ),
        "delete events.partitions, or write events.transport = \"stream\"",
    )
}

/// Checks that the exchange that makes a super stream of its partitions is none of the others, and that their names, which
/// are longer by a dash and a number, are not too long.
pub(super) fn super_stream_has_an_exchange(config: &Config) -> Option<Finding> {
    const MOST: usize = 252;
    let (name, broker) = (("stream.name", &*config.stream.name), &config.broker);
    if config.events.partitions == 1 {
        return None;
    }
    let others = [
        ("events.exchange", &config.events.exchange),
        ("broker.exchange", &broker.exchange),
        ("broker.dead_letter_exchange", &broker.dead_letter_exchange),
    ];
    let because = "with events.partitions there is an exchange of the stream's name";
    let message = format!("stream.name has {} bytes, expected at most {MOST} with events.partitions", name.1.len());
    unless(name.1.len() <= MOST, message, "give stream.name a shorter name")
        .or_else(|| others.into_iter().find_map(|(key, other)| differ(name, (key, other), because)))
}

pub(super) fn partitions_are_no_queues(config: &Config) -> Option<Finding> {
    let (partitions, name, broker) = (config.events.partitions, &*config.stream.name, &config.broker);
    let number = |queue: &str| queue.strip_prefix(name)?.strip_prefix('-')?.parse::<usize>().ok();
    let queues = [("broker.queue", &broker.queue), ("broker.dead_letter_queue", &broker.dead_letter_queue)];
    queues.into_iter().find_map(|(key, queue)| {
        unless(
            partitions == 1 || number(queue).is_none_or(|number| number >= partitions),
            format!("{key} is \"{queue}\", expected another name than those of the partitions of stream.name"),
            "give stream.name a name of its own",
        )
    })
}
