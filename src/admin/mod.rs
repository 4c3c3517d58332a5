//! The admin server: how the daemon is, over HTTP.
//!
//! | endpoint | answers | |
//! |---|---|---|
//! | `GET /livez` | 200 or 503 | whether the pipeline moves; 503 asks for a restart |
//! | `GET /readyz` | 200 or 503 | whether tasks are taken, per dependency, with the reason |
//! | `GET /metrics` | 200 | everything counted, in Prometheus' text format |
//!
//! It is for the machine itself: without authentication, on loopback unless configured otherwise,
//! and read-only. Connections are bounded in number and in idle time, so that a
//! client that misbehaves costs the daemon nothing.

mod connection;
mod routes;
mod server;
mod settings;

pub use self::server::{AdminServer, BindError};
pub use self::settings::AdminSettings;
