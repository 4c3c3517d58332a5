//! RabbitMQ's stream protocol, as far as a publisher needs it: the log that events are appended to.
//!
//! A session is a connection of its own (`link`, then `carrier`) to any node: the server passes what is published
//! on to the leader of the stream, and tells when that is gone.

mod carrier;
mod command;
mod compare;
mod declare;
mod examine;
mod frame;
mod link;
mod log;
mod login;
mod message;
mod partitions;
mod publish;
mod rehearsal;
mod session;
mod settings;
mod super_stream;
#[cfg(test)]
mod tests;
mod version;
mod wire;

pub(crate) use self::examine::examine;
pub use self::log::StreamLog;
pub use self::partitions::EventStream;
pub use self::rehearsal::{Rehearsal, rehearse};
pub use self::session::StreamSession;
pub use self::settings::StreamSettings;
