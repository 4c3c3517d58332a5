//! Converts the lines of an outbox row to AMQP messages. Does no input or output.

use std::borrow::Cow;

use memchr::memchr_iter;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::settings::{EventFormat, HeaderPrefix};
use crate::traces::EventRecord;

/// How messages are made of events.
#[derive(Clone, Copy, Debug)]
pub struct Encoding {
    /// One event in a message, or many.
    pub format: EventFormat,
    /// What the names of the headers of a single event begin with.
    pub header_prefix: HeaderPrefix,
    /// The most events in a message of [`EventFormat::Batch`].
    pub batch_events: usize,
    /// The longest body of a message of [`EventFormat::Batch`] in bytes, unless a single event is longer.
    pub batch_bytes: usize,
}

/// A message to publish. It borrows from its row what it can, because there are many of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication<'a> {
    /// The queue that the requester of a reply named; `None` for an event.
    pub reply_to: Option<Cow<'a, str>>,
    /// The routing key on the events exchange: the type of the event.
    pub routing_key: Cow<'a, str>,
    /// The id of the event or batch, which is the same each time it is published.
    pub message_id: Cow<'a, str>,
    /// The task's id, or for a reply the correlation id that its requester chose.
    pub correlation_id: Option<Cow<'a, str>>,
    /// Media type of the body.
    pub content_type: &'static str,
    /// CloudEvents attributes, which are the headers of a single event.
    pub attributes: Option<[(&'static str, Cow<'a, str>); 6]>,
    /// W3C trace context of the task, or of the publication if that has a span.
    pub traceparent: Option<Cow<'a, str>>,
    /// W3C trace context of the task.
    pub tracestate: Option<Cow<'a, str>>,
    /// Body of the message: the data of a single event, or an array of events.
    pub body: Cow<'a, [u8]>,
    /// The outbox lines that it was made of, to be held if no queue takes it.
    pub lines: Cow<'a, [u8]>,
    /// Number of events in the message.
    pub events: u32,
    /// The span of its publication, if it is traced.
    pub span: Option<Box<EventRecord>>,
}

impl Publication<'_> {
    /// Begins a span for a single event or reply of a sampled trace. Its header names that span, so that what its
    /// consumer does comes below it.
    pub fn begin_span(&mut self) {
        let (Some(traceparent), Some(attributes)) = (&self.traceparent, &self.attributes) else { return };
        let [_, (_, id), _, (_, kind), (_, subject), _] = attributes;
        let span = EventRecord::begin(traceparent, (subject, id), kind, self.reply_to.is_some());
        if let Some(span) = span {
            self.traceparent = Some(span.context.to_string().into());
            self.span = Some(Box::new(span));
        }
    }

    /// Returns the `message_id` property. A reply has a suffix, as its event is published with the same id.
    pub fn id_on_the_wire(&self) -> Cow<'_, str> {
        match &self.reply_to {
            Some(_) => format!("{}/reply", self.message_id).into(),
            None => (&*self.message_id).into(),
        }
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    reply_to: Option<Cow<'a, str>>,
    #[serde(borrow)]
    correlation_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event: Option<Event<'a>>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    subject: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow)]
    traceparent: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tracestate: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Returns the messages for the lines of a row.
///
/// # Errors
///
/// When a line is neither an event nor a reply, as the daemon never writes it.
pub fn publications(row: i64, body: &[u8], encoding: Encoding) -> Result<Vec<Publication<'_>>, serde_json::Error> {
    match encoding.format {
        EventFormat::Single => lines(body).map(|line| single(line, encoding.header_prefix)).collect(),
        EventFormat::Batch => batches(row, lines(body), encoding),
    }
}

/// Returns the lines that are not empty, each with its line feed, as it is stored again if it is held.
fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut begin = 0;
    memchr_iter(b'\n', body).map(|feed| feed + 1).chain([body.len()]).filter_map(move |end| {
        let line = &body[std::mem::replace(&mut begin, end)..end];
        (!line.is_empty() && line != b"\n").then_some(line)
    })
}

/// Whether the line is a reply: it begins with the queue, a field that events do not have.
fn is_reply(line: &[u8]) -> bool {
    line.starts_with(b"{\"reply_to\"")
}

fn single(line: &[u8], prefix: HeaderPrefix) -> Result<Publication<'_>, serde_json::Error> {
    if is_reply(line) {
        let Line { reply_to, correlation_id, event } = serde_json::from_slice(line)?;
        let event = event.ok_or_else(|| serde::de::Error::missing_field("event"))?;
        return Ok(binary(event, prefix, reply_to, correlation_id, line));
    }
    let event: Event<'_> = serde_json::from_slice(line)?;
    let task_id = Some(event.subject.clone());
    Ok(binary(event, prefix, None, task_id, line))
}

/// Returns an event in the binary mode of CloudEvents: its attributes are headers, and the body is its data.
fn binary<'a>(
    event: Event<'a>,
    prefix: HeaderPrefix,
    reply_to: Option<Cow<'a, str>>,
    correlation_id: Option<Cow<'a, str>>,
    line: &'a [u8],
) -> Publication<'a> {
    let [specversion, id, source, kind, subject, time] = prefix.header_names();
    Publication {
        reply_to,
        routing_key: event.kind.clone(),
        message_id: event.id.clone(),
        correlation_id,
        content_type: "application/json",
        attributes: Some([
            (specversion, "1.0".into()),
            (id, event.id),
            (source, event.source),
            (kind, event.kind),
            (subject, event.subject),
            (time, event.time),
        ]),
        traceparent: event.traceparent,
        tracestate: event.tracestate,
        body: event.data.get().as_bytes().into(),
        lines: line.into(),
        events: 1,
        span: None,
    }
}

/// Returns events in the batch mode of CloudEvents: the lines of one type, unchanged, in one array. Each reply is a
/// message of its own, as it has its own queue.
fn batches<'a>(
    row: i64,
    lines: impl Iterator<Item = &'a [u8]>,
    encoding: Encoding,
) -> Result<Vec<Publication<'a>>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Kind<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
    }
    let mut out: Vec<Publication<'a>> = Vec::new();
    for line in lines {
        if is_reply(line) {
            out.push(single(line, encoding.header_prefix)?);
            continue;
        }
        let Kind { kind } = serde_json::from_slice(line)?;
        let open = out.iter().rposition(|batch| batch.reply_to.is_none() && batch.routing_key == kind);
        let place = match open {
            Some(place) if has_room(&out[place], line, encoding) => place,
            _ => {
                out.push(empty_batch(row, out.len(), kind));
                out.len() - 1
            }
        };
        append(&mut out[place], line);
    }
    for batch in out.iter_mut().filter(|publication| publication.reply_to.is_none()) {
        batch.body.to_mut().push(b']');
    }
    Ok(out)
}

/// Appends an event to a batch whose array is not closed yet.
fn append(batch: &mut Publication<'_>, line: &[u8]) {
    let body = batch.body.to_mut();
    body.push(if batch.events == 0 { b'[' } else { b',' });
    body.extend_from_slice(line.trim_ascii_end());
    batch.lines.to_mut().extend_from_slice(line);
    batch.events += 1;
}

/// Splits a batch in two. The halves have ids of their own, because an id stands for the same events each time.
pub(super) fn halves(batch: &Publication<'_>) -> [Publication<'static>; 2] {
    let lines: Vec<&[u8]> = batch.lines.split_inclusive(|byte| *byte == b'\n').collect();
    let (first, second) = lines.split_at(lines.len() / 2);
    [(0, first), (1, second)].map(|(number, lines)| {
        let mut half = empty_batch(0, 0, batch.routing_key.to_string().into());
        half.message_id = format!("{}.{number}", batch.message_id).into();
        lines.iter().for_each(|line| append(&mut half, line));
        half.body.to_mut().push(b']');
        half
    })
}

fn has_room(batch: &Publication<'_>, line: &[u8], encoding: Encoding) -> bool {
    (batch.events as usize) < encoding.batch_events && batch.body.len() + line.len() < encoding.batch_bytes
}

fn empty_batch(row: i64, number: usize, kind: Cow<'_, str>) -> Publication<'_> {
    Publication {
        reply_to: None,
        routing_key: kind,
        message_id: format!("outbox/{row}/{number}").into(),
        correlation_id: None,
        content_type: "application/cloudevents-batch+json",
        attributes: None,
        traceparent: None,
        tracestate: None,
        body: Cow::default(),
        lines: Cow::default(),
        events: 0,
        span: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SINGLE: Encoding = Encoding {
        format: EventFormat::Single,
        header_prefix: HeaderPrefix::Colon,
        batch_events: 500,
        batch_bytes: 1 << 20,
    };
    const BATCH: Encoding = Encoding { format: EventFormat::Batch, ..SINGLE };

    const EVENT: &str = r#"{"specversion":"1.0","id":"i/1","source":"s","type":"payment.settled","subject":"i","time":"t","datacontenttype":"application/json","traceparent":"tp","data":{"a":"\n"}}"#;

    #[test]
    fn lines_keep_their_feeds_and_empty_ones_are_left_out() {
        let of = |body: &'static str| lines(body.as_bytes()).collect::<Vec<_>>();
        assert_eq!(of("a\n\nb\nc"), [b"a\n".as_slice(), b"b\n", b"c"]);
        assert!(of("\n").is_empty() && of("").is_empty());
    }

    #[test]
    fn a_single_event_carries_its_attributes_as_headers_and_its_data_as_body() {
        let reply = format!(r#"{{"reply_to":"q","correlation_id":"c","event":{EVENT}}}"#);
        let body = format!("{EVENT}\n{reply}\n");
        let out = publications(1, body.as_bytes(), SINGLE).expect("readable");
        assert_eq!(out.len(), 2);
        assert_eq!(*out[0].body, *br#"{"a":"\n"}"#);
        assert_eq!(out[0].routing_key, "payment.settled");
        assert_eq!(out[0].correlation_id.as_deref(), Some("i"));
        assert_eq!(out[0].traceparent.as_deref(), Some("tp"));
        assert_eq!(*out[0].lines, *format!("{EVENT}\n").as_bytes());
        assert_eq!((out[1].reply_to.as_deref(), out[1].correlation_id.as_deref()), (Some("q"), Some("c")));
    }

    #[test]
    fn the_names_of_the_headers_begin_with_the_prefix_that_is_set() {
        use crate::settings::Choice;
        for (prefix, header_prefix) in HeaderPrefix::NAMES {
            let encoding = Encoding { header_prefix: *header_prefix, ..SINGLE };
            let out = publications(1, EVENT.as_bytes(), encoding).expect("readable");
            let attributes = out[0].attributes.as_ref().expect("attributes");
            let names = ["specversion", "id", "source", "type", "subject", "time"];
            assert!(attributes.iter().map(|(name, _)| *name).eq(names.map(|name| format!("{prefix}{name}"))));
            assert_eq!((&*attributes[1].1, &*attributes[2].1), ("i/1", "s"));
        }
    }

    #[test]
    fn a_batch_is_one_array_per_type_and_bounded() {
        let rejected = EVENT.replace("settled", "rejected");
        let body = format!("{EVENT}\n{rejected}\n{EVENT}\n{EVENT}\n");
        let out = publications(7, body.as_bytes(), Encoding { batch_events: 2, ..BATCH }).expect("readable");
        let shape: Vec<(&str, u32)> = out.iter().map(|batch| (&*batch.routing_key, batch.events)).collect();
        assert_eq!(shape, [("payment.settled", 2), ("payment.rejected", 1), ("payment.settled", 1)]);
        for batch in &out {
            let array: Vec<serde_json::Value> = serde_json::from_slice(&batch.body).expect("an array");
            assert_eq!(array.len(), batch.events as usize);
        }
        assert_ne!(out[0].message_id, out[2].message_id);
    }

    #[test]
    fn a_batch_of_long_events_is_no_longer_than_a_broker_takes() {
        let long = EVENT.replace(r"\n", &"x".repeat(64 << 10));
        let longest = EVENT.replace(r"\n", &"x".repeat(BATCH.batch_bytes));
        let body = format!("{}{longest}\n{long}\n", format!("{long}\n").repeat(500));
        let out = publications(7, body.as_bytes(), BATCH).expect("readable");
        assert_eq!(out.iter().map(|batch| batch.events).sum::<u32>(), 502);
        assert!(out.iter().all(|batch| batch.events == 1 || batch.body.len() <= BATCH.batch_bytes));
        // As many as fit, and what is too long for any batch is one of its own.
        let counts: Vec<u32> = out.iter().map(|batch| batch.events).collect();
        assert!(counts[..33].iter().all(|count| *count == 15) && counts[33..] == [5, 1, 1], "{counts:?}");
    }

    #[test]
    fn the_halves_of_a_batch_have_its_events_and_ids_of_their_own() {
        let body: String = (0..5).map(|n| EVENT.replace("i/1", &format!("i/{n}")) + "\n").collect();
        let out = publications(7, body.as_bytes(), BATCH).expect("readable");
        let [first, second] = halves(&out[0]);
        assert_eq!([&first.message_id, &second.message_id], ["outbox/7/0.0", "outbox/7/0.1"]);
        assert_eq!((first.events, second.events), (2, 3));
        assert_eq!([&first.lines[..], &second.lines[..]].concat(), body.as_bytes());
        let ids = |batch: &Publication<'_>| -> Vec<String> {
            let array: Vec<serde_json::Value> = serde_json::from_slice(&batch.body).expect("an array");
            array.iter().map(|event| event["id"].as_str().expect("an id").to_owned()).collect()
        };
        assert_eq!([ids(&first), ids(&second)].concat(), ["i/0", "i/1", "i/2", "i/3", "i/4"]);
    }

    #[test]
    fn a_line_that_is_no_event_is_an_error() {
        assert!(publications(1, b"{}\n", SINGLE).is_err());
        assert!(publications(1, b"nonsense\n", BATCH).is_err());
    }
}
