//! The seam to the broker that events go to: a session is one connection with some channels,
//! each of which publishes with `mandatory` and with confirms.
//!
//! Two sides fit it: [`super::rabbitmq`], and the simulated broker of the tests.

use std::future::Future;

use super::publication::Publication;
use super::refusals::Refusal;

/// Where sessions come from.
pub trait Sink: Send + Sync + 'static {
    /// What is opened.
    type Session: Session;

    /// One attempt to connect. The error is for people.
    fn open(&self) -> impl Future<Output = Result<Self::Session, String>> + Send;
}

/// A connection to publish on.
pub trait Session: Send + Sync + 'static {
    /// What is published on.
    type Channel: Channel;

    /// Its channels.
    fn channels(&self) -> &[Self::Channel];

    /// Opens a channel anew that the broker has closed with `refusal`.
    fn reopen(&self, channel: &Self::Channel, refusal: &Refusal)
    -> impl Future<Output = Result<(), RelayError>> + Send;

    /// Tells when the broker blocks publishing, why, and when it takes events again (`None`). Ends
    /// when the session is lost, though nothing is being published; not when a channel is closed.
    /// From this call on, not from the first poll.
    fn watch(&self, tell: impl Fn(Option<String>) + Send + Sync) -> impl Future<Output = RelayError> + Send;

    /// Says goodbye; a broker that doesn't answer is not waited for.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// One of its channels.
pub trait Channel: Send + Sync + 'static {
    /// What comes of a message in time.
    type Confirm: Future<Output = Result<Confirmation, RelayError>> + Send;

    /// Publishes `messages` in order, and adds a confirm to come for each; for those that a closed
    /// channel doesn't take, one that says so.
    fn send_all(
        &self,
        messages: &[&Publication<'_>],
        confirms: &mut Vec<Self::Confirm>,
    ) -> impl Future<Output = Result<(), RelayError>> + Send;
}

/// The broker's word on a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// Whether every queue that it was routed to has it; `false` if one refused or failed.
    pub taken: bool,
    /// The id on the wire of a message that no queue is bound for: this one, or another one of
    /// those that were published with it.
    pub returned: Option<String>,
}

/// Why a session ends.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The broker's own.
    #[error("{0}")]
    Broker(String),
    /// The broker has closed the channel because of a message: [`Session::reopen`] it.
    #[error("{}", .0.text)]
    Refused(Refusal),
    /// The broker has failed at what it was sent.
    #[error("{0}")]
    Internal(String),
    /// Nothing is known of what becomes of messages.
    #[error("the broker sends no confirms")]
    NoConfirms,
}
