//! Decides what is done with each kind of frame.

use std::sync::Arc;

use aws_lc_rs::digest;
use settled_core::contract::{Findings, Flaw};

use super::{
    BODY, Content, DELIVER, DELIVERY, Excess, FRAME_END, Filter, HEAD, HEADER, HEARTBEAT, MAX_DELIVER, MAX_HEADER,
    MAX_KEPT, METHOD, MIN_FRAME, OVERHEAD, PROTOCOL_HEADER, Pulled, Step, TUNE, Violation,
};
use crate::inbound::fields::{self, ContentHeader, FIXED};
use crate::inbound::inbox::Note;

impl Filter {
    /// Decides what is done with the frame at the start of the buffer. Returns what has to happen before it can be
    /// decided, or `None` once it is.
    pub(super) fn next_frame(&mut self) -> Result<Option<Pulled>, Violation> {
        let Some(head) = self.peek(HEAD) else { return Ok(Some(Pulled::NeedsInput)) };
        let (kind, channel) = (head[0], u16::from_be_bytes([head[1], head[2]]));
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        if kind == PROTOCOL_HEADER.0 {
            self.push(PROTOCOL_HEADER.1, true);
            return Ok(None);
        }
        if [METHOD, BODY, HEARTBEAT].contains(&kind) && size + OVERHEAD > self.frame_max {
            let (size, most) = (size + OVERHEAD, self.frame_max);
            return Err(Violation(format!("a frame of {size} bytes, after it agreed to at most {most}")));
        }
        match kind {
            METHOD => self.method(channel, size),
            HEADER => self.header(channel, size),
            BODY => self.body(channel, size),
            HEARTBEAT => Ok(self.push(size + OVERHEAD, true)),
            kind => Err(Violation(format!("a frame of the unknown type {kind}"))),
        }
    }

    /// Returns the first bytes of the buffer once they are there.
    fn peek(&mut self, bytes: usize) -> Option<&mut [u8]> {
        self.needed = bytes;
        self.buffer[self.start..self.end].get_mut(..bytes)
    }

    /// Adds a step, if it has any bytes. Returns `None`, for [`Self::next_frame`] to return.
    fn push(&mut self, left: usize, is_passed: bool) -> Option<Pulled> {
        if left > 0 {
            self.steps.push_back(Step { left, is_passed, hashed: None });
        }
        None
    }

    fn content(&mut self, channel: u16) -> Option<(usize, &mut Content)> {
        self.contents.iter_mut().enumerate().find(|(_, content)| content.channel == channel)
    }

    fn method(&mut self, channel: u16, size: usize) -> Result<Option<Pulled>, Violation> {
        let numbers = DELIVER.len().min(size);
        let Some(frame) = self.peek(HEAD + numbers) else { return Ok(Some(Pulled::NeedsInput)) };
        let (is_delivery, is_tune) = (frame[HEAD..] == DELIVER, frame[HEAD..] == TUNE);
        if is_delivery {
            return self.deliver(channel, size);
        }
        if is_tune {
            let Some(frame) = self.peek(HEAD + size) else { return Ok(Some(Pulled::NeedsInput)) };
            // After class, method and the largest channel. Zero is no limit.
            if let Some([a, b, c, d]) = frame.get(HEAD + 6..HEAD + 10) {
                let asked = u32::from_be_bytes([*a, *b, *c, *d]);
                let most = if asked == 0 { self.most } else { asked.clamp(MIN_FRAME, self.most) };
                self.frame_max = most as usize;
            }
        }
        Ok(self.push(size + OVERHEAD, true))
    }

    fn deliver(&mut self, channel: u16, size: usize) -> Result<Option<Pulled>, Violation> {
        let is_dropped = self.inbox.is_closed();
        if !is_dropped && self.inbox.budget().is_exhausted() {
            return Ok(Some(Pulled::Paused));
        }
        if size > MAX_DELIVER {
            return Err(Violation(format!("a delivery whose arguments have {size} bytes")));
        }
        let Some(frame) = self.peek(HEAD + size) else { return Ok(Some(Pulled::NeedsInput)) };
        let (tag, flaws) = fields::deliver(&mut frame[HEAD..])
            .map_err(|flaw| Violation(format!("a delivery with `{}`: {}", flaw.field, flaw.detail)))?;
        if self.content(channel).is_some() {
            return Err(Violation(format!("a delivery on channel {channel} inside another one")));
        }
        self.contents.push(Content { channel, tag, flaws, is_dropped, has_header: false, left: 0, excess: None });
        Ok(self.push(size + OVERHEAD, !is_dropped))
    }

    fn header(&mut self, channel: u16, size: usize) -> Result<Option<Pulled>, Violation> {
        if size < FIXED {
            return Err(Violation(format!("a content header of {size} bytes")));
        }
        let content = self.content(channel).map(|(_, content)| (content.is_dropped, content.has_header));
        if content.is_some_and(|(_, has_header)| has_header) {
            return Err(Violation(format!("a second content header on channel {channel}")));
        }
        let is_dropped = content.is_some_and(|(is_dropped, _)| is_dropped);
        let is_read = !is_dropped && size + OVERHEAD <= MAX_HEADER;
        let Some(frame) = self.peek(if is_read { size + OVERHEAD } else { HEAD + FIXED + 1 }) else {
            return Ok(Some(Pulled::NeedsInput));
        };
        let payload = &mut frame[HEAD..];
        let body = fields::body_size(payload);
        if is_dropped {
            self.push(size + OVERHEAD, false);
            self.expect(channel, body, None, ContentHeader::default());
            return Ok(None);
        }
        if content.is_some() {
            fields::set_body_size(payload, body.min(MAX_KEPT));
        }
        let header = if is_read { self.read_header(size) } else { self.replace_header(size) };
        self.expect(channel, body, Some(body.min(MAX_KEPT)), header);
        Ok(None)
    }

    /// Rewrites a content header that is in the buffer as a whole, so that lapin can read it.
    fn read_header(&mut self, size: usize) -> ContentHeader {
        let is_large = size + OVERHEAD > self.frame_max;
        let frame = &mut self.buffer[self.start..self.start + HEAD + size];
        let payload = &mut frame[HEAD..];
        let (header, moved) = match ContentHeader::read(payload) {
            // The broker has added to the publisher's headers, and lapin refuses frames above the negotiated size.
            Ok(header) if is_large => {
                let moved = header.without_headers(payload);
                (header, moved)
            }
            Ok(header) => (header, 0),
            Err(flaw) => (ContentHeader::of(flaw), fields::strip(payload)),
        };
        if moved > 0 {
            frame.copy_within(..HEAD, moved);
            set_size(&mut frame[moved..], size - moved);
            self.start += moved;
        }
        self.push(size - moved + OVERHEAD, true);
        header
    }

    /// Replaces a content header that is too large to be read by an empty one.
    fn replace_header(&mut self, size: usize) -> ContentHeader {
        let frame = &mut self.buffer[self.start..];
        set_size(frame, FIXED);
        fields::strip(&mut frame[HEAD..HEAD + FIXED]);
        frame[HEAD + FIXED] = FRAME_END;
        self.push(FIXED + OVERHEAD, true);
        self.push(size - FIXED, false);
        let what = format!("the content header has {size} bytes, at most {} are read", MAX_HEADER - OVERHEAD);
        ContentHeader::of(Flaw::new("headers", &what, &[]))
    }

    /// Notes that a content header has come, and that `body` bytes follow. lapin gets `kept` of them; `None` if the
    /// delivery is dropped.
    fn expect(&mut self, channel: u16, body: u64, kept: Option<u64>, header: ContentHeader) {
        let inbox = Arc::clone(&self.inbox);
        let Some((place, content)) = self.content(channel) else { return };
        (content.has_header, content.left) = (true, body);
        if let Some(kept) = kept {
            // The body is held twice: as bytes, and decoded.
            let held = inbox.budget().hold(DELIVERY + 2 * kept as usize + header.weight);
            content.flaws.extend(header.flaws);
            let flaws = std::mem::take(&mut content.flaws);
            let findings = (!flaws.is_empty()).then(|| Box::new(Findings { flaws, oversize: None }));
            let note = Note { tag: content.tag, held, findings };
            if body >= MAX_KEPT {
                let hash = digest::Context::new(&digest::SHA256);
                content.excess = Some(Box::new(Excess { front: kept - 1, unseen: body, size: body, hash, note }));
            } else {
                inbox.push(note);
            }
        }
        if body == 0 {
            self.contents.swap_remove(place);
        }
    }

    fn body(&mut self, channel: u16, size: usize) -> Result<Option<Pulled>, Violation> {
        // lapin ends the connection over a body frame without a delivery.
        let Some((place, content)) = self.content(channel) else { return Ok(self.push(size + OVERHEAD, true)) };
        if !content.has_header || size as u64 > content.left {
            return Err(Violation(format!("more of a body on channel {channel} than its header says")));
        }
        content.left -= size as u64;
        let is_passed = !content.is_dropped;
        if let Some(excess) = &mut content.excess {
            let last = usize::from(content.left == 0);
            // The cast is lossless: it is no more than the size of a frame.
            let front = excess.front.min((size - last) as u64) as usize;
            excess.front -= front as u64;
            self.cut_body(channel, size, front, last);
            return Ok(None);
        }
        if content.left == 0 {
            self.contents.swap_remove(place);
        }
        Ok(self.push(size + OVERHEAD, is_passed))
    }

    /// Cuts a body frame of an oversize body to its first `front` and last `last` bytes. The bytes between are hashed
    /// only.
    fn cut_body(&mut self, channel: u16, size: usize, front: usize, last: usize) {
        let is_passed = front + last > 0;
        set_size(&mut self.buffer[self.start..], front + last);
        self.push(HEAD, is_passed);
        let middle = size - front - last;
        for (left, is_passed) in
            [(front, true), (middle, false), (last, true)].into_iter().filter(|(left, _)| *left > 0)
        {
            self.steps.push_back(Step { left, is_passed, hashed: Some(channel) });
        }
        self.push(1, is_passed);
    }
}

/// Writes the size into the head of a frame.
fn set_size(frame: &mut [u8], size: usize) {
    // The size was read from four bytes, and has only become smaller.
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    frame[3..HEAD].copy_from_slice(&size.to_be_bytes());
}
