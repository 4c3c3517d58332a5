//! What of a message's properties may be passed on with its outcome.
//!
//! Publishers decide what is in them. Some of it a broker takes from a publisher and not from the
//! daemon: it ends the connection on which it comes, and with it the events of everybody else.

use super::Properties;

/// The longest header that is passed on, in bytes. RabbitMQ takes no more than a frame of headers,
/// and an event has more of them than its task; W3C asks for 512 characters.
pub const MAX_TRACE_BYTES: usize = 4096;

impl Properties {
    /// The same without a trace context that is too long to be carried on. One without its end would
    /// be another one, and its state says nothing without it.
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
