//! Which properties of a message may be passed on with its events.
//!
//! Publishers decide what is in them. A broker accepts some values from a publisher that it refuses from the daemon:
//! it would close the daemon's connection, and with it stop all other events.

use super::Properties;

/// The longest trace header that is passed on, in bytes. RabbitMQ limits all headers together to one frame, and an
/// event has more of them than its task. W3C asks for 512 characters.
pub const MAX_TRACE_BYTES: usize = 4096;

impl Properties {
    /// Removes a trace context that is too long. Cut off, it would name another trace; `tracestate` means nothing
    /// without it.
    pub(super) fn without_what_harms(mut self) -> Self {
        let is_too_long = |value: &mut compact_str::CompactString| value.len() > MAX_TRACE_BYTES;
        if self.traceparent.take_if(is_too_long).is_some() {
            self.tracestate = None;
        }
        self.tracestate.take_if(is_too_long);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_context_that_fits_into_no_header_is_left_out_whole() {
        let traced = |parent: usize, state: usize| {
            let text = |length| Some("x".repeat(length).into());
            let properties = Properties { traceparent: text(parent), tracestate: text(state), ..Properties::default() };
            let kept = properties.without_what_harms();
            (kept.traceparent.map(|text| text.len()), kept.tracestate.map(|text| text.len()))
        };
        assert_eq!(traced(55, MAX_TRACE_BYTES), (Some(55), Some(MAX_TRACE_BYTES)));
        assert_eq!(traced(55, MAX_TRACE_BYTES + 1), (Some(55), None));
        assert_eq!(traced(MAX_TRACE_BYTES + 1, 10), (None, None));
    }
}
