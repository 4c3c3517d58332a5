//! The seam to the broker that tasks come from: a session is one connection with one consumer,
//! and its tags mean something in this session only.
//!
//! Two sides fit it: [`super::rabbitmq`], and the simulated broker of the tests.

use std::future::Future;

use super::ack_window::Ack;
use crate::broker::inbound::Held;
use crate::contract::Message;

/// Where sessions come from.
pub trait Source: Send + Sync + 'static {
    /// What is opened.
    type Session: Session;

    /// One attempt to consume, with at most `prefetch` deliveries unacknowledged.
    fn open(&self, prefetch: u16) -> impl Future<Output = Result<Self::Session, OpenError>> + Send;
}

/// A consumer on a connection of its own.
pub trait Session: Send + 'static {
    /// How its deliveries are acknowledged.
    type Acks: Acks;

    /// The way back, for the epoch of this session and no other.
    fn acks(&self) -> Self::Acks;

    /// The next delivery, or the end.
    fn next(&mut self) -> impl Future<Output = Next> + Send;

    /// Asks for no more deliveries, and waits a while for the answer. What is out can still be
    /// acknowledged.
    fn cancel(&mut self) -> impl Future<Output = ()> + Send;

    /// Says goodbye; a broker that doesn't answer is not waited for.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// Sends acknowledgements.
pub trait Acks: Clone + Send + Sync + 'static {
    /// Sends one. An error is the end of the session: what was not acknowledged comes again.
    fn send(&self, ack: Ack) -> impl Future<Output = Result<(), SessionError>> + Send;
}

/// What comes of a consumer.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are deliveries, and none is kept")]
pub enum Next {
    /// A message, with its tag in this session and the memory it takes.
    Delivery(u64, Message, Held),
    /// Connection, channel or consumer are gone.
    Lost(String),
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no queue to consume from, and it is not to be declared. Waiting won't help.
    #[error("{0}")]
    NoQueue(String),
    /// The broker is away, or doesn't let us.
    #[error("{0}")]
    Unavailable(String),
}

/// Why a session ends.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SessionError(pub String);
