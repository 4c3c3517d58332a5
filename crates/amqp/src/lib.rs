//! RabbitMQ: connections, consumers, the publisher and the topology. All use of lapin is in this crate.
//!
//! A delivery tag is only ever acknowledged on the channel that it came on, and no type of lapin's leaves this crate on
//! the way of a payment: a delivery leaves it as a [`Message`](settled_core::contract::Message).
//!
//! Must never know: SQL, the store, the ledger's rules.

mod connection;
mod consumer;
mod dead_queue;
mod difference;
mod headers;
pub mod inbound;
mod message;
mod outlet;
mod preconditions;
mod probe;
mod publisher;
mod settings;
mod sink;
mod socket;
mod source;
pub mod stream;
mod topology;
mod uri;

pub use self::connection::{ConnectError, Connector};
pub use self::dead_queue::DeadQueue;
pub use self::message::read;
pub use self::outlet::Outlet;
pub use self::probe::{Probed, probe};
pub use self::publisher::{MAX_PROPERTY_BYTES, Outgoing, PublishError, Published, Publisher};
pub use self::settings::{BrokerSettings, MAX_PREFETCH};
pub use self::sink::RabbitSink;
pub use self::source::RabbitSource;
pub use self::stream::{EventStream, StreamLog, StreamSession, StreamSettings};
pub use self::topology::{TopologyError, ensure as ensure_topology};
pub use self::uri::BrokerUri;
