//! Starts, kills, stops and watches the daemons.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use settled::config::Config;
use settled_pipeline::admission::Admission;
use settled_pipeline::committer::Committer;
use settled_pipeline::health::Health;
use settled_pipeline::intake::Delivery;
use settled_pipeline::machine::{Machine, Outside, Stopped};
use settled_pipeline::metrics::Metrics;
use settled_pipeline::shutdown::Shutdown;
use settled_testkit::defects::{Defective, seed};
use tokio::task::JoinHandle;

use super::broker::SimSource;
use super::settings::configure;
use super::sink::SimSink;
use super::store::SimStore;
use super::weather::Fault;
use super::world::{Life, World};

/// Interval between checks of the limits.
const EVERY: Duration = Duration::from_millis(25);

pub(super) struct Crew(Vec<Arc<Member>>);

/// A daemon and its later restarts.
struct Member {
    config: Config,
    key: u64,
    running: Mutex<Option<Running>>,
}

/// A running process.
struct Running {
    life: Life,
    shutdown: Shutdown,
    ended: JoinHandle<Result<(), Stopped>>,
}

impl Crew {
    /// Starts all daemons.
    pub(super) fn muster(world: &Arc<World>) -> Self {
        let member = |number| {
            let (config, key) = (configure(world.seed, number), world.seed ^ number as u64);
            Arc::new(Member { config, key, running: Mutex::new(None) })
        };
        let members: Vec<_> = (0..world.weather.daemons).map(member).collect();
        members.iter().for_each(|member| member.start(world));
        Self(members)
    }

    /// Applies a fault.
    pub(super) fn suffer(&self, world: &Arc<World>, fault: Fault) {
        world.journal.struck(fault);
        match fault {
            Fault::DropConsumers | Fault::CancelConsumers => world.queue.lock().close_all(),
            Fault::DropPublishers => world.exchange.lock().close_all(),
            Fault::MuteAcks => world.queue.lock().mute(),
            Fault::BrokerAway(lasts) => {
                world.for_a_while(|world| &world.broker_away, lasts);
                world.queue.lock().close_all();
                world.exchange.lock().close_all();
            }
            Fault::DatabaseAway(lasts) => world.for_a_while(|world| &world.database_away, lasts),
            Fault::ReplicationCut(lasts, is_lost) => world.cut_replication(lasts, is_lost),
            Fault::Blocked(lasts) => world.for_a_while(|world| &world.blocked, lasts),
            Fault::Unbound(lasts) => world.for_a_while(|world| &world.unbound, lasts),
            Fault::Kill(who, lasts) => self.0[who].kill(world, lasts),
            Fault::Stop(who, lasts) => self.0[who].stop(world, lasts),
        }
    }

    /// Stops all daemons gracefully. All faults must be over, so each has to drain in time.
    pub(super) async fn stop(self, world: &Arc<World>) {
        for member in &self.0 {
            // The daemon may be restarting.
            while member.running.lock().is_none() {
                tokio::time::sleep(EVERY).await;
            }
            let running = member.running.lock().take();
            if let Some(running) = running {
                running.drain(world, true).await;
            }
        }
    }
}

impl Member {
    fn start(self: &Arc<Self>, world: &Arc<World>) {
        let (life, shutdown) = (Life::default(), Shutdown::new());
        let metrics = Arc::new(Metrics::register(self.config.pipeline.lanes));
        let health = Health::new(Arc::clone(&metrics));
        let store = SimStore {
            world: Arc::clone(world),
            life: life.clone(),
            lease: self.config.events.lease,
            max_batch: self.config.pipeline.max_batch,
            most: self.config.pipeline.max_transactions,
            running: Arc::default(),
        };
        let outside = Outside {
            store: store.clone(),
            outbox: store,
            source: SimSource { world: Arc::clone(world), life: life.clone() },
            sink: SimSink { world: Arc::clone(world), life: life.clone(), publishers: self.config.events.publishers },
        };
        let outside = seed(world.flaw.defect(), outside);
        let machine = Machine::build(self.config.machine(), outside, self.key, &health, &metrics);
        let watched = (machine.admission(), machine.committer());
        tokio::spawn(watch(Arc::clone(world), watched, life.clone(), self.config.clone()));
        let asked = shutdown.clone();
        let ended = tokio::spawn(async move { machine.run(&asked, &health).await });
        *self.running.lock() = Some(Running { life, shutdown, ended });
    }

    fn start_after(
        self: &Arc<Self>,
        world: &Arc<World>,
        lasts: Duration,
        before: impl Future<Output = ()> + Send + 'static,
    ) {
        let (member, world) = (Arc::clone(self), Arc::clone(world));
        tokio::spawn(async move {
            before.await;
            tokio::time::sleep(lasts).await;
            member.start(&world);
        });
    }

    fn kill(self: &Arc<Self>, world: &Arc<World>, lasts: Duration) {
        // The daemon may be stopping or not running.
        let Some(running) = self.running.lock().take() else { return };
        running.life.ended.cancel();
        running.ended.abort();
        self.start_after(world, lasts, std::future::ready(()));
    }

    fn stop(self: &Arc<Self>, world: &Arc<World>, lasts: Duration) {
        let Some(running) = self.running.lock().take() else { return };
        let in_time = world.weather.lets_a_drain_end();
        let there = Arc::clone(world);
        self.start_after(world, lasts, async move { running.drain(&there, in_time).await });
    }
}

impl Running {
    /// Requests a drain and waits for the end of the process. With `in_time`, a drain timeout is a violation.
    async fn drain(self, world: &World, in_time: bool) {
        self.shutdown.request("SIGTERM");
        match self.ended.await {
            Ok(Ok(())) => {}
            Ok(Err(Stopped::DrainTimeout(_))) if !in_time => {}
            Ok(Err(error)) => world.journal.violation(format!("a daemon ended: {error}")),
            Err(died) => world.journal.violation(format!("a daemon died: {died}")),
        }
        self.life.ended.cancel();
    }
}

/// Checks that all limits are kept, until the process ends.
async fn watch(world: Arc<World>, (admission, committer): Watched, life: Life, config: Config) {
    let (admission, committer) = (Arc::downgrade(&admission), Arc::downgrade(&committer));
    while !life.ended.is_cancelled() {
        let (Some(admission), Some(committer)) = (admission.upgrade(), committer.upgrade()) else { return };
        let most = config.pipeline.lanes * config.pipeline.lane_capacity;
        // A task that waits for a full lane isn't in flight.
        let in_flight = admission.in_flight();
        if in_flight > most {
            world.journal.violation(format!("{in_flight} tasks in flight, of at most {most}"));
        }
        for depth in admission.depths().filter(|depth| *depth > config.pipeline.lane_capacity) {
            world.journal.violation(format!("{depth} tasks in a lane of {}", config.pipeline.lane_capacity));
        }
        if committer.is_broken() {
            world.journal.violation("a daemon found an invariant broken".to_owned());
            return;
        }
        drop((admission, committer));
        tokio::time::sleep(EVERY).await;
    }
}

/// The parts of a daemon that `watch` reads.
type Watched = (Arc<Admission<Delivery>>, Arc<Committer<Defective<SimStore>>>);
