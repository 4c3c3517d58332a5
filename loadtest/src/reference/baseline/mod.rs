//! The baseline: one transaction and one acknowledgement per payment, as in the consumer that
//! everyone writes first. It does nothing foolish: it prefetches, decodes strictly, prepares its
//! statements, remembers account ids, locks in one order, and works on many connections at
//! once. It even decides with settled's own ledger. What it lacks is what is to be measured:
//! batches, multiple acknowledgements and few round trips. Nor does it publish events.
//!
//! A process of its own, with the daemon's configuration file and the daemon's admin endpoints,
//! so that the load test runs it in the daemon's place.

mod books;
mod consumer;
mod sql;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use settled::admin::AdminServer;
use settled::config::{Config, Origin};
use settled::telemetry::exporter::Exporter;
use settled_pipeline::health::{Dependency, Health};
use settled_pipeline::metrics::Metrics;
use settled_pipeline::shutdown::Shutdown;

use consumer::Consumer;

/// Connections to the database unless `postgres.pool_size` says otherwise: as many as such
/// consumers usually have, and more do not make it faster.
const CONNECTIONS: usize = 16;

/// Consumes until SIGTERM or SIGINT; what was taken by then is committed and acknowledged.
///
/// # Errors
/// A configuration that is wrong, and whatever keeps a payment from being committed: what is not
/// acknowledged is delivered again.
pub(crate) async fn run(config: &Path) -> Result<()> {
    let shutdown = Shutdown::new();
    settled::lifecycle::follow_signals(&shutdown)?;
    let config = Config::load_with(Some(config), &|_| None)?;
    let exporter = Exporter::install();
    let metrics = Arc::new(Metrics::register(1));
    let health = Health::new(Arc::clone(&metrics));
    let admin = AdminServer::bind(config.admin.listen).await?;
    // It ends with the process, so that the drain can be watched.
    let never = shutdown.now().clone();
    tokio::spawn(admin.serve(Arc::clone(&health), exporter, config.admin.liveness_timeout.into(), never));
    let mut client = settled_store::connect(&config.postgres).await?;
    settled_store::migrate(&mut client).await?;
    let consumer = Consumer::start(&config, connections(&config), metrics).await.context("start consuming")?;
    for dependency in Dependency::ALL {
        health.set_up(*dependency);
    }
    consumer.run(&shutdown).await
}

/// The pool's size where the file gives one. The daemon's own default is for other habits.
fn connections(config: &Config) -> usize {
    let asked = |key: settled::config::Described| key.key == "postgres.pool_size" && key.origin != Origin::Default;
    if config.describe().into_iter().any(asked) { config.postgres.pool_size } else { CONNECTIONS }
}
