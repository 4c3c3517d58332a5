//! What a user of the daemon can rely on, each test on the real binary and real servers.

#[path = "../support/mod.rs"]
mod support;

mod events;
mod idempotency;
mod malformed;
mod order;
mod rejections;
mod settling;
