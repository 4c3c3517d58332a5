//! Events as messages of AMQP 1.0, the format of what is in a stream.
//!
//! RabbitMQ converts them for consumers of AMQP 0-9-1, who get the properties and headers that the events exchange
//! would have given them. The message type is an `x-basic-type`, where RabbitMQ itself puts it.

use settled_pipeline::outbox::Publication;

const DESCRIBED: u8 = 0x00;
const SMALL_ULONG: u8 = 0x53;
const NULL: u8 = 0x40;
const MESSAGE_ANNOTATIONS: u8 = 0x72;
const PROPERTIES: u8 = 0x73;
const APPLICATION_PROPERTIES: u8 = 0x74;
const DATA: u8 = 0x75;

/// The encodings of a kind of value with a length of one byte and of four.
#[derive(Clone, Copy)]
struct Kind(u8, u8);

const BINARY: Kind = Kind(0xa0, 0xb0);
const STRING: Kind = Kind(0xa1, 0xb1);
const SYMBOL: Kind = Kind(0xa3, 0xb3);
const LIST: u8 = 0xd0;
const MAP: u8 = 0xd1;

/// The longest text that a property of AMQP 0-9-1 can have. A longer correlation id is left out there, too.
const SHORT_STRING: usize = 255;

/// Where RabbitMQ keeps the type of a message of AMQP 0-9-1, which AMQP 1.0 does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TypeIn {
    /// Among the application properties: before version 3.13.
    ApplicationProperties,
    /// Among the annotations of the message.
    Annotations,
}

const TYPE: &str = "x-basic-type";

/// Appends the message of an event.
pub(super) fn put_message(out: &mut Vec<u8>, message: &Publication<'_>, type_in: TypeIn) {
    if type_in == TypeIn::Annotations {
        section(out, MESSAGE_ANNOTATIONS);
        compound(out, MAP, |out| {
            put(out, SYMBOL, TYPE.as_bytes());
            put(out, STRING, message.routing_key.as_bytes());
            2
        });
    }
    section(out, PROPERTIES);
    compound(out, LIST, |out| {
        put(out, STRING, message.id_on_the_wire().as_bytes());
        out.extend([NULL, NULL]); // user-id, to
        put(out, STRING, message.routing_key.as_bytes()); // subject
        out.push(NULL); // reply-to
        match message.correlation_id.as_deref().filter(|id| id.len() <= SHORT_STRING) {
            Some(id) => put(out, STRING, id.as_bytes()),
            None => out.push(NULL),
        }
        put(out, SYMBOL, message.content_type.as_bytes());
        7
    });
    put_application_properties(out, message, type_in);
    section(out, DATA);
    put(out, BINARY, &message.body);
}

fn put_application_properties(out: &mut Vec<u8>, message: &Publication<'_>, type_in: TypeIn) {
    let traces = [("traceparent", &message.traceparent), ("tracestate", &message.tracestate)];
    let traces = traces.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
    let attributes = message.attributes.iter().flatten().map(|(name, value)| (*name, &**value));
    let kind = (type_in == TypeIn::ApplicationProperties).then_some((TYPE, &*message.routing_key));
    section(out, APPLICATION_PROPERTIES);
    compound(out, MAP, |out| {
        let mut values = 0;
        for (name, value) in attributes.chain(traces).chain(kind) {
            put(out, STRING, name.as_bytes());
            put(out, STRING, value.as_bytes());
            values += 2;
        }
        values
    });
}

fn section(out: &mut Vec<u8>, code: u8) {
    out.extend([DESCRIBED, SMALL_ULONG, code]);
}

/// Appends bytes with their length.
fn put(out: &mut Vec<u8>, Kind(short, long): Kind, bytes: &[u8]) {
    match u8::try_from(bytes.len()) {
        Ok(length) => out.extend([short, length]),
        Err(_) => {
            out.push(long);
            out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

/// Appends a list or a map of as many values as `fill` returns.
fn compound(out: &mut Vec<u8>, code: u8, fill: impl FnOnce(&mut Vec<u8>) -> u32) {
    const WORD: usize = size_of::<u32>();
    out.push(code);
    let place = out.len();
    out.extend([0; 2 * WORD]);
    let count = fill(out);
    // The size counts the count, and not itself.
    let size = u32::try_from(out.len() - place - WORD).unwrap_or(u32::MAX);
    out[place..place + WORD].copy_from_slice(&size.to_be_bytes());
    out[place + WORD..place + 2 * WORD].copy_from_slice(&count.to_be_bytes());
}
