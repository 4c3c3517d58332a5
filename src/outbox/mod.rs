//! From the outbox to the world: events are published with confirms on a connection of their
//! own, and a row is deleted once all its events are confirmed.
//!
//! Parcels come over in memory right after their commit. What finds no room there, what a
//! crash left behind and what no queue took is swept from the table. A row is published by
//! whoever holds its lease, so each event is published at least once and seldom twice.

mod direct;
mod handover;
mod keeper;
mod publication;
mod rabbitmq;
mod refusals;
mod relay;
mod routing;
mod session;
mod settings;

pub use self::handover::{Handed, Handover, Leases, Parcels, Room};
pub use self::keeper::Keeper;
pub use self::publication::{BatchLimits, Publication, publications};
pub use self::rabbitmq::RabbitSink;
pub use self::refusals::Refusal;
pub use self::relay::{Relay, Report};
pub use self::session::{Channel, Confirmation, RelayError, Session, Sink};
pub use self::settings::{EventFormat, EventSettings, Unroutable};
