//! Tells the service manager how the daemon is (`sd_notify(3)`).
//!
//! | message | when |
//! |---|---|
//! | `READY=1` | first ready, or [`START_GRACE`] after the start if a server is away |
//! | `STATUS=` | whenever the state changes: what `systemctl status` shows |
//! | `WATCHDOG=1` | twice per `WatchdogSec=`, while the pipeline is live |
//! | `STOPPING=1` | the drain begins; with it `EXTEND_TIMEOUT_USEC=`, so that no `TimeoutStopSec=` cuts it short |
//!
//! A daemon that waits for its servers is doing its job: holding `READY=1` back for as long
//! would make `systemctl start` hang and then systemd kill it, so it is held back a little only.
//!
//! `NOTIFY_SOCKET` and `WATCHDOG_USEC` are read here (by `sd_notify`), not in `config`: they aren't
//! settings but how the service manager and its child find each other. Without them nothing is sent.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::health::{Health, Phase, Readiness};

/// How long `READY=1` waits for the servers.
pub const START_GRACE: Duration = Duration::from_secs(10);

/// How often the status is looked at while it changes by itself (a drain counts down).
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// What stopping may take beyond the drain itself.
const AFTER_DRAIN: Duration = Duration::from_secs(10);

type Tell = dyn Fn(&[NotifyState<'_>]) -> io::Result<()> + Send + Sync;

/// The service manager, if there is one.
pub struct ServiceManager {
    send: Box<Tell>,
    watchdog: Option<Duration>,
    start_grace: Duration,
}

/// The durations that decide what it is told.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long work may be in hand without progress until the watchdog isn't fed any more.
    pub liveness_timeout: Duration,
    /// How long the drain may take.
    pub drain_timeout: Duration,
}

impl ServiceManager {
    /// The one that started this process, as the environment tells.
    pub fn from_environment() -> Self {
        Self {
            send: Box::new(sd_notify::notify),
            watchdog: sd_notify::watchdog_enabled().filter(|watchdog| !watchdog.is_zero()),
            start_grace: START_GRACE,
        }
    }

    /// Tells it how the daemon is, until `stop`. To be spawned once, on the runtime that does the
    /// work: a runtime that is stuck shall not feed the watchdog.
    pub async fn follow(self, health: Arc<Health>, patience: Patience, stop: CancellationToken) {
        let mut changes = health.subscribe();
        let mut told = Told::new(&*self.send, patience);
        let mut watchdog = self.watchdog.map(|watchdog| interval(watchdog / 2));
        let mut status = interval(STATUS_INTERVAL);
        let started = Instant::now();
        loop {
            told.state(&health.readiness(), health.progress().in_flight(), started.elapsed() >= self.start_grace);
            tokio::select! {
                () = stop.cancelled() => return,
                // The sender lives in `health`, so this never ends.
                _ = changes.changed() => {}
                _ = status.tick() => {}
                () = tick(&mut watchdog) => told.watchdog(&health),
            }
        }
    }
}

/// What the service manager knows.
struct Told<'a> {
    send: &'a Tell,
    patience: Patience,
    ready: bool,
    stopping: bool,
    live: bool,
    status: String,
    failed: bool,
}

impl<'a> Told<'a> {
    fn new(send: &'a Tell, patience: Patience) -> Self {
        Self { send, patience, ready: false, stopping: false, live: true, status: String::new(), failed: false }
    }

    fn state(&mut self, readiness: &Readiness, in_flight: usize, waited_enough: bool) {
        let draining = readiness.status == Phase::Draining;
        let status = if draining { format!("draining ({in_flight} in flight)") } else { readiness.summary() };
        let status = status.replace('\n', " ");
        let mut news = Vec::new();
        if draining && !self.stopping {
            self.stopping = true;
            let time = self.patience.drain_timeout.saturating_add(AFTER_DRAIN);
            let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
            news.extend([NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(micros)]);
        } else if !draining && !self.ready && (readiness.ready || waited_enough) {
            self.ready = true;
            news.push(NotifyState::Ready);
        }
        if status != self.status {
            news.push(NotifyState::Status(&status));
        }
        if !news.is_empty() {
            self.send(&news);
        }
        drop(news);
        self.status = status;
    }

    fn watchdog(&mut self, health: &Health) {
        let live = health.live(self.patience.liveness_timeout);
        if live {
            self.send(&[NotifyState::Watchdog]);
        } else if self.live {
            tracing::error!(
                in_flight = health.progress().in_flight(),
                liveness_timeout_seconds = self.patience.liveness_timeout.as_secs_f64(),
                "work in hand makes no progress: the watchdog isn't fed any more"
            );
        }
        self.live = live;
    }

    fn send(&mut self, news: &[NotifyState<'_>]) {
        let result = (self.send)(news);
        if let Err(error) = &result
            && !self.failed
        {
            tracing::warn!(%error, "the service manager can't be told");
        }
        self.failed = result.is_err();
    }
}

fn interval(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::health::Dependency;
    use crate::telemetry::metrics::Metrics;

    const PATIENCE: Patience =
        Patience { liveness_timeout: Duration::from_millis(50), drain_timeout: Duration::from_secs(20) };

    struct Daemon {
        health: Arc<Health>,
        sent: Arc<Mutex<Vec<String>>>,
        stop: CancellationToken,
    }

    impl Drop for Daemon {
        fn drop(&mut self) {
            self.stop.cancel();
        }
    }

    fn daemon(watchdog: Option<Duration>, start_grace: Duration) -> Daemon {
        let health = Health::new(Arc::new(Metrics::register(1)));
        let sent = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&sent);
        let send: Box<Tell> = Box::new(move |news| {
            log.lock().extend(news.iter().map(ToString::to_string));
            Ok(())
        });
        let stop = CancellationToken::new();
        let manager = ServiceManager { send, watchdog, start_grace };
        tokio::spawn(manager.follow(Arc::clone(&health), PATIENCE, stop.clone()));
        Daemon { health, sent, stop }
    }

    impl Daemon {
        fn all_up(&self) {
            for &dependency in Dependency::ALL {
                self.health.set_up(dependency);
            }
        }

        fn has(&self, message: &str) -> bool {
            self.sent.lock().iter().any(|sent| sent == message)
        }

        async fn receives(&self, message: &str) {
            let wait = async {
                while !self.has(message) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            let waited = tokio::time::timeout(Duration::from_secs(5), wait).await;
            assert!(waited.is_ok(), "{message} is not among {:?}", self.sent.lock());
        }
    }

    #[tokio::test]
    async fn ready_is_told_when_it_is_and_stopping_with_the_time_it_takes() {
        let daemon = daemon(None, Duration::from_secs(60));
        daemon.receives("STATUS=waiting (postgres: not connected yet; broker_intake: not connected yet; broker_relay: not connected yet)").await;
        assert!(!daemon.has("READY=1"));
        daemon.all_up();
        daemon.receives("READY=1").await;
        daemon.receives("STATUS=ready").await;
        daemon.health.progress().entered(3);
        daemon.health.drain();
        daemon.receives("STOPPING=1").await;
        daemon.receives("EXTEND_TIMEOUT_USEC=30000000").await;
        daemon.receives("STATUS=draining (3 in flight)").await;
        daemon.health.progress().settled(2);
        daemon.receives("STATUS=draining (1 in flight)").await;
        assert!(!daemon.has("WATCHDOG=1"), "no watchdog was asked for");
    }

    #[tokio::test]
    async fn a_server_that_is_away_does_not_hold_ready_back_for_ever() {
        let daemon = daemon(None, Duration::ZERO);
        daemon.receives("READY=1").await;
        assert!(!daemon.health.readiness().ready);
    }

    #[tokio::test]
    async fn the_watchdog_is_fed_only_while_live() {
        let daemon = daemon(Some(Duration::from_millis(10)), Duration::ZERO);
        daemon.receives("WATCHDOG=1").await;
        daemon.health.progress().entered(1);
        tokio::time::sleep(PATIENCE.liveness_timeout + Duration::from_millis(30)).await;
        daemon.sent.lock().clear();
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert!(!daemon.has("WATCHDOG=1"), "fed while stuck");
        daemon.health.progress().settled(1);
        daemon.receives("WATCHDOG=1").await;
    }
}
