//! The seam to the broker that events are published to.
//!
//! A session is one connection with several channels in confirm mode, on which messages are published with `mandatory`.
//! RabbitMQ implements it, and a simulated broker in tests.

use std::future::Future;

use super::publication::Publication;
use crate::health::Outage;
use crate::labels::RefusalReason;

/// Opens connections to the broker, for publishing.
pub trait Sink: Send + Sync + 'static {
    /// The sessions that are opened.
    type Session: Session;

    /// Attempts once to connect.
    ///
    /// # Errors
    ///
    /// The reason, for operators, and whether the broker refuses access.
    fn open(&self) -> impl Future<Output = Result<Self::Session, Outage>> + Send;
}

/// A connection to publish on.
pub trait Session: Send + Sync + 'static {
    /// The channels of the session.
    type Channel: Channel;

    /// Returns the channels, which can be published on at the same time.
    fn channels(&self) -> &[Self::Channel];

    /// Replaces a channel that the broker has closed with `refusal`.
    fn reopen(&self, channel: &Self::Channel, refusal: &Refusal)
    -> impl Future<Output = Result<(), RelayError>> + Send;

    /// Calls `tell` with the reason when the broker blocks publishing, and with `None` when it no longer does. Returns
    /// when the session is lost, even while nothing is published, but not when one channel is closed.
    ///
    /// Changes count from this call on, not from the first poll.
    fn watch(&self, tell: impl Fn(Option<String>) + Send + Sync) -> impl Future<Output = RelayError> + Send;

    /// Closes the connection, without waiting long for a broker that does not answer.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// A channel in confirm mode.
pub trait Channel: Send + Sync + 'static {
    /// The confirm of one message.
    type Confirm: Future<Output = Result<Confirmation, RelayError>> + Send;

    /// Publishes `messages` in order, and appends a confirm for each. The confirms of messages that a closed channel
    /// did not accept return [`RelayError::Refused`].
    fn send_all(
        &self,
        messages: &[&Publication<'_>],
        confirms: &mut Vec<Self::Confirm>,
    ) -> impl Future<Output = Result<(), RelayError>> + Send;
}

/// The broker's confirm of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// True for `basic.ack`, false for `basic.nack`: a queue refused the message, or failed.
    pub taken: bool,
    /// The message id of a message that no queue is bound for (`basic.return`). It may be another one of the messages
    /// that were published together.
    pub returned: Option<String>,
}

/// The reply code and text with which the broker closed a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// AMQP's reply code, such as 403; 0 if it is not known.
    pub code: u16,
    /// The broker's text, such as `ACCESS_REFUSED - write access to exchange …`.
    pub text: String,
}

impl Refusal {
    const CONTENT_TOO_LARGE: u16 = 311;
    const ACCESS_REFUSED: u16 = 403;
    const NOT_FOUND: u16 = 404;
    const PRECONDITION_FAILED: u16 = 406;

    /// Whether the exchange does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code == Self::NOT_FOUND
    }

    /// Whether it concerns one message, which is too large, and not all messages with the same target.
    pub fn is_about_the_message(&self) -> bool {
        matches!(self.code, Self::CONTENT_TOO_LARGE | Self::PRECONDITION_FAILED)
    }

    /// Returns the label under which it is counted.
    pub const fn reason(&self) -> RefusalReason {
        match self.code {
            Self::ACCESS_REFUSED => RefusalReason::AccessRefused,
            Self::NOT_FOUND => RefusalReason::NotFound,
            Self::CONTENT_TOO_LARGE | Self::PRECONDITION_FAILED => RefusalReason::PreconditionFailed,
            _ => RefusalReason::Other,
        }
    }
}

/// Why a message was not published, or the session is lost.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The connection is lost, for the reason given.
    #[error("{0}")]
    Broker(String),
    /// The broker has closed the channel because of a message. The session goes on after [`Session::reopen`].
    #[error("{}", .0.text)]
    Refused(Refusal),
    /// The broker ended the connection with an internal error (541).
    #[error("{0}")]
    Internal(String),
    /// The channel is not in confirm mode, so that losses would go unnoticed.
    #[error("the broker sends no confirms")]
    NoConfirms,
}
