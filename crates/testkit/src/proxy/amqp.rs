//! Reads AMQP 0-9-1: frames, and `basic.ack` in both directions.

use std::io;

use super::CutPoint;
use super::cutter::{Direction, Verdict, not_spoken};
use super::points::Points;

/// Length of a frame header: type, channel and size.
const HEADER: usize = 7;

/// Length of a header followed by the class and method numbers of a method frame.
const METHOD: usize = HEADER + 4;

/// Type of a frame that carries a method.
const METHOD_FRAME: u8 = 1;

/// All frame types: method, content header, content body, heartbeat.
const FRAMES: [u8; 4] = [METHOD_FRAME, 2, 3, 8];

/// First byte and length of the protocol header, which starts a connection. A server that wants another version
/// replies with it and closes the connection.
const GREETING: (u8, u64) = (b'A', b"AMQP\x00\x00\x09\x01".len() as u64);

/// Class 60, method 80: an acknowledgement when sent by the client, a confirm when sent by the server.
const BASIC_ACK: [u8; 4] = [0, 60, 0, 80];

/// One direction of a connection, with the cut points of its sender.
pub(super) struct Frames<'p> {
    points: &'p Points,
    before: CutPoint,
    after: Option<CutPoint>,
}

impl<'p> Frames<'p> {
    pub(super) const fn of_client(points: &'p Points) -> Self {
        Self { points, before: CutPoint::BeforeAck, after: Some(CutPoint::AfterAck) }
    }

    pub(super) const fn of_server(points: &'p Points) -> Self {
        Self { points, before: CutPoint::BeforeConfirm, after: None }
    }
}

impl Direction for Frames<'_> {
    fn look(&self) -> usize {
        METHOD
    }

    fn header(&self) -> usize {
        HEADER
    }

    fn length(&self, header: &[u8]) -> io::Result<u64> {
        match *header {
            [kind, ..] if kind == GREETING.0 => Ok(GREETING.1),
            // The payload is followed by one byte, the end of the frame.
            [kind, _, _, a, b, c, d] if FRAMES.contains(&kind) => {
                Ok(HEADER as u64 + u64::from(u32::from_be_bytes([a, b, c, d])) + 1)
            }
            _ => Err(not_spoken("this is no frame of AMQP 0-9-1")),
        }
    }

    fn judge(&mut self, head: &[u8]) -> io::Result<Verdict> {
        if head.first() != Some(&METHOD_FRAME) || head.get(HEADER..) != Some(&BASIC_ACK) {
            return Ok(Verdict::Pass);
        }
        if self.points.take(self.before) {
            return Ok(Verdict::CutBefore(self.before));
        }
        let after = self.after.filter(|point| self.points.take(*point));
        Ok(after.map_or(Verdict::Pass, Verdict::CutAfter))
    }
}
