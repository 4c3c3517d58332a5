//! Reports the daemon's state to systemd (`sd_notify(3)`).
//!
//! | message | when |
//! |---|---|
//! | `READY=1` | first ready, or [`START_GRACE`] after the start if a server is unavailable |
//! | `STATUS=` | the state changes; `systemctl status` shows it |
//! | `WATCHDOG=1` | twice per `WatchdogSec=`, while the pipeline is live |
//! | `RELOADING=1` | a reload begins; with it `MONOTONIC_USEC=`, and `READY=1` when it has ended, well or not |
//! | `STOPPING=1` | the drain begins; with it `EXTEND_TIMEOUT_USEC=`, so that no `TimeoutStopSec=` cuts it short |
//!
//! `READY=1` does not wait for the servers longer than that: `systemctl start` would hang, and systemd would then kill
//! a daemon that only waits for PostgreSQL or RabbitMQ.
//!
//! `NOTIFY_SOCKET` and `WATCHDOG_USEC` are read here (by `sd_notify`), not in `config`: systemd sets them for its
//! child; they are not settings. Without them nothing is sent.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use settled_pipeline::health::{Health, Readiness};
use settled_pipeline::settings::Live;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// How long `READY=1` waits for the servers.
pub const START_GRACE: Duration = Duration::from_secs(10);

/// How often the status is computed anew; a drain counts down without an event.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// How long stopping may take in addition to the drain.
const AFTER_DRAIN: Duration = Duration::from_secs(10);

type Notify = dyn Fn(&[NotifyState<'_>]) -> io::Result<()> + Send + Sync;

/// The service manager that started this process, if there is one.
pub struct ServiceManager {
    send: Box<Notify>,
    watchdog: Option<Duration>,
    start_grace: Duration,
}

/// Timeouts from the configuration that systemd has to know of.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// How long tasks may be in flight without progress before the watchdog is no longer fed.
    pub liveness_timeout: Live<Duration>,
    pub drain_timeout: Duration,
}

/// News of a reload of the configuration.
#[derive(Clone, Copy, Debug)]
pub enum Reload {
    /// It began at this time of the monotonic clock, in microseconds: systemd compares it with the time of its request.
    Began(i128),
    /// It has ended.
    Ended,
}

impl Reload {
    /// Returns the news that a reload begins now.
    pub fn begins() -> Self {
        match NotifyState::monotonic_usec_now() {
            Ok(NotifyState::MonotonicUsec(now)) => Self::Began(now),
            _ => Self::Began(0),
        }
    }
}

impl ServiceManager {
    pub fn from_environment() -> Self {
        Self {
            send: Box::new(sd_notify::notify),
            watchdog: sd_notify::watchdog_enabled().filter(|watchdog| !watchdog.is_zero()),
            start_grace: START_GRACE,
        }
    }

    /// Reports the daemon's state until `stop` is canceled. Spawn it once, on the runtime that does the work: a stuck
    /// runtime must not feed the watchdog.
    pub async fn follow(
        self,
        health: Arc<Health>,
        timeouts: Timeouts,
        mut reloads: mpsc::Receiver<Reload>,
        stop: CancellationToken,
    ) {
        let mut changes = health.subscribe();
        let mut notifier = Notifier::new(&*self.send, timeouts);
        let mut watchdog = self.watchdog.map(|watchdog| interval(watchdog / 2));
        let mut status = interval(STATUS_INTERVAL);
        let started = Instant::now();
        loop {
            let grace_is_over = started.elapsed() >= self.start_grace;
            notifier.state(&health.readiness(), health.progress().in_flight(), grace_is_over);
            tokio::select! {
                () = stop.cancelled() => return,
                // The sender lives in `health`, so this never ends.
                _ = changes.changed() => {}
                _ = status.tick() => {}
                Some(reload) = reloads.recv() => notifier.reload(reload),
                () = tick(&mut watchdog) => notifier.watchdog(&health),
            }
        }
    }
}

/// Sends what has changed since the last message.
struct Notifier<'a> {
    send: &'a Notify,
    timeouts: Timeouts,
    ready: bool,
    reloading: bool,
    stopping: bool,
    live: bool,
    status: String,
    /// The last message could not be sent; the log has said so.
    failed: bool,
}

impl<'a> Notifier<'a> {
    fn new(send: &'a Notify, timeouts: Timeouts) -> Self {
        let (ready, reloading, stopping, live, failed) = (false, false, false, true, false);
        Self { send, timeouts, ready, reloading, stopping, live, status: String::new(), failed }
    }

    fn state(&mut self, readiness: &Readiness, in_flight: usize, grace_is_over: bool) {
        let draining = readiness.stops;
        let status = if draining { format!("draining ({in_flight} in flight)") } else { readiness.summary() };
        let status = status.replace('\n', " ");
        let mut news = Vec::new();
        if draining && !self.stopping {
            self.stopping = true;
            let time = self.timeouts.drain_timeout.saturating_add(AFTER_DRAIN);
            let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
            news.extend([NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(micros)]);
        } else if !draining && !self.ready && (readiness.ready || grace_is_over) {
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

    /// Tells of a reload, unless the service is still starting or is stopping already.
    fn reload(&mut self, reload: Reload) {
        match reload {
            Reload::Began(at) if self.ready && !self.stopping => {
                self.reloading = true;
                self.send(&[NotifyState::Reloading, NotifyState::MonotonicUsec(at)]);
            }
            Reload::Ended if self.reloading && !self.stopping => {
                self.reloading = false;
                self.send(&[NotifyState::Ready]);
            }
            Reload::Began(_) | Reload::Ended => {}
        }
    }

    fn watchdog(&mut self, health: &Health) {
        let liveness_timeout = *self.timeouts.liveness_timeout.get();
        let live = health.live(liveness_timeout);
        if live {
            self.send(&[NotifyState::Watchdog]);
        } else if self.live {
            tracing::error!(
                in_flight = health.progress().in_flight(),
                liveness_timeout_seconds = liveness_timeout.as_secs_f64(),
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
    use settled_pipeline::health::Dependency;
    use settled_pipeline::metrics::Metrics;

    use super::*;

    const LIVENESS_TIMEOUT: Duration = Duration::from_millis(50);

    struct Daemon {
        health: Arc<Health>,
        sent: Arc<Mutex<Vec<String>>>,
        reloads: mpsc::Sender<Reload>,
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
        let send: Box<Notify> = Box::new(move |news| {
            log.lock().extend(news.iter().map(ToString::to_string));
            Ok(())
        });
        let stop = CancellationToken::new();
        let manager = ServiceManager { send, watchdog, start_grace };
        let timeouts = Timeouts { liveness_timeout: LIVENESS_TIMEOUT.into(), drain_timeout: Duration::from_secs(20) };
        let (reloads, news) = mpsc::channel(1);
        tokio::spawn(manager.follow(Arc::clone(&health), timeouts, news, stop.clone()));
        Daemon { health, sent, reloads, stop }
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
    async fn a_reload_is_told_with_its_time_and_its_end_once_the_service_is_ready() {
        let daemon = daemon(None, Duration::from_secs(60));
        for news in [Reload::begins(), Reload::Ended] {
            daemon.reloads.send(news).await.expect("followed");
        }
        daemon.all_up();
        daemon.receives("READY=1").await;
        assert!(!daemon.has("RELOADING=1"), "it was still starting");
        daemon.sent.lock().clear();
        daemon.reloads.send(Reload::Began(17)).await.expect("followed");
        daemon.receives("RELOADING=1").await;
        daemon.receives("MONOTONIC_USEC=17").await;
        assert!(!daemon.has("READY=1"), "it has not ended");
        daemon.reloads.send(Reload::Ended).await.expect("followed");
        daemon.receives("READY=1").await;
    }

    #[tokio::test]
    async fn the_watchdog_is_fed_only_while_live() {
        let daemon = daemon(Some(Duration::from_millis(10)), Duration::ZERO);
        daemon.receives("WATCHDOG=1").await;
        daemon.health.progress().entered(1);
        tokio::time::sleep(LIVENESS_TIMEOUT + Duration::from_millis(30)).await;
        daemon.sent.lock().clear();
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert!(!daemon.has("WATCHDOG=1"), "fed while stuck");
        daemon.health.progress().settled(1);
        daemon.receives("WATCHDOG=1").await;
    }
}
