//! Builds and runs the pipeline. The daemon runs it on real servers, the tests also in simulation.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admission::Admission;
use crate::committer::Committer;
use crate::health::Health;
use crate::intake::{Backlog, Consumption, Delivery, Intake, IntakeError, Source};
use crate::maintenance::Maintenance;
use crate::metrics::Metrics;
use crate::outbox::{
    EventLog, EventSettings, Handover, OutboxSweeper, Relay, RelayQueue, Sink, StreamRelay, StreamStore,
};
use crate::reflex::Quarantine;
use crate::retry::RetrySettings;
use crate::scheduler::{PaymentSettings, Scheduler};
use crate::settings::Live;
use crate::shutdown::Shutdown;
use crate::store::{BatchStore, OutboxStore};
use crate::traces::Traces;
use crate::worker::{PipelineSettings, Workers};
use settled_core::contract::Authority;

/// Settings of all parts of the pipeline.
#[derive(Clone, Debug)]
pub struct MachineSettings {
    /// Limits on threads, lanes, workers and batches.
    pub pipeline: PipelineSettings,
    /// Rules for scheduled and parked payments, holds and accounts.
    pub payments: PaymentSettings,
    /// How events are published.
    pub events: EventSettings,
    /// Delays between attempts.
    pub retry: Live<RetrySettings>,
    /// Permissions of the publishers.
    pub authority: Live<Authority>,
    /// The queue to consume and the prefetch limit.
    pub consumption: Consumption,
    /// Has it wait while an operator wants that.
    pub maintenance: Maintenance,
    /// Where sampled tasks are recorded.
    pub traces: Traces,
}

/// Why the pipeline ended without being drained.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// There is no queue to consume from.
    #[error("{0}")]
    Intake(#[from] IntakeError),
    /// An invariant was found broken.
    #[error("an invariant doesn't hold; nothing more was acknowledged")]
    Broken,
    /// The drain exceeded its time limit. Unacknowledged messages will be redelivered.
    #[error("not drained within {0:?}; what was not acknowledged will be delivered again")]
    DrainTimeout(Duration),
    /// A second signal requested an immediate stop.
    #[error("stopped at once, as asked")]
    StoppedAtOnce,
}

/// The database and the broker as the pipeline uses them.
pub struct Outside<S, O, I, E> {
    /// Commits batches.
    pub store: S,
    /// The table of events that are still to be published.
    pub outbox: O,
    /// Opens consuming sessions on the task queue.
    pub source: I,
    /// Publishes the events.
    pub sink: E,
}

/// The pipeline: intake, workers, scheduler, relay and outbox sweeper.
pub struct Machine<S, O, I, E> {
    settings: MachineSettings,
    store: Arc<S>,
    admission: Arc<Admission<Delivery>>,
    committer: Arc<Committer<S>>,
    source: I,
    backlog: Arc<Backlog>,
    quarantine: Arc<Quarantine>,
    relay_queue: RelayQueue,
    relay: Relay<E>,
    handover: Handover,
    /// Appends the events to a stream, if they go to one.
    stream_relay: Option<BoxFuture<'static, ()>>,
    sweeper: OutboxSweeper<O>,
    relay_stop: CancellationToken,
    metrics: Arc<Metrics>,
    broken: CancellationToken,
}

impl<S: BatchStore, O: OutboxStore, I: Source, E: Sink> Machine<S, O, I, E> {
    /// Builds the pipeline without starting it. `key` seeds the hash that assigns accounts to lanes.
    pub fn build(
        settings: MachineSettings,
        outside: Outside<S, O, I, E>,
        key: u64,
        health: &Arc<Health>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let Outside { store, outbox, source, sink } = outside;
        let (lanes, events) = (&settings.pipeline, &settings.events);
        let (relay_queue, receiver) = RelayQueue::new(events.handover, events.handover_bytes);
        let handover = Handover::new(events.handover_bytes);
        let (reports, reported) = mpsc::channel(events.handover);
        let relay_stop = CancellationToken::new();
        let (store, broken) = (Arc::new(store), CancellationToken::new());
        let admission = Arc::new(Admission::new(lanes.lanes, lanes.lane_capacity, key, Arc::clone(health)));
        let committer = Committer::new(
            Arc::clone(&store),
            lanes.max_transactions,
            relay_queue.clone(),
            settings.retry.clone(),
            Arc::clone(health),
            Arc::clone(metrics),
            broken.clone(),
        );
        let committer = Arc::new(committer.traced(settings.traces.clone()).streaming(handover.clone()));
        let relay = Relay::new(
            sink,
            events.clone(),
            settings.retry.clone(),
            receiver,
            reports,
            Arc::clone(health),
            Arc::clone(metrics),
            relay_stop.clone(),
        )
        .traced(settings.traces.clone());
        let sweeper = OutboxSweeper::new(
            outbox,
            events.clone(),
            relay_queue.clone(),
            reported,
            Arc::clone(health),
            Arc::clone(metrics),
            relay_stop.clone(),
        );
        let metrics = Arc::clone(metrics);
        let backlog = Arc::new(Backlog::new(Arc::clone(&metrics)));
        Self {
            settings,
            store,
            admission,
            committer,
            source,
            backlog,
            quarantine: Arc::default(),
            relay_queue,
            relay,
            handover,
            stream_relay: None,
            sweeper,
            relay_stop,
            metrics,
            broken,
        }
    }

    /// Appends the events that the store keeps for a stream, in `store`, to `log`. Without this they wait there. `health`
    /// has to expect it: [`Health::use_stream`].
    #[must_use]
    pub fn streaming(mut self, store: impl StreamStore, log: impl EventLog, health: &Arc<Health>) -> Self {
        let relay = StreamRelay::new(
            store,
            log,
            self.settings.events.clone(),
            self.settings.retry.clone(),
            self.handover.clone(),
            Arc::clone(health),
            Arc::clone(&self.metrics),
            self.relay_stop.clone(),
        );
        self.stream_relay = Some(Box::pin(relay.traced(self.settings.traces.clone()).run()));
        self
    }

    /// Returns the committer, for those who commit batches besides the workers.
    pub fn committer(&self) -> Arc<Committer<S>> {
        Arc::clone(&self.committer)
    }

    /// Returns what is known of the task queue, for who measures it.
    pub fn backlog(&self) -> Arc<Backlog> {
        Arc::clone(&self.backlog)
    }

    /// Returns the publishers whose messages are set aside, for who decides about them.
    pub fn quarantine(&self) -> Arc<Quarantine> {
        Arc::clone(&self.quarantine)
    }

    /// Returns the admission, for reading the tasks in flight.
    pub fn admission(&self) -> Arc<Admission<Delivery>> {
        Arc::clone(&self.admission)
    }

    /// Returns a function that sets the gauges of lanes and tasks in flight. Call it on every scrape.
    pub fn gauges(&self) -> impl Fn() + Send + Sync + 'static + use<S, O, I, E> {
        let (admission, metrics) = (self.admission(), Arc::clone(&self.metrics));
        move || {
            for (lane, depth) in admission.depths().enumerate() {
                metrics.lane_depth(lane).set(depth as f64);
            }
            for (lane, age) in admission.oldest().enumerate() {
                metrics.lane_oldest_seconds(lane).set(age.as_secs_f64());
            }
            metrics.tasks_in_flight.set(admission.in_flight() as f64);
            metrics.tasks_deferred.set(admission.deferred() as f64);
        }
    }

    /// Returns a function that tells whether the daemon is in maintenance, has no work in hand, and has published all
    /// events of its own.
    pub fn is_idle(&self) -> impl Fn() -> bool + Send + Sync + 'static + use<S, O, I, E> {
        let (admission, relay_queue, handover) = (self.admission(), self.relay_queue.clone(), self.handover.clone());
        let maintenance = self.settings.maintenance.clone();
        move || {
            let published = relay_queue.leases().is_empty() && handover.is_idle();
            maintenance.is_idle() && admission.in_flight() == 0 && published
        }
    }

    /// Runs until drained or stopped.
    ///
    /// # Errors
    ///
    /// Why the pipeline ended without being drained.
    pub async fn run(self, shutdown: &Shutdown, health: &Arc<Health>) -> Result<(), Stopped> {
        let Self {
            settings,
            store,
            admission,
            committer,
            source,
            backlog,
            quarantine,
            relay_queue,
            relay,
            handover,
            stream_relay,
            sweeper,
            relay_stop,
            metrics,
            broken,
        } = self;
        let MachineSettings { pipeline: limits, payments, retry, authority, consumption, maintenance, .. } = settings;
        let (count, max_batch) = (limits.workers, limits.max_batch);
        let workers = Workers::new(Arc::clone(&admission), Arc::clone(&committer), count, max_batch);
        let workers: Vec<JoinHandle<()>> = (0..count).map(|_| vital(Arc::clone(&workers).work(), &broken)).collect();
        let relaying = vital(relay.run(), &broken);
        let sweeping = vital(sweeper.run(), &broken);
        let streaming = stream_relay.map(|relay| vital(relay, &broken));
        let drain = shutdown.drain().clone();
        let (stop, settings) = (drain.clone(), payments);
        let (waits, retries) = (maintenance.clone(), retry.clone());
        let scheduler = Scheduler { store, committer, max_batch, settings, retry: retries, maintenance: waits, stop };
        let scheduling = vital(scheduler.run(), &broken);
        let intake = Intake {
            source,
            consumption,
            authority,
            admission: Arc::clone(&admission),
            retry,
            health: Arc::clone(health),
            metrics,
            maintenance,
            backlog,
            quarantine,
            drain: drain.clone(),
        };

        let limit = limits.drain_timeout;
        let time_is_up = async {
            drain.cancelled().await;
            health.drain();
            tokio::time::sleep(limit).await;
        };
        let work = async {
            intake.run().await?;
            // Tasks of a lost epoch are in flight too. They can't be acknowledged, but their commits matter.
            while admission.in_flight() > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            admission.close();
            for worker in workers {
                let _ = worker.await;
            }
            let _ = scheduling.await;
            finish_events(&relay_queue, &handover, limit / 2).await;
            relay_stop.cancel();
            let _ = relaying.await;
            if let Some(streaming) = streaming {
                let _ = streaming.await;
            }
            let _ = sweeping.await;
            Ok(())
        };
        tokio::select! {
            biased;
            done = work => { info!("drained"); done }
            () = broken.cancelled() => Err(Stopped::Broken),
            () = time_is_up => Err(Stopped::DrainTimeout(limit)),
            () = shutdown.now().cancelled() => Err(Stopped::StoppedAtOnce),
        }
    }
}

/// Spawns a task that the daemon can't work without. If it panics, `broken` is cancelled, which stops the daemon.
fn vital(work: impl Future<Output = ()> + Send + 'static, broken: &CancellationToken) -> JoinHandle<()> {
    let alarm = broken.clone().drop_guard();
    tokio::spawn(async move {
        work.await;
        alarm.disarm();
    })
}

/// Waits until all events in the relay queue and of the handover are published, confirmed and deleted. Events that take longer than
/// `limit` stay in the outbox and are published after the next start.
async fn finish_events(relay_queue: &RelayQueue, handover: &Handover, limit: Duration) {
    let published = async {
        while !relay_queue.leases().is_empty() || !handover.is_idle() {
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
