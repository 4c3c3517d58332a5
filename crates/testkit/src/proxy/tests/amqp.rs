//! Tests of the proxy with AMQP frames.

use proptest::prelude::*;

use super::{fed, sizes};
use crate::proxy::CutPoint::{AfterAck, BeforeAck, BeforeConfirm};
use crate::proxy::Side::{Client, Server};
use crate::proxy::{Protocol, rehearse};

const GREETING: &[u8] = b"AMQP\x00\x00\x09\x01";

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, 0, 1][..], &size, payload, &[0xCE]].concat()
}

fn method(class: u8, method: u8, arguments: &[u8]) -> Vec<u8> {
    frame(1, &[&[0, class, 0, method], arguments].concat())
}

fn ack() -> Vec<u8> {
    method(60, 80, &[0, 0, 0, 0, 0, 0, 0, 7, 1])
}

/// Returns a content body that contains the bytes of an ack.
fn body_that_looks_like_an_ack() -> Vec<u8> {
    frame(3, &ack())
}

fn frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let payload = || prop::collection::vec(any::<u8>(), 0..1500);
    let any_frame =
        (prop::sample::select(vec![1_u8, 2, 3, 8]), payload()).prop_map(|(kind, bytes)| frame(kind, &bytes));
    prop::collection::vec(prop_oneof![any_frame, Just(ack()), Just(body_that_looks_like_an_ack())], 0..12)
}

/// Generates frames that are not acks.
fn other_frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
    frames().prop_map(|frames| frames.into_iter().filter(|frame| frame.get(7..11) != Some(&[0, 60, 0, 80])).collect())
}

proptest! {
    #[test]
    fn every_byte_passes_unchanged_however_it_comes(frames in frames(), sizes in sizes()) {
        let bytes = [GREETING, &frames.concat()].concat();
        // The points of the other side, which its own frames must not reach.
        for (side, armed) in [(Client, &[BeforeConfirm][..]), (Server, &[BeforeAck, AfterAck])] {
            prop_assert_eq!(fed(Protocol::Amqp, side, armed, &bytes, &sizes), (bytes.clone(), None));
        }
    }

    #[test]
    fn an_ack_is_cut_before_its_first_byte_or_after_its_last(
        before in other_frames(), after in frames(), sizes in sizes()
    ) {
        let before = [GREETING, &before.concat()].concat();
        let bytes = [&before[..], &ack(), &after.concat()].concat();
        let through = [&before[..], &ack()].concat();
        let cuts = [(Client, BeforeAck, &before), (Client, AfterAck, &through), (Server, BeforeConfirm, &before)];
        for (side, point, expected) in cuts {
            let cut = fed(Protocol::Amqp, side, &[point], &bytes, &sizes);
            prop_assert_eq!(cut, (expected.clone(), Some(point)));
        }
    }
}

#[test]
fn what_is_no_frame_is_refused() {
    for bytes in [&b"HTTP/1.1 400 Bad Request"[..], &[9, 0, 0, 0, 0, 0, 0]] {
        assert!(rehearse(Protocol::Amqp, &[], [(Server, bytes)]).is_refused, "{bytes:?}");
    }
}
