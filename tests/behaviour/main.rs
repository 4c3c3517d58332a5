//! What a user of the daemon can rely on, each test on the real binary and real servers.

#[path = "../support/mod.rs"]
mod support;

mod settling;
