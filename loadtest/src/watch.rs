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
use crate::report::model::ProcessUse;
use crate::rig::process::{self, Family};
use crate::rig::{Pids, Rig};

const EVERY: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tick {
    /// When, in microseconds since 1970.
    pub(crate) at: i64,
    /// Tasks that wait in the queue; those that a daemon has are not among them.
    pub(crate) queue_depth: u64,
    pub(crate) outbox_events: u64,
    /// What daemons, PostgreSQL, RabbitMQ and this process used, in that order.
    pub(crate) busy: [Busy; 4],
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Busy {
    pub(crate) cores: f64,
    pub(crate) rss_bytes: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) ticks: Vec<Tick>,
    /// What each used from the first look to the last, in the order of [`Tick::busy`]: of memory, the most at any tick.
    /// What it takes to deliver events to a late subscriber is not among it.
    pub(crate) totals: [ProcessUse; 4],
}

impl Seen {
    /// Adds what was seen when all was measured. It is shown, and counts for nothing.
    pub(crate) fn and_later(mut self, later: Self) -> Self {
        self.ticks.extend(later.ticks);
        self
    }
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
    servers: [Option<u32>; 2],
    before: Option<Looked>,
}

/// Processor time that was used up to a look, in seconds.
struct Looked {
    at: i64,
    daemons: HashMap<u32, f64>,
    /// PostgreSQL, RabbitMQ and this process.
    others: [f64; 3],
}

impl Watch {
    pub(crate) async fn start(rig: &Rig, daemons: Pids) -> Result<Self> {
        let (_connection, channel) = broker::channel(&rig.amqp_uri, "settled-loadtest watch").await?;
        let (database, servers) = (rig.database().await?, rig.server_pids());
        let mut eyes = Eyes { _connection, channel: channel.clone(), database, daemons, servers, before: None };
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
        let pids = self.daemons.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let daemons: HashMap<u32, f64> =
            pids.into_iter().filter_map(|pid| Some((pid, process::of_process(pid)?.cpu_seconds))).collect();
        let [postgres, rabbitmq] = self.servers.map(|pid| pid.map(|pid| family.of_tree(pid)).unwrap_or_default());
        let others = [postgres, rabbitmq, process::of_myself()].map(|used| used.cpu_seconds);
        let memory = daemons.keys().map(|pid| process::memory_now(*pid)).sum();
        let after = Looked { at: now, daemons, others };
        let Some(before) = self.before.replace(after) else { return };
        let Some(Looked { daemons, others, .. }) = &self.before else { return };
        // A daemon that was started meanwhile has used all of its time since then.
        let of_daemons = daemons.iter().map(|(pid, cpu)| cpu - before.daemons.get(pid).copied().unwrap_or(0.0));
        let since = |which: usize| others[which] - before.others[which];
        let used: [(f64, u64); 4] = [
            (of_daemons.sum(), memory),
            (since(0), postgres.max_rss_bytes),
            (since(1), rabbitmq.max_rss_bytes),
            (since(2), process::memory_now(std::process::id())),
        ];
        let seconds = (now - before.at).max(1) as f64 / 1e6;
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
            busy: used.map(|(cpu, rss_bytes)| Busy { cores: cpu.max(0.0) / seconds, rss_bytes }),
        });
    }
}
