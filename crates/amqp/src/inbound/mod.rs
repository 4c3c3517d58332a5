//! Filters what lapin reads on connections that consume.
//!
//! lapin ends a connection over a property that is not UTF-8, reads whole bodies whatever their size, and keeps as
//! many deliveries as the prefetch allows. The filter rewrites deliveries so that lapin can parse them, cuts bodies to
//! the size that a task may have, and holds deliveries back while the [`Budget`](settled_pipeline::budget::Budget) is
//! exhausted. What it changed is in the [`Findings`](settled_core::contract::Findings) of the delivery's note.
//!
//! Invariant: whatever bytes come, in whatever pieces, lapin gets frames that it can parse, or the connection ends
//! with a reason.

mod fields;
mod filter;
mod inbox;
mod rehearsal;
mod transport;

pub(crate) use self::filter::MAX_FRAME;
pub(crate) use self::inbox::{Inbox, InboxReader, Note};
pub use self::rehearsal::{Rehearsed, rehearse};
pub(crate) use self::transport::connect;
