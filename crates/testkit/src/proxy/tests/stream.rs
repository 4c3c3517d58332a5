//! Tests of the proxy with frames of RabbitMQ's stream protocol.

use proptest::prelude::*;

use super::{fed, sizes};
use crate::proxy::CutPoint::{AfterStreamConfirm, BeforeStreamConfirm};
use crate::proxy::Side::{Client, Server};
use crate::proxy::{Protocol, rehearse};

fn frame(key: u16, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(4 + body.len()).unwrap().to_be_bytes();
    [&size[..], &key.to_be_bytes(), &[0, 1], body].concat()
}

fn confirm() -> Vec<u8> {
    frame(3, &[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7])
}

/// Generates frames that are no confirms, among them some that contain one, and heartbeats.
fn others() -> impl Strategy<Value = Vec<u8>> {
    let body = prop::collection::vec(any::<u8>(), 0..1500);
    let any_frame = (any::<u16>(), body).prop_map(|(key, body)| frame(if key == 3 { 2 } else { key }, &body));
    let frames = prop_oneof![any_frame, Just(frame(2, &confirm())), Just(frame(23, &[])), Just(vec![0; 4])];
    prop::collection::vec(frames, 0..12).prop_map(|frames| frames.concat())
}

proptest! {
    #[test]
    fn a_confirm_is_cut_before_its_first_byte_or_after_its_last_and_every_other_byte_passes(
        before in others(), after in others(), sizes in sizes()
    ) {
        let through = [&before[..], &confirm()].concat();
        let bytes = [&through[..], &after].concat();
        let both = [BeforeStreamConfirm, AfterStreamConfirm];
        prop_assert_eq!(fed(Protocol::Stream, Client, &both, &bytes, &sizes), (bytes.clone(), None));
        prop_assert_eq!(fed(Protocol::Stream, Server, &[], &bytes, &sizes), (bytes.clone(), None));
        for (point, expected) in [(BeforeStreamConfirm, &before), (AfterStreamConfirm, &through)] {
            let cut = fed(Protocol::Stream, Server, &[point], &bytes, &sizes);
            prop_assert_eq!(cut, (expected.clone(), Some(point)));
        }
    }
}

#[test]
fn what_is_no_frame_is_refused() {
    assert!(rehearse(Protocol::Stream, &[], [(Server, &b"AMQP\x00\x00\x09\x01"[..])]).is_refused);
}
