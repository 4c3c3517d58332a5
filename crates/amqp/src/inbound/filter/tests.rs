//! Checks with lapin's own parser that it can read what the filter forwards.

use amq_protocol::frame::{AMQPFrame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic};
use aws_lc_rs::digest;
use proptest::prelude::*;
use settled_pipeline::budget::Budget;

use super::*;
use crate::inbound::rehearsal::{Rehearsed, rehearse};

const NO_LIMIT: usize = usize::MAX;

const LARGEST: usize = MAX_FRAME as usize;

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind][..], &channel.to_be_bytes(), &size, payload, &[FRAME_END]].concat()
}

fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// Returns the frames of a delivery: method, content header, and body frames of `split` bytes.
fn delivery(tag: u64, routing_key: &[u8], properties: &[u8], body: &[u8], split: usize) -> Vec<u8> {
    let deliver =
        [&DELIVER[..], &short(b"settled"), &tag.to_be_bytes(), &[0], &short(b"payments"), &short(routing_key)];
    let header = [&[0, 60, 0, 0][..], &(body.len() as u64).to_be_bytes(), properties];
    let mut sent = [frame(METHOD, 1, &deliver.concat()), frame(HEADER, 1, &header.concat())].concat();
    body.chunks(split).for_each(|part| sent.extend(frame(BODY, 1, part)));
    sent
}

/// Parses the frames as lapin does.
fn parsed(mut bytes: &[u8]) -> Vec<AMQPFrame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (rest, frame) = parse_frame(bytes).unwrap_or_else(|error| panic!("lapin can't read it: {error:?}"));
        assert!(bytes.len() - rest.len() <= LARGEST, "lapin refuses larger frames");
        frames.push(frame);
        bytes = rest;
    }
    frames
}

/// Returns tag, properties and body of each delivery that lapin would hand over.
fn received(forwarded: &[u8]) -> Vec<(u64, basic::AMQPProperties, Vec<u8>)> {
    let mut all = Vec::new();
    let (mut tag, mut left) = (0, 0);
    for frame in parsed(forwarded) {
        match frame {
            AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver))) => tag = deliver.delivery_tag,
            AMQPFrame::Header(1, header) => {
                left = header.body_size;
                all.push((tag, header.properties, Vec::new()));
            }
            AMQPFrame::Body(1, part) => {
                left = left.checked_sub(part.len() as u64).expect("no more than its header says");
                all.last_mut().expect("a header").2.extend(part);
            }
            AMQPFrame::Heartbeat => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(left, 0, "all of the last body");
    all
}

fn once(sent: &[u8]) -> Rehearsed {
    rehearse(NO_LIMIT, 1 << 20, [sent])
}

/// Returns the flags of the properties with these places in [`fields`].
fn flags(places: &[u16]) -> [u8; 2] {
    places.iter().fold(0u16, |flags, place| flags | 1 << (15 - place)).to_be_bytes()
}

#[test]
fn a_delivery_that_can_be_read_passes_byte_for_byte() {
    let table = long(&[&short(b"traceparent")[..], b"S", &long(b"\xff any bytes"), &short(b"n"), b"V"].concat());
    let properties = [&flags(&[0, 2, 3, 12])[..], &short(b"application/json"), &table, &[2], &short("Büro".as_bytes())];
    let body = vec![b'x'; MAX_BODY_BYTES];
    let sent = [delivery(7, b"task.transfer", &properties.concat(), &body, 4000), HEARTBEAT_FRAME.to_vec()].concat();
    let rehearsed = once(&sent);
    assert_eq!((rehearsed.forwarded, rehearsed.deliveries), (sent, vec![(7, None)]));
    assert!(rehearsed.used > 2 * MAX_BODY_BYTES);
}

#[test]
fn what_is_not_utf_8_is_overwritten_in_its_place_and_told() {
    let table = long(&[&short(b"na\xefve")[..], b"t", &[1]].concat());
    let properties = [&flags(&[2, 5, 6])[..], &table, &short(b"caf\xe9"), &short("Büro\u{fffd}".as_bytes())].concat();
    let rehearsed = once(&delivery(1, b"task\xff", &properties, b"{}", 10));
    let [(_, received, body)] = &received(&rehearsed.forwarded)[..] else { panic!("one delivery") };
    assert_eq!((received.correlation_id().as_ref().unwrap().as_str(), &body[..]), ("caf\0", &b"{}"[..]));
    assert_eq!(received.reply_to().as_ref().unwrap().as_str(), "Büro\u{fffd}");
    let Some(findings) = &rehearsed.deliveries[0].1 else { panic!("findings") };
    let told: Vec<_> = findings.flaws.iter().map(|flaw| (flaw.field, flaw.detail.as_str())).collect();
    let expected = [
        ("routing_key", r"`task\xff` is not UTF-8"),
        ("headers", r"the name `na\xefve` is not UTF-8"),
        ("correlation_id", r"`caf\xe9` is not UTF-8"),
    ];
    assert_eq!(told, expected);
}

#[test]
fn headers_of_another_structure_are_left_out_and_told() {
    let deep = (0..100).fold(vec![b'V'], |inner, _| [&b"A"[..], &long(&inner)].concat());
    let table = |entries: &[u8]| [&flags(&[2])[..], &long(entries)].concat();
    for (properties, told) in [
        (table(&[&short(b"a")[..], b"S", &[0, 0, 0, 9], b"short"].concat()), "length"),
        (table(&[&short(b"a")[..], b"?"].concat()), "unknown type: `"),
        (table(&[&short(b"a")[..], &deep].concat()), "too deeply"),
        (table(b"\x05a"), "length"),
        ([&flags(&[0])[..], &short(b"text"), b"and more"].concat(), "more bytes than the flags announce"),
        (vec![0, 1, 0, 0], "more bytes than the flags announce"),
        (vec![0xff, 0xfc], "length"),
    ] {
        let rehearsed = once(&delivery(3, b"task", &properties, b"body", 3));
        let received = received(&rehearsed.forwarded);
        assert_eq!(received, [(3, basic::AMQPProperties::default(), b"body".to_vec())]);
        let Some(findings) = &rehearsed.deliveries[0].1 else { panic!("findings") };
        assert!(findings.flaws[0].detail.contains(told), "{findings:?}, expected {told}");
    }
}

#[test]
fn headers_that_make_a_frame_too_large_are_left_out_and_the_other_properties_stay() {
    let properties = |size: usize| {
        let table = long(&[&short(b"large")[..], b"x", &long(&vec![1; size])].concat());
        [&flags(&[0, 2, 8])[..], &short(b"application/json"), &table, &short(b"the id")].concat()
    };
    let rehearsed = once(&delivery(1, b"task", &properties(LARGEST), b"{}", 10));
    let [(_, kept, _)] = &received(&rehearsed.forwarded)[..] else { panic!("one delivery") };
    assert_eq!(kept.message_id().as_ref().unwrap().as_str(), "the id");
    assert_eq!((kept.content_type().is_some(), kept.headers().is_none()), (true, true));
    assert_eq!(rehearsed.deliveries, [(1, None)], "it is a message as any other");

    let rehearsed =
        once(&[delivery(1, b"task", &properties(3 * LARGEST), b"{}", 10), HEARTBEAT_FRAME.to_vec()].concat());
    assert_eq!(received(&rehearsed.forwarded), [(1, basic::AMQPProperties::default(), b"{}".to_vec())]);
    let Some(findings) = &rehearsed.deliveries[0].1 else { panic!("findings") };
    assert!(findings.flaws[0].detail.contains("at most"), "{findings:?}");
}

#[test]
fn of_a_body_no_more_than_a_task_may_have_is_kept_and_all_of_it_is_hashed() {
    let body: Vec<u8> = (0..1_000_000u32).map(|number| (number % 251) as u8).collect();
    for size in [MAX_BODY_BYTES, MAX_BODY_BYTES + 1, MAX_BODY_BYTES + 2, 500_000, 1_000_000] {
        for split in [1 << 16, 131_064, 70_000] {
            let body = &body[..size];
            let sent = [delivery(1, b"a", &[0, 0], body, split), delivery(2, b"b", &[0, 0], b"next", 9)].concat();
            let rehearsed = once(&sent);
            let received = received(&rehearsed.forwarded);
            assert_eq!(received[1].2, b"next");
            let kept = &received[0].2;
            assert_eq!(kept.len(), size.min(MAX_BODY_BYTES + 1));
            assert_eq!((&kept[..MAX_BODY_BYTES], kept.last()), (&body[..MAX_BODY_BYTES], body.last()));
            let oversize = rehearsed.deliveries[0].1.clone().and_then(|findings| findings.oversize);
            let hash = digest::digest(&digest::SHA256, body);
            let expected = (size > MAX_BODY_BYTES).then(|| (size as u64, hash.as_ref().to_vec()));
            assert_eq!(oversize.map(|oversize| (oversize.size, oversize.sha256.to_vec())), expected);
        }
    }
}

#[test]
fn deliveries_wait_for_memory_and_what_is_no_delivery_before_them_passes() {
    let one = delivery(1, b"a", &[0, 0], &[b'x'; 10_000], 1000);
    let two = delivery(2, b"a", &[0, 0], b"", 1);
    let rehearsed = rehearse(10_000, 100, [&[&one[..], HEARTBEAT_FRAME, &two, HEARTBEAT_FRAME].concat()[..]]);
    assert!(rehearsed.is_paused);
    assert_eq!((rehearsed.forwarded, rehearsed.deliveries), ([&one[..], HEARTBEAT_FRAME].concat(), vec![(1, None)]));
    assert!(!rehearse(NO_LIMIT, 100, [&one[..], &two]).is_paused);
}

#[test]
fn a_header_weighs_what_it_becomes_and_not_what_it_is_on_the_wire() {
    let small = [&short(b"ab")[..], b"V"].concat().repeat(20_000);
    let rehearsed = once(&delivery(1, b"a", &[&flags(&[2])[..], &long(&small)].concat(), b"", 1));
    assert!(rehearsed.used > 3_000_000, "{}", rehearsed.used);
}

#[test]
fn a_closed_inbox_lets_everything_pass_but_deliveries() {
    let inbox = Inbox::new(Arc::new(Budget::new(0)));
    let mut filter = Filter::new(Arc::clone(&inbox), MAX_FRAME);
    let sent = [
        &delivery(1, b"a", &[0, 0], &[b'x'; 900], 100)[..],
        HEARTBEAT_FRAME,
        &delivery(2, b"a", &[0, 0], b"", 1),
        HEARTBEAT_FRAME,
    ];
    let sent = sent.concat();
    filter.space()[..sent.len()].copy_from_slice(&sent);
    filter.filled(sent.len());
    let mut out = [0; 100];
    assert_eq!(filter.pull(&mut out), Ok(Pulled::Paused));
    filter.insert_heartbeat();
    assert_eq!((filter.pull(&mut out[..3]), filter.pull(&mut out[3..])), (Ok(Pulled::Bytes(3)), Ok(Pulled::Bytes(5))));
    assert_eq!(&out[..8], HEARTBEAT_FRAME);
    inbox.close();
    assert_eq!(filter.pull(&mut out), Ok(Pulled::Bytes(16)));
    assert_eq!(out[..16], [HEARTBEAT_FRAME, HEARTBEAT_FRAME].concat());
    assert_eq!(inbox.take(1).tag, 0, "nobody is told of them");
}

#[test]
fn what_is_no_amqp_ends_the_connection_with_a_reason() {
    let header = |size: u64| frame(HEADER, 1, &[&[0, 60, 0, 0][..], &size.to_be_bytes(), &[0, 0]].concat());
    let deliver = delivery(1, b"a", &[0, 0], b"", 1);
    let deliver = &deliver[..deliver.len() - header(0).len()];
    for (sent, reason) in [
        (b"HTTP/1.1 400 Bad Request\r\n".to_vec(), "unknown type 72"),
        ([BODY, 0, 1, 0xff, 0, 0, 0].to_vec(), "a frame of 4278190088 bytes, after it agreed to at most 131072"),
        ([deliver, deliver].concat(), "inside another one"),
        ([deliver, &header(5), &frame(BODY, 1, b"more than five")].concat(), "more of a body on channel 1"),
        ([deliver, &header(5), &header(5)].concat(), "a second content header on channel 1"),
        ([deliver, &frame(HEADER, 1, b"short")].concat(), "a content header of 5 bytes"),
        (frame(METHOD, 1, &[&DELIVER[..], b"\x09short"].concat()), "`consumer_tag`"),
        (frame(METHOD, 1, &[&DELIVER[..], &[0; 4000]].concat()), "whose arguments have 4004 bytes"),
    ] {
        let violation = once(&sent).violation.expect("a violation");
        assert!(violation.contains(reason), "{violation}, expected {reason}");
    }
}

#[test]
fn the_limit_on_frames_is_the_one_that_the_broker_asks_for() {
    let tune = |most: u32| frame(METHOD, 0, &[&TUNE[..], &[0, 10], &most.to_be_bytes(), &[0, 60]].concat());
    let body = |size: usize| delivery(1, b"a", &[0, 0], &vec![0; size], size);
    for (asked, most) in [(0, LARGEST), (10_000, 10_000), (1, MIN_FRAME as usize), (u32::MAX, LARGEST)] {
        for (size, passes) in [(most - OVERHEAD, true), (most - OVERHEAD + 1, false)] {
            let sent = [tune(asked), body(size)].concat();
            assert_eq!(once(&sent).violation.is_none(), passes, "{size} bytes when {asked} is asked for");
        }
    }
}

#[test]
fn headers_are_left_out_of_a_frame_that_is_larger_than_the_uri_allows() {
    let inbox = Inbox::new(Arc::new(Budget::new(NO_LIMIT)));
    let mut filter = Filter::new(inbox, 5000);
    let table = long(&[&short(b"large")[..], b"x", &long(&[1; 6000])].concat());
    let sent = delivery(1, b"task", &[&flags(&[2, 8])[..], &table, &short(b"the id")].concat(), b"", 1);
    filter.space()[..sent.len()].copy_from_slice(&sent);
    filter.filled(sent.len());
    let mut out = vec![0; 10_000];
    let Ok(Pulled::Bytes(bytes)) = filter.pull(&mut out) else { panic!("a delivery") };
    let [(_, properties, _)] = &received(&out[..bytes])[..] else { panic!("one delivery") };
    assert_eq!((properties.headers().is_none(), properties.message_id().is_some()), (true, true));
}

/// Properties, most of them well-formed.
fn properties() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![
        3 => "[a-zé]{0,8}".prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..8),
    ];
    let entry = (text.clone(), any::<u8>(), proptest::collection::vec(any::<u8>(), 0..12));
    let entry = entry.prop_map(|(name, kind, value)| {
        let kind = b"tbBsUuIilLfdDSAFTxV?"[usize::from(kind) % 20];
        let value = if b"SAFx".contains(&kind) { long(&value) } else { value };
        [&short(&name)[..], &[kind], &value].concat()
    });
    let table = proptest::collection::vec(entry, 0..4).prop_map(|entries| long(&entries.concat()));
    let whole = (any::<u16>(), proptest::collection::vec(text, 14), table, any::<[u8; 8]>());
    let whole = whole.prop_map(|(chosen, texts, table, time)| {
        let mut bytes = (chosen & !0b11).to_be_bytes().to_vec();
        for (place, text) in texts.iter().enumerate().filter(|(place, _)| chosen & (1 << (15 - place)) != 0) {
            match place {
                2 => bytes.extend(&table),
                3 | 4 => bytes.push(time[0]),
                9 => bytes.extend(time),
                _ => bytes.extend(short(text)),
            }
        }
        bytes
    });
    prop_oneof![4 => whole, 1 => proptest::collection::vec(any::<u8>(), 2..40)]
}

proptest! {
    #[test]
    fn lapin_reads_every_delivery_in_whatever_pieces_it_comes(
        messages in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..6), properties(), prop_oneof![4 => 0usize..50, 1 => 65_500usize..70_000]),
            1..5,
        ),
        split in 1usize..5000,
        chunk in 1usize..3000,
        room in 1usize..3000,
    ) {
        let body = |size: usize| -> Vec<u8> { (0..size).map(|byte| byte as u8).collect() };
        let sent: Vec<u8> = (1u64..)
            .zip(&messages)
            .flat_map(|(tag, (key, properties, size))| delivery(tag, key, properties, &body(*size), split))
            .collect();
        let rehearsed = once(&sent);
        prop_assert_eq!(&rehearsed.violation, &None);
        let received = received(&rehearsed.forwarded);
        prop_assert_eq!(received.len(), messages.len());
        for (tag, ((received, (_, _, size)), (noted, _))) in (1..).zip(received.iter().zip(&messages).zip(&rehearsed.deliveries)) {
            prop_assert_eq!((received.0, *noted), (tag, tag));
            let (body, kept) = (body(*size), &received.2);
            prop_assert_eq!(kept.len(), (*size).min(MAX_BODY_BYTES + 1));
            let front = kept.len().min(MAX_BODY_BYTES);
            prop_assert_eq!((&kept[..front], kept.last()), (&body[..front], body.last()));
        }
        prop_assert_eq!(rehearse(NO_LIMIT, room, sent.chunks(chunk)), rehearsed);
    }

    #[test]
    fn any_bytes_come_to_the_same_in_whatever_pieces(
        bytes in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(2), Just(3), Just(60), Just(FRAME_END), any::<u8>()], 0..300),
        chunk in 1usize..50,
        room in 1usize..50,
    ) {
        let whole = rehearse(10_000, 1 << 16, [&bytes[..]]);
        prop_assert!(whole.forwarded.len() <= bytes.len() + OVERHEAD);
        prop_assert_eq!(rehearse(10_000, room, bytes.chunks(chunk)), whole);
    }
}
