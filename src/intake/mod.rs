//! From the broker into the lanes.
//!
//! One supervisor owns the consuming connection. Every connection is an epoch of its own: a
//! delivery tag is never sent in another epoch than its own, and never before the store has
//! proved that the delivery's outcome is committed.

mod ack_window;
mod authority;
mod collector;
mod dead_queue;
mod difference;
mod epoch;
mod message;
mod probe;
mod rabbitmq;
mod session;
mod settings;
mod supervisor;
mod topology;

pub use ack_window::{Ack, AckWindow};
pub use authority::{AccountPattern, AuthoritySettings, PublisherSettings, QueuePattern, TypePattern};
pub use collector::Collector;
pub use dead_queue::DeadQueue;
pub use epoch::{Delivery, Epoch};
pub use message::{read, read_with};
pub use probe::probe;
pub use rabbitmq::{RabbitSession, RabbitSource};
pub use session::{Acks, Next, OpenError, Session, SessionError, Source};
pub(crate) use settings::BROKER_NAME;
pub use settings::{BrokerSettings, BrokerUri, MAX_PREFETCH};
pub use supervisor::{Intake, IntakeError};
pub use topology::{TopologyError, ensure as ensure_topology};
