//! Wires the daemon: builds its parts, spawns them, and waits for the drain.
//!
//! The drain has an order: intake stops consuming; tasks in the lanes are committed and acknowledged; their events are
//! published and confirmed; the admin server and the notifications to systemd stop last.

mod disks;
mod registry;
mod reload;

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use settled_amqp::{DeadQueue, RabbitSink, RabbitSource, StreamLog};
use settled_pipeline::gauges::Gauges;
use settled_pipeline::health::{Dependency, Health, Outage};
use settled_pipeline::intake::{Collector, Source};
use settled_pipeline::machine::{Machine, MachineSettings, Outside, Stopped};
use settled_pipeline::metrics::Metrics;
use settled_pipeline::outbox::{Sink, Transport};
use settled_pipeline::precondition::sentences;
use settled_pipeline::reflex::{MOST_WAITING, Reflexes, Signs, keep};
use settled_pipeline::retention::Retention;
use settled_pipeline::retry::Delays;
use settled_pipeline::shutdown::Shutdown;
use settled_pipeline::store::{BatchStore, GaugeStore, OutboxStore};
use settled_store::outbox::PostgresOutbox;
use settled_store::{
    ConnectError, MigrateError, PoolSetUpError, PostgresGauges, PostgresInstances, PostgresJournal, PostgresRetention,
    PostgresSettings, PostgresStore, PostgresStream,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::registry::Registrar;
use self::reload::{Reloader, Running};
use crate::admin::{AdminServer, BindError};
use crate::config::Config;
use crate::lifecycle::systemd::{ServiceManager, Timeouts};
use crate::lifecycle::{ReloadRequests, host_name};
use crate::profile::{ProfileServer, SocketError};
use crate::telemetry::exporter::Exporter;
use crate::telemetry::traces::TraceExporter;

/// How long the collector of dead letters may take to end after everything else has ended.
const COLLECTOR_LIMIT: Duration = Duration::from_secs(2);

/// How long it may take to delete the daemon's row in the registry. If it stays there, its lease runs out.
const REGISTRY_LIMIT: Duration = Duration::from_secs(1);

/// How long the last spans are waited for.
const TRACES_LIMIT: Duration = Duration::from_secs(1);

/// Why the daemon ended without a complete drain.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error("{0}")]
    Admin(#[from] BindError),
    #[error("{0}")]
    ProfileSocket(#[from] SocketError),
    #[error("{0}")]
    Pool(#[from] PoolSetUpError),
    #[error("{0}")]
    Schema(MigrateError),
    #[error("the schema lacks {0} and postgres.migrate is false: run `settled migrate`")]
    MissingMigrations(String),
    /// What the daemon needs of its database, and what to do.
    #[error("PostgreSQL: {0}")]
    Unmet(String),
    #[error("postgres: {0}")]
    Postgres(ConnectError),
    #[error("traces.endpoint: no thread could be started ({0})")]
    Traces(#[from] std::io::Error),
    #[error("{0}")]
    Stopped(#[from] Stopped),
}

/// PostgreSQL and RabbitMQ, as the pipeline sees them.
pub type Servers = Outside<PostgresStore, PostgresOutbox, RabbitSource, RabbitSink>;

/// Runs the daemon until `shutdown` asks it to stop, then drains it. Each of `requests` reloads the configuration.
///
/// `wrap` may replace the servers by wrappers around them; `|servers| servers` keeps them as they are.
pub async fn run<S: BatchStore, O: OutboxStore, I: Source, E: Sink>(
    config: Config,
    shutdown: Shutdown,
    requests: ReloadRequests,
    wrap: impl FnOnce(Servers) -> Outside<S, O, I, E>,
) -> Result<(), DaemonError> {
    let exporter = Exporter::install();
    let metrics = Arc::new(Metrics::register(config.pipeline.lanes));
    let running = Running::of(&config);
    let health = Health::new(Arc::clone(&metrics));
    if config.events.transport == Transport::Stream {
        health.use_stream();
    }
    // Canceled after the drain, so that health and metrics can be read while it lasts.
    let last = CancellationToken::new();
    let _last = last.clone().drop_guard();

    let admin = AdminServer::bind(config.admin.listen).await?;
    let address = admin.local_addr();
    info!(%address, "admin server listens");
    exporter.watch_process(Arc::clone(&metrics));
    let _profiles = profiles(config.admin.profile_socket.as_deref(), &last)?;
    tokio::spawn(Arc::clone(&exporter).upkeep(last.clone()));
    let liveness_timeout = running.liveness_timeout.clone();
    tokio::spawn(admin.serve(Arc::clone(&health), Arc::clone(&exporter), liveness_timeout.clone(), last.clone()));
    let timeouts = Timeouts { liveness_timeout, drain_timeout: config.pipeline.drain_timeout };
    let (reloads, news) = mpsc::channel(1);
    tokio::spawn(ServiceManager::from_environment().follow(Arc::clone(&health), timeouts, news, last.clone()));
    let reloader = Reloader::new(config.clone(), running.clone(), Arc::clone(&metrics), reloads);
    // From now on: who waits for a server may need another password first.
    tokio::spawn(reloader.follow(requests, shutdown.drain().clone()));

    tokio::select! {
        ready = prepare_schema(&running, &health) => ready?,
        () = shutdown.drain().cancelled() => return Ok(()),
    }
    let (pool, events) = (settled_store::live_pool(running.postgres.clone())?, &config.events);
    let store = PostgresStore::new(
        pool.clone(),
        &config.postgres,
        running.rules.clone(),
        config.pipeline.account_cache,
        &events.source,
        events.lease,
    )
    .with(running.authority.clone(), events.dead_letters)
    .streaming(events.transport == Transport::Stream);
    let measuring = PostgresGauges::new(running.postgres.clone())?;
    let instances = PostgresInstances::beside(&measuring);
    let kept = PostgresJournal::beside(&measuring, host_name());
    let retention = PostgresRetention::beside(&measuring);
    let retention = Retention::new(retention, config.retention.clone(), Arc::clone(&metrics), last.clone());
    tokio::spawn(retention.run());
    let signs = Arc::new(Signs::default());
    // Before anything is taken. It is measured again at once if that fails.
    signs.set_unprocessable(measuring.unprocessable_open().await.unwrap_or_default());
    tokio::spawn(Gauges::new(measuring, Arc::clone(&metrics), Arc::clone(&signs), last.clone()).run());
    let source = RabbitSource::new(running.broker.clone(), config.outlet());
    let (budget, gauges) = (source.budget(), Arc::clone(&metrics));
    exporter.on_scrape(move || gauges.tasks_memory.set(budget.used() as f64));
    let outside = wrap(Outside {
        store,
        outbox: PostgresOutbox::new(pool.clone()),
        source,
        sink: RabbitSink::new(running.broker.clone(), events),
    });
    // Random per process: publishers cannot predict which accounts share a lane.
    let key = RandomState::new().hash_one(std::process::id());
    let (traces, exporter_of_traces) = TraceExporter::start(&config, &metrics)?;
    let settings = MachineSettings {
        retry: running.retry.clone(),
        authority: running.authority.clone(),
        traces,
        ..config.machine()
    };
    let maintenance = settings.maintenance.clone();
    let mut machine = Machine::build(settings, outside, key, &health, &metrics);
    if let Some(stream) = config.outlet().stream {
        let log = StreamLog::new(running.broker.clone(), stream);
        machine = machine.streaming(PostgresStream::new(pool), log, &health);
    }
    exporter.on_scrape(machine.gauges());
    let registrar = Registrar::new(instances, address, Arc::clone(&health), maintenance.clone(), machine.is_idle());
    let registered = CancellationToken::new();
    let registering = tokio::spawn(registrar.run(registered.clone()));
    let (journal, entries) = mpsc::channel(MOST_WAITING);
    tokio::spawn(keep(kept, entries, running.retry.clone(), last.clone()));
    let mut reflexes = Reflexes::new(
        running.reflexes.clone(),
        (signs, machine.quarantine()),
        Arc::clone(&health),
        Arc::clone(&metrics),
        disks::free_part,
        journal,
        shutdown.drain().clone(),
    );
    reflexes.look().await;
    tokio::spawn(reflexes.run());
    let collector = Collector::new(
        DeadQueue::new(running.broker.clone()),
        running.authority.clone(),
        machine.committer(),
        running.retry.clone(),
        Arc::clone(&health),
        maintenance,
        machine.backlog(),
        shutdown.drain().clone(),
    );
    let collecting = tokio::spawn(collector.run());
    let ended = machine.run(&shutdown, &health).await;
    if ended.is_ok() {
        // It ends with the drain. The broker redelivers what it has not acknowledged.
        let _ = tokio::time::timeout(COLLECTOR_LIMIT, collecting).await;
        registered.cancel();
        let _ = tokio::time::timeout(REGISTRY_LIMIT, registering).await;
        if let Some(exporter) = exporter_of_traces {
            let _ = tokio::time::timeout(TRACES_LIMIT, exporter.finish()).await;
        }
    }
    Ok(ended?)
}

/// Serves profiles until `stop` is cancelled. The socket is removed when what is returned is dropped.
fn profiles(path: Option<&Path>, stop: &CancellationToken) -> Result<Option<ProfileServer>, SocketError> {
    let Some(path) = path else { return Ok(None) };
    let mut server = ProfileServer::bind(path)?;
    server.serve(stop.clone());
    info!(path = %path.display(), "profiles can be taken");
    Ok(Some(server))
}

/// Waits until PostgreSQL can be reached and its schema is up to date. Migrates it unless `postgres.migrate` is false.
async fn prepare_schema(running: &Running, health: &Health) -> Result<(), DaemonError> {
    let mut delays = Delays::new(&running.retry);
    loop {
        let outage = match try_prepare_schema(&running.postgres.get()).await {
            Ok(()) => break health.set_up(Dependency::Postgres),
            Err(DaemonError::Postgres(error)) if !error.is_configuration() => {
                Outage { reason: error.to_string(), refused: error.is_refused() }
            }
            Err(DaemonError::Schema(error)) if error.is_unavailable() => error.to_string().into(),
            // Waiting won't help.
            Err(fatal) => return Err(fatal),
        };
        health.set_down(Dependency::Postgres, outage);
        tokio::time::sleep(delays.next_delay()).await;
    }
    Ok(())
}

async fn try_prepare_schema(settings: &PostgresSettings) -> Result<(), DaemonError> {
    let mut client = settled_store::connect(settings).await.map_err(DaemonError::Postgres)?;
    let schema = settled_store::usable_schema(&client).await.map_err(DaemonError::Schema)?;
    // A role that may not migrate runs on a schema that is up to date.
    if !schema.missing.is_empty() {
        if !settings.migrate {
            return Err(DaemonError::MissingMigrations(schema.missing.join(", ")));
        }
        for migration in settled_store::migrate(&mut client).await.map_err(DaemonError::Schema)? {
            info!(%migration, "migrated");
        }
    }
    if !schema.later_compatible.is_empty() {
        let migrations = schema.later_compatible.join(", ");
        info!(%migrations, "the schema is of a later version, and compatible with this one");
    }
    check_preconditions(&client).await?;
    for warning in settled_store::warnings(&client).await {
        warn!("PostgreSQL: {warning}");
    }
    Ok(())
}

/// Checks what the daemon needs of its database beside the schema, as `settled check --connect` does.
async fn check_preconditions(client: &settled_store::Client) -> Result<(), DaemonError> {
    let unmet = settled_store::unmet(client).await.map_err(|error| DaemonError::Postgres(error.into()))?;
    if unmet.is_empty() { Ok(()) } else { Err(DaemonError::Unmet(sentences(&unmet))) }
}
