//! Tests of the codec: what is sent, and whatever may come.

use proptest::prelude::*;
use settled_pipeline::outbox::{Encoding, EventFormat, HeaderPrefix, Publication, publications};

use super::command::{PUBLISH, Request, heartbeat, tuned};
use super::frame::{Code, Frame, Known, code, known};
use super::message::TypeIn;
use super::partitions;
use super::publish::{Packed, pack};
use super::rehearsal::{Rehearsal, rehearse};
use super::wire::{Cursor, LARGEST, Malformed};

const SINGLE: Encoding =
    Encoding { format: EventFormat::Single, header_prefix: HeaderPrefix::Colon, batch_events: 1, batch_bytes: 1 };

fn frame(key: u16, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(4 + body.len()).unwrap().to_be_bytes();
    [&size[..], &key.to_be_bytes(), &[0, 1], body].concat()
}

fn string(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}

#[test]
fn commands_are_written_as_the_protocol_has_them() {
    let number = 0x0102_0304;
    let begin = [1, 2, 3, 4];
    let names = [string("ref"), string("log")].concat();
    for (request, key, body) in [
        (Request::PeerProperties(&[("a", "bc")]), 17, [&[0, 0, 0, 1][..], &string("a"), &string("bc")].concat()),
        (Request::SaslHandshake, 18, vec![]),
        (
            Request::SaslAuthenticate { mechanism: "PLAIN", response: b"\0u\0p" },
            19,
            [&string("PLAIN")[..], &[0, 0, 0, 4], b"\0u\0p"].concat(),
        ),
        (Request::Open { vhost: "/" }, 21, string("/")),
        (
            Request::Create { stream: "log", arguments: &[("max-age", "5s")] },
            13,
            [&string("log")[..], &[0, 0, 0, 1], &string("max-age"), &string("5s")].concat(),
        ),
        (Request::DeclarePublisher { publisher: 7, reference: "ref", stream: "log" }, 1, [&[7][..], &names].concat()),
        (Request::Partitions { super_stream: "log" }, 25, string("log")),
        (Request::QueryPublisherSequence { reference: "ref", stream: "log" }, 5, names.clone()),
        (Request::Metadata { stream: "log" }, 15, [&[0, 0, 0, 1][..], &string("log")].concat()),
        (Request::Close { reason: "done" }, 22, [&[0, 1][..], &string("done")].concat()),
    ] {
        assert_eq!(request.encode(number), frame(key, &[&begin[..], &body].concat()), "{request:?}");
    }
    assert_eq!(tuned(1, 2), frame(0x8014, &[0, 0, 0, 1, 0, 0, 0, 2]));
    assert_eq!(heartbeat(), frame(23, &[]));
}

#[test]
fn what_the_server_says_by_itself_is_understood() {
    let parse = |key, body: &[u8]| format!("{:?}", Frame::parse(&frame(key, body)[4..]).unwrap());
    let confirm = frame(3, &[&[0, 0, 0, 0, 2][..], &7_u64.to_be_bytes(), &9_u64.to_be_bytes()].concat());
    let Ok(Frame::Confirm(ids)) = Frame::parse(&confirm[4..]) else { panic!("a confirm") };
    assert_eq!(ids.iter().collect::<Vec<_>>(), [7, 9]);
    assert_eq!(parse(4, &[5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 16]), "Refusal(5, 1, ACCESS_REFUSED)");
    assert_eq!(parse(16, &[&[0, 6][..], &string("log")].concat()), r#"MetadataUpdate(STREAM_NOT_AVAILABLE, "log")"#);
    assert_eq!(parse(20, &[0, 16, 0, 0, 0, 0, 0, 60]), "Tune(1048576, 60)");
    assert_eq!(parse(23, &[]), "Heartbeat");
    assert_eq!(parse(22, &[&[0, 0, 0, 1, 0, 99][..], &string("bye")].concat()), r#"Close(response code 99, "bye")"#);
    assert_eq!(parse(26, &[1, 2, 3]), "Other(26)");
    assert_eq!(Frame::parse(&[0, 23, 0, 2]), Err(Malformed::Version(2)));
    assert_eq!(Frame::parse(&confirm[4..confirm.len() - 1]), Err(Malformed::Short));
}

#[test]
fn an_answer_about_a_stream_names_its_leader() {
    let nodes = [&[0, 0, 0, 2][..], &[0, 0], &string("a"), &[0, 0, 0x15, 0xb0], &[0, 1], &string("b"), &[0, 0, 0, 9]];
    let about = |code: u16, leader: u16| {
        let stream =
            [&[0, 0, 0, 1][..], &string("log"), &code.to_be_bytes(), &leader.to_be_bytes(), &[0, 0, 0, 1, 0, 1]];
        let body = [nodes.concat(), stream.concat()].concat();
        let (code, rest) = code_of(15, &body);
        assert_eq!(code, Code::OK);
        known(rest).unwrap()
    };
    fn code_of(key: u16, body: &[u8]) -> (Code, Cursor<'_>) {
        code(key, body).unwrap()
    }
    assert_eq!(about(1, 0), Known::Leader("a:5552".to_owned()));
    assert_eq!(about(1, 1), Known::Leader("b:9".to_owned()));
    assert_eq!(about(1, u16::MAX), Known::NoLeader);
    assert_eq!(about(6, u16::MAX), Known::NoLeader);
    assert_eq!(about(2, u16::MAX), Known::Nothing);
    assert_eq!(known(Cursor(&[0; 8])), Ok(Known::Nothing));
    assert_eq!(known(Cursor(&[0xff; 8])), Err(Malformed::Short));
}

#[test]
fn a_frame_of_another_protocol_is_refused_before_it_is_waited_for() {
    let said = rehearse([&b"AMQP\0\0\x09\x01"[..]]);
    assert!(said.violation.is_some_and(|violation| violation.contains("another server")), "{:?}", said.frames);
    let largest = u32::try_from(LARGEST).unwrap().to_be_bytes();
    assert_eq!(rehearse([&largest[..]]), Rehearsal::default());
}

/// Any frames, most of which are none that are understood.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let key = prop_oneof![0_u16..30, (0_u16..30).prop_map(|key| key | 1 << 15), any::<u16>()];
    let framed = (key, prop::collection::vec(prop_oneof![Just(0), 0..4_u8, any::<u8>()], 0..80));
    prop::collection::vec(framed.prop_map(|(key, body)| frame(key, &body)), 0..8).prop_map(|frames| frames.concat())
}

proptest! {
    #[test]
    fn whatever_the_server_says_is_read_alike_in_whatever_pieces_it_comes(
        said in prop_oneof![frames(), prop::collection::vec(any::<u8>(), 0..200)], size in 1..50_usize
    ) {
        prop_assert_eq!(rehearse(said.chunks(size)), rehearse([&said[..]]));
    }

    #[test]
    fn every_message_is_in_a_frame_or_left_out_and_no_frame_is_longer_than_its_limit(
        lengths in prop::collection::vec(0..3_000_usize, 1..40), limit in 1_000..6_000_usize, first_id in 0..1_000_u64,
        type_in in prop::sample::select(vec![TypeIn::Annotations, TypeIn::ApplicationProperties]),
        partitions in 1..5_usize,
    ) {
        let lines = lines(&lengths);
        let messages = publications(1, lines.as_bytes(), SINGLE).unwrap();
        let Packed { frames, left_out } = pack(first_id, &messages, partitions, (limit, type_in));
        let mut packed = vec![Vec::new(); partitions];
        for frame in &frames {
            prop_assert!(frame.len() <= limit, "{} bytes", frame.len());
            let (publisher, messages) = unpack(frame);
            packed[usize::from(publisher)].extend(messages);
        }
        let alone = |place: &usize| pack(0, &messages[*place..=*place], 1, (usize::MAX, type_in)).frames[0].len();
        let too_long: Vec<usize> = (0..messages.len()).filter(|place| alone(place) > limit).collect();
        prop_assert_eq!(&left_out, &too_long);
        let mut expected = vec![Vec::new(); partitions];
        for place in (0..messages.len()).filter(|place| !left_out.contains(place)) {
            let message = (first_id + place as u64, said(&messages[place], type_in));
            expected[partitions::place(&messages[place], partitions)].push(message);
        }
        prop_assert_eq!(packed, expected);
    }
}

fn lines(lengths: &[usize]) -> String {
    let line = |(n, length): (usize, &usize)| {
        let (long, trace) = ("x".repeat(*length), if n % 2 == 0 { r#""traceparent":"tp","# } else { "" });
        format!(
            r#"{{"id":"i/{n}","source":"s","type":"payment.settled","subject":"i-{long}","time":"t",{trace}"data":"{long}"}}"#
        ) + "\n"
    };
    lengths.iter().enumerate().map(line).collect()
}

/// What a message says: its sections, in their order, with all texts that they have.
fn said(message: &Publication<'_>, type_in: TypeIn) -> Vec<(u8, Vec<Option<String>>)> {
    let text = |text: &str| Some(text.to_owned());
    let kind = [text("x-basic-type"), text(&message.routing_key)];
    let correlation = message.correlation_id.as_deref().filter(|id| id.len() <= 255).map(ToOwned::to_owned);
    let properties = vec![
        text(&message.message_id),
        None,
        None,
        text(&message.routing_key),
        None,
        correlation,
        text("application/json"),
    ];
    let mut application: Vec<_> =
        message.attributes.iter().flatten().flat_map(|(name, value)| [text(name), text(value)]).collect();
    application.extend(message.traceparent.iter().flat_map(|value| [text("traceparent"), text(value)]));
    let body = vec![text(std::str::from_utf8(&message.body).unwrap())];
    let mut sections = vec![(0x73, properties), (0x74, application), (0x75, body)];
    match type_in {
        TypeIn::Annotations => sections.insert(0, (0x72, kind.to_vec())),
        TypeIn::ApplicationProperties => sections[1].1.extend(kind),
    }
    sections
}

type Message = (u64, Vec<(u8, Vec<Option<String>>)>);

/// Reads the publisher of a frame, and its messages.
fn unpack(frame: &[u8]) -> (u8, Vec<Message>) {
    let mut cursor = Cursor(frame);
    assert_eq!(cursor.u32().unwrap() as usize, frame.len() - 4);
    assert_eq!((cursor.u16().unwrap(), cursor.u16().unwrap()), (PUBLISH, 1));
    let publisher = cursor.u8().unwrap();
    let messages = cursor.list(|cursor| {
        let (id, length) = (cursor.u64()?, cursor.u32()? as usize);
        let (message, rest) = cursor.0.split_at(length);
        cursor.0 = rest;
        Ok((id, sections(message)))
    });
    assert!(cursor.0.is_empty());
    (publisher, messages.unwrap())
}

fn sections(message: &[u8]) -> Vec<(u8, Vec<Option<String>>)> {
    let (mut cursor, mut sections) = (Cursor(message), Vec::new());
    while !cursor.0.is_empty() {
        assert_eq!((cursor.u8().unwrap(), cursor.u8().unwrap()), (0x00, 0x53));
        let section = cursor.u8().unwrap();
        let mut values = Vec::new();
        match cursor.0[0] {
            0xd0 | 0xd1 => {
                cursor.u8().unwrap();
                let size = cursor.u32().unwrap() as usize;
                let after = cursor.0.len() - size;
                for _ in 0..cursor.u32().unwrap() {
                    values.push(value(&mut cursor));
                }
                assert_eq!(cursor.0.len(), after);
            }
            _ => values.push(value(&mut cursor)),
        }
        sections.push((section, values));
    }
    sections
}

fn value(cursor: &mut Cursor<'_>) -> Option<String> {
    let length = match cursor.u8().unwrap() {
        0x40 => return None,
        0xa0 | 0xa1 | 0xa3 => usize::from(cursor.u8().unwrap()),
        0xb0 | 0xb1 | 0xb3 => cursor.u32().unwrap() as usize,
        other => panic!("no value begins with {other:#x}"),
    };
    let (text, rest) = cursor.0.split_at(length);
    cursor.0 = rest;
    Some(std::str::from_utf8(text).unwrap().to_owned())
}
