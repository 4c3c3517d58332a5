//! Profiles of the running daemon, over HTTP on a local socket that only its user can open (`admin.profile_socket`).
//!
//! | endpoint | body |
//! |---|---|
//! | `GET /debug/pprof/profile?seconds=10&format=pprof` | where CPU time goes: `pprof` (protobuf) or `folded` (stacks as text) |
//! | `GET /debug/memory` | JSON: what the kernel counts as this process's memory |
//!
//! Without the setting nothing of this is there. The CPU profiler is part of builds with the feature `profiling`; other
//! builds say so. There is no heap profiler: mimalloc has none.

mod cpu;
mod memory;
mod server;

pub use self::cpu::Format;
pub use self::server::{ProfileServer, SocketError};

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// This program was built without the profiler.
    #[error("this program was built without the feature `{0}`")]
    NotBuiltIn(&'static str),
    /// Only one can be taken at a time.
    #[error("another profile is being taken")]
    Busy,
    #[error("the profiler: {0}")]
    Failed(String),
}
