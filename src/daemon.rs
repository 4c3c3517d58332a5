//! Wiring only: build, spawn, drain.
//!
//! The order of the drain: intake takes nothing more; what is in the lanes is committed and
//! acknowledged; the events are published and confirmed; the servers of the operator go last.

mod machine;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub(crate) use self::machine::{Machine, Outside};
use crate::admin::{AdminServer, BindError};
use crate::config::Config;
use crate::health::{Dependency, Health};
use crate::intake::{Collector, DeadQueue, IntakeError, RabbitSource};
use crate::lifecycle::Shutdown;
use crate::lifecycle::systemd::{Patience, ServiceManager};
use crate::outbox::RabbitSink;
use crate::retry::Delays;
use crate::store::outbox::PostgresOutbox;
use crate::store::{self, ConnectError, MigrateError, PoolSetUpError, PostgresStore};
use crate::telemetry::exporter::Exporter;
use crate::telemetry::metrics::Metrics;

/// How long the collector may take to end after everything else has.
const COLLECTOR_LIMIT: Duration = Duration::from_secs(2);

/// Why the daemon ended otherwise than drained.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The admin server can't listen.
    #[error("{0}")]
    Admin(#[from] BindError),
    /// There can be no pool.
    #[error("{0}")]
    Pool(#[from] PoolSetUpError),
    /// The schema is not what this version needs, and waiting won't help.
    #[error("{0}")]
    Schema(String),
    /// PostgreSQL can't be used as it is configured, and waiting won't help.
    #[error("postgres: {0}")]
    Postgres(ConnectError),
    /// There is nothing to consume from.
    #[error("{0}")]
    Intake(#[from] IntakeError),
    /// An invariant doesn't hold.
    #[error("an invariant doesn't hold; nothing more was acknowledged")]
    Broken,
    /// The drain took longer than it may. What was not acknowledged will be delivered again.
    #[error("not drained within {0:?}; what was not acknowledged will be delivered again")]
    DrainTimeout(Duration),
    /// A second signal.
    #[error("stopped at once, as asked")]
    StoppedAtOnce,
}

/// Runs until it is asked to stop.
///
/// # Errors
///
/// Whatever ends it otherwise.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), DaemonError> {
    #[cfg(feature = "sabotage")]
    crate::sabotage::confess();
    let exporter = Exporter::install();
    let publishers = config.publishers.iter().map(|publisher| &publisher.name);
    let metrics = Metrics::register(config.pipeline.lanes).with_publishers(publishers, config.authority.verified);
    let metrics = Arc::new(metrics);
    let health = Health::new(Arc::clone(&metrics));
    // Outlives the drain, so that it can be watched.
    let last = CancellationToken::new();
    let _last = last.clone().drop_guard();

    let admin = AdminServer::bind(config.admin.listen).await?;
    info!(address = %admin.local_addr(), "admin server listens");
    exporter.watch_process(Arc::clone(&metrics));
    tokio::spawn(Arc::clone(&exporter).upkeep(last.clone()));
    let liveness_timeout = config.admin.liveness_timeout;
    tokio::spawn(admin.serve(Arc::clone(&health), Arc::clone(&exporter), liveness_timeout, last.clone()));
    let patience = Patience { liveness_timeout, drain_timeout: config.pipeline.drain_timeout };
    tokio::spawn(ServiceManager::from_environment().follow(Arc::clone(&health), patience, last.clone()));

    tokio::select! {
        ready = prepare_schema(&config, &health) => ready?,
        () = shutdown.drain().cancelled() => return Ok(()),
    }
    let (pool, events) = (store::pool(&config.postgres)?, &config.events);
    let store = PostgresStore::new(
        pool.clone(),
        &config.postgres,
        config.payments.rules(),
        config.pipeline.account_cache,
        &events.source,
        events.lease,
    )
    .with(config.authority(), events.dead_letters);
    let source = RabbitSource::new(config.broker.clone(), &events.exchange);
    let (budget, gauges) = (source.budget(), Arc::clone(&metrics));
    exporter.on_scrape(move || gauges.tasks_memory.set(budget.used() as f64));
    let outside = Outside {
        store,
        outbox: PostgresOutbox::new(pool),
        source,
        sink: RabbitSink::new(config.broker.clone(), events),
    };
    // Of this process only: which accounts share a lane is nothing that a publisher could aim at.
    let key = RandomState::new().hash_one(std::process::id());
    let machine = Machine::build(&config, outside, key, &health, &metrics);
    machine.watch(&exporter, &metrics);
    let collector = Collector::new(
        DeadQueue::new(config.broker.clone()),
        machine.pipeline(),
        shutdown.drain().clone(),
        config.authority(),
    );
    let collecting = tokio::spawn(collector.run());
    let ended = machine.run(&config, &shutdown, &health).await;
    if ended.is_ok() {
        // It ends with the drain; what it has not acknowledged comes again.
        let _ = tokio::time::timeout(COLLECTOR_LIMIT, collecting).await;
    }
    ended
}

/// Waits for PostgreSQL, and brings its schema up to date or says what is missing.
async fn prepare_schema(config: &Config, health: &Health) -> Result<(), DaemonError> {
    let mut delays = Delays::new(&config.retry);
    loop {
        let reason = match schema_once(config).await {
            Ok(()) => {
                health.set_up(Dependency::Postgres);
                return Ok(());
            }
            Err(SchemaError::Unavailable(reason)) => reason,
            Err(SchemaError::Wrong(error)) => return Err(error),
        };
        health.set_down(Dependency::Postgres, reason);
        tokio::time::sleep(delays.next_delay()).await;
    }
}

enum SchemaError {
    Unavailable(String),
    Wrong(DaemonError),
}

impl From<MigrateError> for SchemaError {
    fn from(error: MigrateError) -> Self {
        if error.is_unavailable() {
            Self::Unavailable(error.to_string())
        } else {
            Self::Wrong(DaemonError::Schema(error.to_string()))
        }
    }
}

impl From<ConnectError> for SchemaError {
    fn from(error: ConnectError) -> Self {
        match error.is_configuration() {
            true => Self::Wrong(DaemonError::Postgres(error)),
            false => Self::Unavailable(error.to_string()),
        }
    }
}

async fn schema_once(config: &Config) -> Result<(), SchemaError> {
    let mut client = store::connect(&config.postgres).await?;
    if config.postgres.migrate {
        for migration in store::migrate(&mut client).await? {
            info!(%migration, "migrated");
        }
    } else {
        let missing = store::missing(&mut client).await?.join(", ");
        if !missing.is_empty() {
            let reason = format!("the schema lacks {missing} and postgres.migrate is false: run `settled migrate`");
            return Err(SchemaError::Wrong(DaemonError::Schema(reason)));
        }
    }
    for warning in store::warnings(&client).await {
        warn!("PostgreSQL: {warning}");
    }
    Ok(())
}
