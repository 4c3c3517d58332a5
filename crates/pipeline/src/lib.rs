//! The way of a payment, from one seam to the other: admission, lanes, workers, scheduler, relay.
//!
//! No task is acknowledged without a committed row that says what became of it: a delivery is settled with a
//! [`Proof`](store::Proof), which only a store makes.
//!
//! Must never know: lapin, SQL, HTTP. It meets the broker through [`intake::Source`] and [`outbox::Sink`], the database
//! through the traits in [`store`].

pub mod admission;
pub mod budget;
pub mod committer;
pub mod disposition;
pub mod gauges;
pub mod health;
pub mod intake;
pub mod labels;
pub mod lanes;
pub mod machine;
pub mod maintenance;
pub mod metrics;
pub mod outbox;
pub mod precondition;
pub mod reflex;
pub mod retention;
pub mod retry;
pub mod scheduler;
pub mod settings;
pub mod shutdown;
pub mod store;
pub mod traces;
pub mod worker;

/// The version, as the log, the metrics and `--version` tell it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
