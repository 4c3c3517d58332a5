//! Everything that moves payments, put together: the same on real servers and in simulation.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::DaemonError;
use crate::agenda::Agenda;
use crate::config::Config;
use crate::health::Health;
use crate::intake::{Delivery, Intake, Source};
use crate::lanes::{InFlight, Lanes};
use crate::lifecycle::Shutdown;
use crate::outbox::{Handover, Keeper, Relay, Sink};
use crate::store::BatchStore;
use crate::store::outbox::OutboxStore;
use crate::telemetry::exporter::Exporter;
use crate::telemetry::metrics::Metrics;
use crate::worker::{Buffers, Pipeline};

/// Both seams to the outside, each with its two sides.
pub(crate) struct Outside<S, O, I, E> {
    /// Commits batches.
    pub(crate) store: S,
    /// Keeps the events that are still to be published.
    pub(crate) outbox: O,
    /// Where tasks come from.
    pub(crate) source: I,
    /// Where events go.
    pub(crate) sink: E,
}

/// Everything that moves payments.
pub(crate) struct Machine<S, O, I, E> {
    pipeline: Arc<Pipeline<S, Delivery>>,
    source: I,
    relay: Relay<E>,
    keeper: Keeper<O>,
    relay_stop: CancellationToken,
}

impl<S: BatchStore, O: OutboxStore, I: Source, E: Sink> Machine<S, O, I, E> {
    /// Puts it together; nothing runs yet. `key` decides which account is in which lane.
    pub(crate) fn build(
        config: &Config,
        outside: Outside<S, O, I, E>,
        key: u64,
        health: &Arc<Health>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let Outside { store, outbox, source, sink } = outside;
        let (lanes, events) = (&config.pipeline, &config.events);
        let (handover, parcels) = Handover::new(events.handover, events.handover_bytes);
        let (reports, reported) = mpsc::channel(events.handover);
        let relay_stop = CancellationToken::new();
        let pipeline = Pipeline {
            store,
            lanes: Lanes::new(lanes.lanes, lanes.lane_capacity),
            in_flight: InFlight::new(lanes.lanes, key),
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
            sink,
            events.clone(),
            config.retry.clone(),
            parcels,
            reports,
            Arc::clone(health),
            Arc::clone(metrics),
            relay_stop.clone(),
        );
        let keeper = Keeper::new(
            outbox,
            events.clone(),
            handover,
            reported,
            Arc::clone(health),
            Arc::clone(metrics),
            relay_stop.clone(),
        );
        Self { pipeline: Arc::new(pipeline), source, relay, keeper, relay_stop }
    }

    /// Shared with who commits beside the workers, and for a look at what is in it.
    pub(crate) fn pipeline(&self) -> Arc<Pipeline<S, Delivery>> {
        Arc::clone(&self.pipeline)
    }

    /// What can be looked at is looked at when somebody asks.
    pub(crate) fn watch(&self, exporter: &Exporter, metrics: &Arc<Metrics>) {
        let (pipeline, metrics) = (Arc::clone(&self.pipeline), Arc::clone(metrics));
        exporter.on_scrape(move || {
            for lane in 0..pipeline.lanes.count() {
                metrics.lane_depth(lane).set(pipeline.lanes.depth(lane) as f64);
            }
            metrics.tasks_in_flight.set(pipeline.in_flight.count() as f64);
            metrics.tasks_set_aside.set(pipeline.lanes.set_aside() as f64);
        });
    }

    /// Runs until drained, or until it can't.
    ///
    /// # Errors
    ///
    /// Whatever ends it otherwise.
    pub(crate) async fn run(
        self,
        config: &Config,
        shutdown: &Shutdown,
        health: &Arc<Health>,
    ) -> Result<(), DaemonError> {
        let Self { pipeline, source, relay, keeper, relay_stop } = self;
        let workers: Vec<JoinHandle<()>> =
            (0..config.pipeline.workers).map(|_| vital(Arc::clone(&pipeline).work(), &pipeline.broken)).collect();
        let relaying = vital(relay.run(), &pipeline.broken);
        let keeping = vital(keeper.run(), &pipeline.broken);
        let drain = shutdown.drain().clone();
        let agenda = Agenda::new(Arc::clone(&pipeline), config.payments.clone(), drain.clone());
        let sweeping = vital(agenda.run(), &pipeline.broken);
        let intake =
            Intake::new(source, config.broker.clone(), Arc::clone(&pipeline), drain.clone(), config.authority());

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
            biased;
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
