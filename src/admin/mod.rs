//! The admin server: health and metrics over HTTP.
//!
//! | endpoint | status | body |
//! |---|---|---|
//! | `GET /livez` | 200 or 503 | whether the pipeline makes progress; 503 asks for a restart |
//! | `GET /readyz` | 200 or 503 | whether tasks are consumed, per dependency, with the reason |
//! | `GET /metrics` | 200 | all metrics in Prometheus' text format |
//!
//! It has no authentication, listens on loopback unless configured otherwise, and is read-only. The number of
//! connections and their idle time are bounded, so that a misbehaving client cannot exhaust the daemon.

mod connection;
mod routes;
mod server;
mod settings;

pub use self::server::{AdminServer, BindError};
pub use self::settings::AdminSettings;
