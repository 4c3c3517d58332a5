//! Publishes events from the outbox with publisher confirms, on a connection of their own.
//!
//! A committed event batch goes to the relay through the relay queue, in memory. The sweeper reads from the table the
//! rows that found no room there, that a crash left behind, or that no queue took before. A row is deleted once all its
//! events are confirmed. It is published only by the process that holds its lease, so each event is published at least
//! once and seldom twice.

mod direct_reply;
mod key;
mod log;
mod publication;
mod refusals;
mod relay;
mod relay_queue;
mod routing;
mod settings;
mod sink;
mod stream;
mod sweeper;

pub use self::log::{EventLog, LogSession, SessionLost};
pub use self::publication::{Encoding, Publication, publications};
pub use self::relay::Relay;
pub use self::relay_queue::{Leases, QueuedBatch, RelayQueue, RelayReceiver, Report, Reservation};
pub use self::settings::{EventFormat, EventSettings, HeaderPrefix, Transport, Unroutable};
pub use self::sink::{Channel, Confirmation, Refusal, RelayError, Session, Sink};
pub use self::stream::{Advance, Given, Handover, Held, Kept, StreamRelay, StreamStore};
pub use self::sweeper::OutboxSweeper;
