//! Takes tasks from the broker and puts them into the lanes.
//!
//! One supervisor owns the consuming connection. Each connection is an epoch of its own: a delivery tag is only
//! acknowledged in its own epoch, and only after the store has proved that the outcome is committed.

mod ack_window;
mod authority;
mod backlog;
mod collector;
mod epoch;
mod source;
mod supervisor;

pub use ack_window::{Ack, AckWindow};
pub use authority::{AccountPattern, AuthoritySettings, PublisherSettings, QueuePattern, TypePattern};
pub use backlog::Backlog;
pub use collector::Collector;
pub use epoch::{Delivery, Epoch};
pub use source::{
    Acks, DeadLetterSession, DeadLetterSource, DeadQueueError, Next, OpenError, Session, SessionError, Source,
};
pub use supervisor::{Consumption, Intake, IntakeError};
