//! The admin server: health and metrics over HTTP.
//!
//! | endpoint | status | body |
//! |---|---|---|
//! | `GET /livez` | 200 or 503 | whether the pipeline makes progress; 503 asks for a restart |
//! | `GET /readyz` | 200 or 503 | whether tasks are consumed, per dependency, with the reason |
//! | `GET /metrics` | 200 | all metrics in Prometheus' text format |
//!
//! It has no authentication, listens on loopback unless configured otherwise, and is read-only. The number of
//! connections is bounded, and so is the time that a request and a response may take. A new connection is always served,
//! if need be in the place of an older one: nobody can keep health checks from being answered.

mod limits;
mod places;
mod routes;
mod server;
mod settings;
mod stream;

pub use self::limits::Limits;
pub use self::server::{AdminServer, BindError};
pub use self::settings::AdminSettings;
