//! The commands that are used of RabbitMQ's stream protocol, all in version 1: those that RabbitMQ 3.10 has, and
//! one that super streams need.

use super::wire::{begin, finish, put_map, put_string};

pub(super) const VERSION: u16 = 1;

/// The bit of a key that tells an answer from a command.
pub(super) const ANSWER: u16 = 1 << 15;

pub(super) const DECLARE_PUBLISHER: u16 = 1;
pub(super) const PUBLISH: u16 = 2;
pub(super) const PUBLISH_CONFIRM: u16 = 3;
pub(super) const PUBLISH_ERROR: u16 = 4;
pub(super) const QUERY_PUBLISHER_SEQUENCE: u16 = 5;
pub(super) const CREATE: u16 = 13;
pub(super) const METADATA: u16 = 15;
pub(super) const METADATA_UPDATE: u16 = 16;
pub(super) const PEER_PROPERTIES: u16 = 17;
pub(super) const SASL_HANDSHAKE: u16 = 18;
pub(super) const SASL_AUTHENTICATE: u16 = 19;
pub(super) const TUNE: u16 = 20;
pub(super) const OPEN: u16 = 21;
pub(super) const CLOSE: u16 = 22;
pub(super) const HEARTBEAT: u16 = 23;
pub(super) const PARTITIONS: u16 = 25;

/// A command that the server answers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Request<'a> {
    PeerProperties(&'a [(&'a str, &'a str)]),
    SaslHandshake,
    SaslAuthenticate {
        mechanism: &'a str,
        response: &'a [u8],
    },
    Open {
        vhost: &'a str,
    },
    Create {
        stream: &'a str,
        arguments: &'a [(&'a str, &'a str)],
    },
    DeclarePublisher {
        publisher: u8,
        reference: &'a str,
        stream: &'a str,
    },
    QueryPublisherSequence {
        reference: &'a str,
        stream: &'a str,
    },
    Metadata {
        stream: &'a str,
    },
    /// RabbitMQ 3.10 ends the connection at this one.
    Partitions {
        super_stream: &'a str,
    },
    Close {
        reason: &'a str,
    },
}

impl Request<'_> {
    pub(super) const fn key(self) -> u16 {
        match self {
            Self::PeerProperties(_) => PEER_PROPERTIES,
            Self::SaslHandshake => SASL_HANDSHAKE,
            Self::SaslAuthenticate { .. } => SASL_AUTHENTICATE,
            Self::Open { .. } => OPEN,
            Self::Create { .. } => CREATE,
            Self::DeclarePublisher { .. } => DECLARE_PUBLISHER,
            Self::QueryPublisherSequence { .. } => QUERY_PUBLISHER_SEQUENCE,
            Self::Metadata { .. } => METADATA,
            Self::Partitions { .. } => PARTITIONS,
            Self::Close { .. } => CLOSE,
        }
    }

    /// Returns the frame whose answer has the same `correlation`.
    pub(super) fn encode(self, correlation: u32) -> Vec<u8> {
        const OK: u16 = 1;
        let mut frame = begin(self.key());
        frame.extend(correlation.to_be_bytes());
        match self {
            Self::PeerProperties(pairs) => put_map(&mut frame, pairs),
            Self::SaslHandshake => {}
            Self::SaslAuthenticate { mechanism, response } => {
                put_string(&mut frame, mechanism);
                // A response without content, as of EXTERNAL, is empty and not null: RabbitMQ waits for more otherwise.
                frame.extend(u32::try_from(response.len()).unwrap_or_default().to_be_bytes());
                frame.extend_from_slice(response);
            }
            Self::Open { vhost } => put_string(&mut frame, vhost),
            Self::Create { stream, arguments } => {
                put_string(&mut frame, stream);
                put_map(&mut frame, arguments);
            }
            Self::DeclarePublisher { publisher, reference, stream } => {
                frame.push(publisher);
                put_string(&mut frame, reference);
                put_string(&mut frame, stream);
            }
            Self::QueryPublisherSequence { reference, stream } => {
                put_string(&mut frame, reference);
                put_string(&mut frame, stream);
            }
            Self::Metadata { stream } => {
                frame.extend(1_u32.to_be_bytes());
                put_string(&mut frame, stream);
            }
            Self::Partitions { super_stream } => put_string(&mut frame, super_stream),
            Self::Close { reason } => {
                frame.extend(OK.to_be_bytes());
                put_string(&mut frame, reason);
            }
        }
        finish(frame)
    }
}

/// Returns the answer to the server's [`TUNE`], the one command of the handshake that the server sends.
pub(super) fn tuned(frame_max: u32, heartbeat: u32) -> Vec<u8> {
    let mut frame = begin(TUNE | ANSWER);
    frame.extend(frame_max.to_be_bytes());
    frame.extend(heartbeat.to_be_bytes());
    finish(frame)
}

/// Returns the frame that says no more than that this side is alive.
pub(super) fn heartbeat() -> Vec<u8> {
    finish(begin(HEARTBEAT))
}
