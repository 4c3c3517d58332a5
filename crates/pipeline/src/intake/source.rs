//! Interface to the broker that tasks come from. A session is one connection with one consumer; its delivery tags are
//! valid only in that session.
//!
//! It is implemented for RabbitMQ and, in the tests, by a simulated broker.

use std::future::Future;

use super::ack_window::Ack;
use crate::budget::Held;
use settled_core::contract::Message;

use crate::store::Proof;

/// Opens consuming sessions.
pub trait Source: Send + Sync + 'static {
    /// The type of session that is opened.
    type Session: Session;

    /// Makes one attempt to consume, with at most `prefetch` unacknowledged deliveries.
    fn open(&self, prefetch: u16) -> impl Future<Output = Result<Self::Session, OpenError>> + Send;
}

/// A consumer on a connection of its own.
pub trait Session: Send + 'static {
    /// Sends acknowledgements for the deliveries of this session.
    type Acks: Acks;

    /// Returns the sender of acknowledgements for this session.
    fn acks(&self) -> Self::Acks;

    /// Waits for the next delivery, or for the loss of the session.
    fn next(&mut self) -> impl Future<Output = Next> + Send;

    /// Cancels the consumer and waits, for a limited time, for the broker's reply. Outstanding deliveries can still
    /// be acknowledged.
    fn cancel(&mut self) -> impl Future<Output = ()> + Send;

    /// Closes the connection, without waiting for a broker that doesn't respond.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// Sends acknowledgements.
pub trait Acks: Clone + Send + Sync + 'static {
    /// Sends one acknowledgement. After an error the session is lost, and unacknowledged messages are redelivered.
    fn send(&self, ack: Ack) -> impl Future<Output = Result<(), SessionError>> + Send;
}

/// What a consumer received.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are deliveries, and none is kept")]
pub enum Next {
    /// A message, its tag in this session, and the memory it holds.
    Delivery(u64, Message, Held),
    /// The connection, the channel or the consumer was closed, for this reason.
    Lost(String),
}

/// Why no session could be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The queue doesn't exist and the daemon must not declare it. Retrying won't help.
    #[error("{0}")]
    NoQueue(String),
    /// The broker is unavailable.
    #[error("{0}")]
    Unavailable(String),
    /// The broker refuses the connection, such as for a wrong password.
    #[error("{0}")]
    Refused(String),
    /// The user lacks permissions without which no task can be taken.
    #[error("{0}")]
    Forbidden(String),
}

/// Why an acknowledgement could not be sent. The session is lost.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SessionError(pub String);

/// The queue to which the broker dead-letters messages.
pub trait DeadLetterSource: Send + Sync + 'static {
    /// The type of session that is opened.
    type Session: DeadLetterSession;

    /// Returns the name of the queue.
    fn name(&self) -> &str;

    /// Connects and starts to consume. Returns the session and the number of messages in the queue.
    fn open(&self) -> impl Future<Output = Result<(Self::Session, u32), DeadQueueError>> + Send;
}

/// A consumer of the dead-letter queue, on a connection of its own.
pub trait DeadLetterSession: Send + 'static {
    /// An unacknowledged delivery, with the memory that it holds.
    type Tag: Send;

    /// Waits for the next message. Messages that arrive between this call and the first poll count too.
    fn next(&mut self) -> impl Future<Output = Result<(Self::Tag, Message), DeadQueueError>> + Send;

    /// Returns the next message if one has already been received.
    fn next_waiting(&mut self) -> impl Future<Output = Option<Result<(Self::Tag, Message), DeadQueueError>>> + Send;

    /// Acknowledges messages whose dead letters are committed.
    fn acknowledge(
        &self,
        tags: Vec<Self::Tag>,
        proof: &Proof,
    ) -> impl Future<Output = Result<(), DeadQueueError>> + Send;

    /// Returns the number of messages ready in the queue, without unacknowledged ones.
    fn depth(&self) -> impl Future<Output = Result<u32, DeadQueueError>> + Send;

    /// Returns the number of messages ready in the task queue.
    fn tasks(&self) -> impl Future<Output = Result<u32, DeadQueueError>> + Send;

    /// Closes the connection. Unacknowledged messages return to the queue.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// Why the dead-letter queue can't be consumed.
#[derive(Debug, thiserror::Error)]
pub enum DeadQueueError {
    /// The queue or exchange doesn't exist, or the user may not use it. Payments don't depend on it.
    #[error("{0}")]
    NotThere(String),
    /// The connection was lost, or the broker is unavailable.
    #[error("{0}")]
    Lost(String),
}
