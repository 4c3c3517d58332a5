//! Wiring only: build, spawn, drain.
//!
//! The order of the drain: intake takes nothing more; what is in the lanes is committed and
//! acknowledged; the events are published and confirmed; the servers of the operator go last.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin::{AdminServer, BindError};
use crate::agenda::Agenda;
use crate::config::Config;
use crate::health::{Dependency, Health};
use crate::intake::{Delivery, Intake, IntakeError};
use crate::lanes::{InFlight, Lanes};
use crate::lifecycle::Shutdown;
use crate::lifecycle::systemd::{Patience, ServiceManager};
use crate::outbox::{Handover, Keeper, Relay};
use crate::retry::Delays;
use crate::store::{self, ConnectError, MigrateError, Pool, PoolSetUpError, PostgresStore};
use crate::telemetry::exporter::Exporter;
use crate::telemetry::metrics::Metrics;
use crate::worker::{Buffers, Pipeline};

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
    /// There is nothing to consume from.
    #[error("{0}")]
    Intake(#[from] IntakeError),
    /// An invariant doesn't hold.
    #[error("an invariant doesn't hold; nothing more was acknowledged")]
    Broken,
    /// The drain took longer than it may. What was not committed will be delivered again.
    #[error("not drained within {0:?}; what was not committed will be delivered again")]
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
    let metrics = Arc::new(Metrics::register(config.pipeline.lanes));
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
    let pool = store::pool(&config.postgres)?;
    let machine = Machine::build(&config, pool, &health, &metrics);
    machine.watch(&exporter, &metrics);
    machine.run(&config, &shutdown, &health).await
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
            Err(SchemaError::Wrong(reason)) => return Err(DaemonError::Schema(reason)),
        };
        health.set_down(Dependency::Postgres, reason);
        tokio::time::sleep(delays.next_delay()).await;
    }
}

enum SchemaError {
    Unavailable(String),
    Wrong(String),
}

impl From<MigrateError> for SchemaError {
    fn from(error: MigrateError) -> Self {
        if error.is_unavailable() { Self::Unavailable(error.to_string()) } else { Self::Wrong(error.to_string()) }
    }
}

impl From<ConnectError> for SchemaError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::PasswordFile { .. } | ConnectError::Tls(_) => Self::Wrong(error.to_string()),
            ConnectError::Postgres(_) | ConnectError::Timeout(_) => Self::Unavailable(error.to_string()),
        }
    }
}

async fn schema_once(config: &Config) -> Result<(), SchemaError> {
    let mut client = store::connect(&config.postgres).await?;
    if config.postgres.migrate {
        for migration in store::migrate(&mut client).await? {
            info!(%migration, "migrated");
        }
        return Ok(());
    }
    let missing = store::missing(&mut client).await?;
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(", ");
    Err(SchemaError::Wrong(format!("the schema lacks {missing} and postgres.migrate is false: run `settled migrate`")))
}

/// Everything that moves payments.
struct Machine {
    pipeline: Arc<Pipeline<PostgresStore, Delivery>>,
    relay: Relay,
    keeper: Keeper,
    relay_stop: CancellationToken,
}

impl Machine {
    fn build(config: &Config, pool: Pool, health: &Arc<Health>, metrics: &Arc<Metrics>) -> Self {
        let (lanes, events) = (&config.pipeline, &config.events);
        let (handover, parcels) = Handover::new(events.handover);
        let (reports, reported) = mpsc::channel(events.handover);
        let relay_stop = CancellationToken::new();
        let pipeline = Pipeline {
            store: PostgresStore::new(
                pool.clone(),
                &config.postgres,
                config.payments.rules(),
                lanes.account_cache,
                &events.source,
                events.lease,
            ),
            lanes: Lanes::new(lanes.lanes, lanes.lane_capacity),
            in_flight: InFlight::new(lanes.lanes),
            transactions: Semaphore::new(lanes.max_transactions),
            handover: handover.clone(),
            // A worker has one batch to commit, and one to settle meanwhile.
            buffers: Buffers::new(lanes.workers * 2, lanes.max_batch),
            max_batch: lanes.max_batch,
            retry: config.retry.clone(),
            health: Arc::clone(health),
            metrics: Arc::clone(metrics),
            failing: AtomicUsize::new(0),
            agenda: Notify::new(),
            broken: CancellationToken::new(),
        };
        let relay = Relay::new(
            config.broker.clone(),
            events.clone(),
            config.retry.clone(),
            parcels,
            reports,
            Arc::clone(health),
            Arc::clone(metrics),
            relay_stop.clone(),
        );
        let keeper = Keeper::new(
            pool,
            events.clone(),
            handover,
            reported,
            Arc::clone(health),
            Arc::clone(metrics),
            relay_stop.clone(),
        );
        Self { pipeline: Arc::new(pipeline), relay, keeper, relay_stop }
    }

    /// What can be looked at is looked at when somebody asks.
    fn watch(&self, exporter: &Exporter, metrics: &Arc<Metrics>) {
        let (pipeline, metrics) = (Arc::clone(&self.pipeline), Arc::clone(metrics));
        exporter.on_scrape(move || {
            for lane in 0..pipeline.lanes.count() {
                metrics.lane_depth(lane).set(pipeline.lanes.depth(lane) as f64);
            }
            metrics.tasks_in_flight.set(pipeline.in_flight.count() as f64);
            metrics.tasks_set_aside.set(pipeline.lanes.set_aside() as f64);
        });
    }

    async fn run(self, config: &Config, shutdown: &Shutdown, health: &Arc<Health>) -> Result<(), DaemonError> {
        let Self { pipeline, relay, keeper, relay_stop } = self;
        let workers: Vec<JoinHandle<()>> =
            (0..config.pipeline.workers).map(|_| vital(Arc::clone(&pipeline).work(), &pipeline.broken)).collect();
        let relaying = vital(relay.run(), &pipeline.broken);
        let keeping = vital(keeper.run(), &pipeline.broken);
        let drain = shutdown.drain().clone();
        let agenda = Agenda::new(Arc::clone(&pipeline), config.payments.clone(), drain.clone());
        let sweeping = vital(agenda.run(), &pipeline.broken);
        let intake = Intake::new(config.broker.clone(), &config.events.exchange, Arc::clone(&pipeline), drain.clone());

        let limit = config.pipeline.drain_timeout;
        let time_is_up = async {
            drain.cancelled().await;
            health.drain();
            tokio::time::sleep(limit).await;
        };
        let work = async {
            intake.run().await?;
            // Tasks of an epoch that was lost: nobody waits for their acks, but their commits count.
            while pipeline.in_flight.count() > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            pipeline.lanes.close();
            for worker in workers {
                let _ = worker.await;
            }
            let _ = sweeping.await;
            finish_events(&pipeline.handover, limit / 2).await;
            relay_stop.cancel();
            let _ = relaying.await;
            let _ = keeping.await;
            Ok(())
        };
        tokio::select! {
            done = work => { info!("drained"); done }
            () = pipeline.broken.cancelled() => Err(DaemonError::Broken),
            () = time_is_up => Err(DaemonError::DrainTimeout(limit)),
            () = shutdown.now().cancelled() => Err(DaemonError::StoppedAtOnce),
        }
    }
}

/// Spawns what the daemon can't be without: a panic in it stops the daemon, which would go on
/// and never notice otherwise.
fn vital(work: impl Future<Output = ()> + Send + 'static, broken: &CancellationToken) -> JoinHandle<()> {
    let alarm = broken.clone().drop_guard();
    tokio::spawn(async move {
        work.await;
        alarm.disarm();
    })
}

/// Waits until all that was handed over is published, confirmed and deleted; what isn't in
/// time is in the table, for the next daemon.
async fn finish_events(handover: &Handover, limit: Duration) {
    let published = async {
        while !handover.leases().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    if tokio::time::timeout(limit, published).await.is_err() {
        warn!("not all events were confirmed in time: they stay in the outbox, and are published after the next start");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_vital_work_stops_the_daemon_and_its_end_does_not() {
        let broken = CancellationToken::new();
        assert!(vital(async {}, &broken).await.is_ok());
        assert!(!broken.is_cancelled());
        assert!(vital(async { panic!("a bug") }, &broken).await.is_err());
        assert!(broken.is_cancelled());
    }
}
