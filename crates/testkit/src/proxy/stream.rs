//! Reads RabbitMQ's stream protocol: frames, and the confirms of the server.

use std::io;

use super::CutPoint;
use super::cutter::{Direction, Verdict, not_spoken};
use super::points::Points;

/// Length of the size of a frame, which does not count itself.
const SIZE: usize = 4;

/// Length of a size followed by the key and the version of a command.
const COMMAND: usize = SIZE + 4;

/// The longest frame. The broker proposes a sixteenth of it.
const LONGEST: u32 = 16 << 20;

/// Command 3 in version 1: publishing ids are confirmed.
const PUBLISH_CONFIRM: [u8; 4] = [0, 3, 0, 1];

/// One direction of a connection. Only the server's has cut points.
pub(super) struct StreamFrames<'p> {
    points: Option<&'p Points>,
}

impl<'p> StreamFrames<'p> {
    pub(super) const fn of_client() -> Self {
        Self { points: None }
    }

    pub(super) const fn of_server(points: &'p Points) -> Self {
        Self { points: Some(points) }
    }
}

impl Direction for StreamFrames<'_> {
    fn look(&self) -> usize {
        COMMAND
    }

    fn header(&self) -> usize {
        SIZE
    }

    fn length(&self, header: &[u8]) -> io::Result<u64> {
        match header.first_chunk().copied().map(u32::from_be_bytes) {
            Some(size @ ..=LONGEST) => Ok(SIZE as u64 + u64::from(size)),
            size => Err(not_spoken(format!("no frame of the stream protocol has the size {size:?}"))),
        }
    }

    fn judge(&mut self, head: &[u8]) -> io::Result<Verdict> {
        let Some(points) = self.points.filter(|_| head.get(SIZE..) == Some(&PUBLISH_CONFIRM)) else {
            return Ok(Verdict::Pass);
        };
        if points.take(CutPoint::BeforeStreamConfirm) {
            return Ok(Verdict::CutBefore(CutPoint::BeforeStreamConfirm));
        }
        let is_cut = points.take(CutPoint::AfterStreamConfirm);
        Ok(if is_cut { Verdict::CutAfter(CutPoint::AfterStreamConfirm) } else { Verdict::Pass })
    }
}
