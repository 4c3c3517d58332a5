//! Looks, once a second, at how much waits and at what every process uses.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use lapin::{Channel, Connection};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_postgres::Client;

use crate::broker::{self, TASKS_QUEUE};
use crate::judge::books;
use crate::load::clock::now_micros;
use crate::rig::process::{self, Family, Use};
use crate::rig::{Pids, Rig};

const EVERY: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tick {
    /// When, in microseconds since 1970.
    pub(crate) at: i64,
    /// Tasks that wait in the queue; those that a daemon has are not among them.
    pub(crate) queue_depth: u64,
    pub(crate) outbox_events: u64,
    pub(crate) daemon: Busy,
    pub(crate) postgres: Busy,
    pub(crate) rabbitmq: Busy,
    pub(crate) generator: Busy,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Busy {
    pub(crate) cores: f64,
    /// Resident memory, in bytes.
    pub(crate) rss_bytes: u64,
}

/// What processes used from the first look to the last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Total {
    /// Of all threads, in seconds.
    pub(crate) cpu_seconds: f64,
    /// The most there was at any tick, in bytes.
    pub(crate) max_rss_bytes: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) ticks: Vec<Tick>,
    /// Daemons, PostgreSQL, RabbitMQ and this process, in that order.
    pub(crate) totals: [Total; 4],
}

/// The one who looks. It ends when this is dropped.
pub(crate) struct Watch {
    seen: Arc<Mutex<Seen>>,
    looking: JoinHandle<()>,
    channel: Channel,
    last: Option<oneshot::Sender<()>>,
}

struct Eyes {
    _connection: Connection,
    channel: Channel,
    database: Client,
    daemons: Pids,
    servers: (Option<u32>, Option<u32>),
    before: Option<Before>,
}

/// What was used up to the last look.
struct Before {
    at: i64,
    daemons: HashMap<u32, f64>,
    postgres: f64,
    rabbitmq: f64,
    generator: f64,
}

impl Watch {
    pub(crate) async fn start(rig: &Rig, daemons: Pids) -> Result<Self> {
        let connection = broker::connect(rig.amqp_uri(), "settled-loadtest watch").await?;
        let channel = connection.create_channel().await?;
        let (database, servers) = (rig.database().await?, rig.server_pids());
        let mut eyes =
            Eyes { _connection: connection, channel: channel.clone(), database, daemons, servers, before: None };
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let shared = Arc::clone(&seen);
        let (last, mut end) = oneshot::channel();
        let looking = tokio::spawn(async move {
            let mut second = interval(EVERY);
            second.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let ended = tokio::select! {
                    _ = second.tick() => false,
                    _ = &mut end => true,
                };
                eyes.look(&shared).await;
                if ended {
                    return;
                }
            }
        });
        Ok(Self { seen, looking, channel, last: Some(last) })
    }

    pub(crate) async fn tasks_waiting(&self) -> Result<u32> {
        broker::waiting(&self.channel, TASKS_QUEUE).await
    }

    pub(crate) fn latest(&self) -> Tick {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).ticks.last().copied().unwrap_or_default()
    }

    /// Looks a last time; returns all that was seen. To be called while everything still runs.
    pub(crate) async fn finish(mut self) -> Seen {
        drop(self.last.take());
        // It cannot fail but by a panic, which has been reported.
        let _ = (&mut self.looking).await;
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

impl Eyes {
    /// The first look is only what the second one is compared with. What cannot be asked, such as a
    /// server that is away, stays as it was: the run itself will notice.
    async fn look(&mut self, seen: &Mutex<Seen>) {
        let queue_depth = broker::waiting(&self.channel, TASKS_QUEUE).await.ok();
        let outbox_events = books::outbox_events(&self.database).await.ok();
        let (now, family) = (now_micros(), Family::now());
        let tree = |pid: Option<u32>| pid.map(|pid| family.of_tree(pid)).unwrap_or_default();
        let pids = self.daemons.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let daemons: HashMap<u32, Use> =
            pids.into_iter().filter_map(|pid| Some((pid, process::of_process(pid)?))).collect();
        let (postgres, rabbitmq) = (tree(self.servers.0), tree(self.servers.1));
        let generator = process::of_myself();
        let cpu = |used: &Use| used.cpu_seconds;
        let after = Before {
            at: now,
            daemons: daemons.iter().map(|(pid, used)| (*pid, cpu(used))).collect(),
            postgres: cpu(&postgres),
            rabbitmq: cpu(&rabbitmq),
            generator: cpu(&generator),
        };
        let Some(before) = self.before.replace(after) else { return };
        // A daemon that was started meanwhile has used all of its time since then.
        let of_daemons = daemons.iter().map(|(pid, used)| cpu(used) - before.daemons.get(pid).copied().unwrap_or(0.0));
        let used = [
            (of_daemons.sum(), daemons.keys().map(|pid| process::memory_now(*pid)).sum()),
            (cpu(&postgres) - before.postgres, postgres.rss_bytes),
            (cpu(&rabbitmq) - before.rabbitmq, rabbitmq.rss_bytes),
            (cpu(&generator) - before.generator, process::memory_now(std::process::id())),
        ];
        let seconds = (now - before.at).max(1) as f64 / 1e6;
        let [daemon, postgres, rabbitmq, generator] =
            used.map(|(cpu, rss_bytes): (f64, u64)| Busy { cores: cpu.max(0.0) / seconds, rss_bytes });
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (total, (cpu, rss)) in seen.totals.iter_mut().zip(used) {
            total.cpu_seconds += cpu.max(0.0);
            total.max_rss_bytes = total.max_rss_bytes.max(rss);
        }
        let last = seen.ticks.last().copied().unwrap_or_default();
        seen.ticks.push(Tick {
            at: now,
            queue_depth: queue_depth.map_or(last.queue_depth, u64::from),
            outbox_events: outbox_events.map_or(last.outbox_events, i64::cast_unsigned),
            daemon,
            postgres,
            rabbitmq,
            generator,
        });
    }
}
