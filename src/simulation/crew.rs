//! The daemons: started, killed, stopped in order, and looked after.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::broker::SimSource;
use super::dice::Dice;
use super::exchange::SimSink;
use super::store::SimStore;
use super::weather::{Fault, Gust};
use super::world::{Life, World};
use crate::config::Config;
use crate::daemon::{DaemonError, Machine, Outside};
use crate::health::Health;
use crate::intake::Delivery;
use crate::lifecycle::Shutdown;
use crate::outbox::EventFormat;
use crate::telemetry::metrics::Metrics;
use crate::worker::Pipeline;

/// How often the bounds are looked at.
const EVERY: Duration = Duration::from_millis(25);

/// All daemons of a run.
pub(super) struct Crew(Vec<Arc<Member>>);

/// A daemon, and those that come after it.
struct Member {
    config: Config,
    key: u64,
    running: Mutex<Option<Running>>,
}

/// One process.
struct Running {
    life: Life,
    shutdown: Shutdown,
    ended: JoinHandle<Result<(), DaemonError>>,
}

impl Crew {
    /// Starts all of them.
    pub(super) fn muster(world: &Arc<World>) -> Self {
        let member = |number| {
            let (config, key) = (configure(world.seed, number), world.seed ^ number as u64);
            Arc::new(Member { config, key, running: Mutex::new(None) })
        };
        let members: Vec<_> = (0..world.weather.daemons).map(member).collect();
        members.iter().for_each(|member| member.start(world));
        Self(members)
    }

    /// Has a fault happen.
    pub(super) async fn suffer(&mut self, world: &Arc<World>, gust: Gust) {
        world.journal.struck(gust.fault);
        match gust.fault {
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

    /// Stops all of them in order: nothing hinders them.
    pub(super) async fn stop(self, world: &Arc<World>) {
        for member in &self.0 {
            // One may just be coming back.
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
        let machine = Machine::build(&self.config, outside, self.key, &health, &metrics);
        tokio::spawn(watch(Arc::clone(world), machine.pipeline(), life.clone(), self.config.clone()));
        let (config, asked) = (self.config.clone(), shutdown.clone());
        let ended = tokio::spawn(async move { machine.run(&config, &asked, &health).await });
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
        // It may be stopping, or away.
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
    /// Asks it to stop, and waits for its end.
    async fn drain(self, world: &World, in_time: bool) {
        self.shutdown.request("SIGTERM");
        match self.ended.await {
            Ok(Ok(())) => {}
            Ok(Err(DaemonError::DrainTimeout(_))) if !in_time => {}
            Ok(Err(error)) => world.journal.violation(format!("a daemon ended: {error}")),
            Err(died) => world.journal.violation(format!("a daemon died: {died}")),
        }
        self.life.ended.cancel();
    }
}

/// Looks whether every bound is kept, for as long as the process lives.
async fn watch(world: Arc<World>, pipeline: Arc<Pipeline<SimStore, Delivery>>, life: Life, config: Config) {
    let pipeline = Arc::downgrade(&pipeline);
    while !life.ended.is_cancelled() {
        let Some(pipeline) = pipeline.upgrade() else { return };
        let most = config.pipeline.lanes * config.pipeline.lane_capacity;
        // One more may stand before a full lane.
        let in_flight = pipeline.in_flight.count();
        if in_flight > most + 1 {
            world.journal.violation(format!("{in_flight} tasks in flight, of at most {most}"));
        }
        for lane in 0..config.pipeline.lanes {
            let depth = pipeline.lanes.depth(lane);
            if depth > config.pipeline.lane_capacity {
                world.journal.violation(format!("{depth} tasks in a lane of {}", config.pipeline.lane_capacity));
            }
        }
        if pipeline.broken.is_cancelled() {
            world.journal.violation("a daemon found an invariant broken".to_owned());
            return;
        }
        drop(pipeline);
        tokio::time::sleep(EVERY).await;
    }
}

/// The settings of a daemon: small sizes, so that every bound is met.
pub(super) fn configure(seed: u64, number: usize) -> Config {
    let dice = Dice::new(seed, &format!("daemon {number}"));
    let mut config = Config::default();
    let pipeline = &mut config.pipeline;
    pipeline.lanes = dice.between(1, 4);
    pipeline.workers = dice.between(1, pipeline.lanes);
    pipeline.max_batch = dice.one_of(&[1, 2, 5, 30]);
    pipeline.lane_capacity = pipeline.max_batch + dice.one_of(&[0, 1, 10]);
    pipeline.max_transactions = dice.between(1, 3);
    config.broker.prefetch = dice.one_of(&[1, 2, 5, 20, 100]);
    config.events.publishers = dice.between(1, 3);
    config.events.handover = dice.one_of(&[1, 5, 50, 1000]);
    config.events.format = dice.one_of(&[EventFormat::Single, EventFormat::Batch]);
    config.events.batch_events = dice.one_of(&[1, 3, 100]);
    config.events.lease = Duration::from_secs(dice.between(1, 5) as u64);
    config.events.retry_held = Duration::from_secs(1);
    // Its random numbers are not of the seed.
    config.retry.jitter = 0.0;
    config.retry.conflict_attempts = dice.one_of(&[1, 20]);
    config
}
