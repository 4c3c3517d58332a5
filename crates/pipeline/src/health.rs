//! Readiness and liveness of the daemon, for `/livez`, `/readyz`, systemd and the log.
//!
//! The daemon is *ready* if it takes tasks: all dependencies are up, intake is not paused, and no drain has begun. It
//! is *live* if the process works: a daemon that waits for a server is live, because a restart would not help.
//!
//! | event | reported by | ready | live |
//! |---|---|---|---|
//! | a server is unavailable | its supervisor: [`Health::set_down`], [`Progress::tick`] with every probe | no | yes |
//! | nothing can be committed | the committer: [`Health::pause`], [`Progress::tick`] with every attempt | no | yes |
//! | the broker blocks publishing | the relay: [`Health::block`] | yes | yes |
//! | a reflex pauses intake | [`crate::reflex`]: [`Health::act`] | no | yes |
//! | SIGTERM | the daemon: [`Health::drain`] | no | yes |
//! | an operator drains the daemon | the daemon: [`Health::begin_maintenance`] | no | yes |
//! | tasks in flight without progress for `liveness_timeout` | nobody: [`Health::live`] computes it | – | no |

mod latches;
mod progress;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use metrics::Gauge;
use parking_lot::Mutex;
use tokio::sync::watch;

pub use self::latches::{Action, Condition, DependencyState, Outage, Phase, Readiness};
use self::latches::{Down, Latches};
pub use self::progress::Progress;
pub use crate::labels::{Dependency, Reflex};
use crate::metrics::Metrics;

/// The state of the daemon, shared by its parts. Each change is logged once, sets its gauge, and wakes subscribers.
pub struct Health {
    latches: Mutex<Latches>,
    progress: Progress,
    metrics: Arc<Metrics>,
    changed: watch::Sender<()>,
}

impl Health {
    /// Begins with all dependencies down and nothing in flight.
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        for &dependency in Dependency::ALL {
            // No alert's comparison matches NaN.
            let unused = dependency == Dependency::BrokerStream;
            metrics.dependency_up(dependency).set(if unused { f64::NAN } else { 0.0 });
        }
        Arc::new(Self {
            latches: Mutex::new(Latches::new(Timestamp::now())),
            progress: Progress::new(Instant::now()),
            metrics,
            changed: watch::Sender::new(()),
        })
    }

    /// Waits for the stream, too, before the daemon is ready.
    pub fn use_stream(&self) {
        self.latches.lock().add(Dependency::BrokerStream, Timestamp::now());
        self.change(self.metrics.dependency_up(Dependency::BrokerStream), 0.0);
    }

    /// Reports that a dependency is available.
    pub fn set_up(&self, dependency: Dependency) {
        let now = Timestamp::now();
        let mut latches = self.latches.lock();
        let Some(down_since) = latches.set_up(dependency, now) else { return };
        self.change(self.metrics.dependency_up(dependency), 1.0);
        tracing::info!(dependency = dependency.name(), down_seconds = seconds(down_since, now), "dependency is up");
    }

    /// Reports that a dependency is unavailable, with a reason that an operator can act upon.
    pub fn set_down(&self, dependency: Dependency, outage: impl Into<Outage>) {
        let outage = outage.into();
        let reason = outage.reason.clone();
        let refused = outage.refused;
        let mut latches = self.latches.lock();
        let down = latches.set_down(dependency, outage, Timestamp::now());
        if down != Down::Known {
            self.change(self.metrics.dependency_up(dependency), 0.0);
        }
        match down {
            Down::Known => {}
            Down::OtherReason => tracing::debug!(dependency = dependency.name(), reason, "dependency is still down"),
            Down::News if refused => {
                tracing::error!(
                    dependency = dependency.name(),
                    reason,
                    "dependency refuses access: somebody has to act"
                );
            }
            Down::News => tracing::warn!(dependency = dependency.name(), reason, "dependency is down"),
        }
    }

    /// Reports that intake is paused because nothing can be committed.
    pub fn pause(&self, reason: impl AsRef<str>) {
        let (reason, mut latches) = (reason.as_ref(), self.latches.lock());
        if latches.paused.begin(reason, Timestamp::now()) {
            self.change(&self.metrics.paused, 1.0);
            tracing::warn!(reason, "intake is paused");
        }
    }

    /// Reports that intake goes on after a pause.
    pub fn resume(&self) {
        let mut latches = self.latches.lock();
        if let Some(since) = latches.paused.end() {
            self.change(&self.metrics.paused, 0.0);
            tracing::info!(paused_seconds = seconds(since, Timestamp::now()), "intake goes on");
        }
    }

    /// Whether intake is paused.
    pub fn is_paused(&self) -> bool {
        self.latches.lock().paused.holds()
    }

    /// Reports that a reflex acts, of a publisher if it is about one.
    pub fn act(&self, reflex: Reflex, publisher: &str, reason: &str) {
        let (publisher, reason) = (publisher.to_owned(), reason.to_owned());
        let (pauses, since) = (reflex.pauses(), Timestamp::now());
        self.latches.lock().actions.push(Action { reflex: reflex.name(), publisher, pauses, reason, since });
        self.changed.send_replace(());
    }

    /// Reports that what a reflex did is undone.
    pub fn undo(&self, reflex: Reflex, publisher: &str) {
        let is = |action: &Action| action.reflex == reflex.name() && action.publisher == publisher;
        self.latches.lock().actions.retain(|action| !is(action));
        self.changed.send_replace(());
    }

    /// Whether a reflex keeps tasks from being taken.
    pub fn is_held(&self) -> bool {
        self.latches.lock().is_held()
    }

    /// Waits until a reflex keeps tasks from being taken.
    pub async fn held(&self) {
        let mut changed = self.subscribe();
        while !self.is_held() {
            // The sender can't be dropped: `self` owns it.
            let _ = changed.changed().await;
        }
    }

    /// Reports that the broker accepts no events (`connection.blocked`).
    pub fn block(&self, reason: impl AsRef<str>) {
        let (reason, mut latches) = (reason.as_ref(), self.latches.lock());
        if latches.broker_blocked.begin(reason, Timestamp::now()) {
            self.change(&self.metrics.broker_blocked, 1.0);
            tracing::warn!(reason, "the broker blocks publishing: events stay in the outbox");
        }
    }

    /// Reports that the broker accepts events again, or that the blocked connection is closed.
    pub fn unblock(&self) {
        let mut latches = self.latches.lock();
        if let Some(since) = latches.broker_blocked.end() {
            self.change(&self.metrics.broker_blocked, 0.0);
            tracing::info!(blocked_seconds = seconds(since, Timestamp::now()), "the broker takes events again");
        }
    }

    /// Reports that an operator has the daemon take no more tasks.
    pub fn begin_maintenance(&self) {
        let mut latches = self.latches.lock();
        if latches.maintenance.begin(DRAINED_BY, Timestamp::now()) {
            latches.drained = false;
            self.change(&self.metrics.maintenance, 1.0);
            tracing::info!(
                in_flight = self.progress.in_flight(),
                "an operator drains this daemon: it takes no more tasks"
            );
        }
    }

    /// Reports that everything is finished that was in hand when the maintenance began.
    pub fn set_drained(&self) {
        let mut latches = self.latches.lock();
        if latches.maintenance.holds() && !std::mem::replace(&mut latches.drained, true) {
            self.changed.send_replace(());
            tracing::info!("drained: it waits until it is resumed or stopped");
        }
    }

    /// Reports that the daemon takes tasks again.
    pub fn end_maintenance(&self) {
        let mut latches = self.latches.lock();
        if let Some(since) = latches.maintenance.end() {
            self.change(&self.metrics.maintenance, 0.0);
            tracing::info!(
                drained_seconds = seconds(since, Timestamp::now()),
                "resumed by an operator: it takes tasks again"
            );
        }
    }

    /// Reports that the drain begins. The daemon is never ready again.
    pub fn drain(&self) {
        if !std::mem::replace(&mut self.latches.lock().draining, true) {
            self.changed.send_replace(());
            tracing::info!(in_flight = self.progress.in_flight(), "draining");
        }
    }

    /// Returns whether the daemon takes tasks, and the reasons if it does not.
    pub fn readiness(&self) -> Readiness {
        self.latches.lock().readiness()
    }

    /// Returns the count of deliveries in flight and the time of the last progress.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Whether nothing is in flight, or the last progress was within the timeout.
    pub fn live(&self, timeout: Duration) -> bool {
        self.progress.live(Instant::now(), timeout)
    }

    /// Returns a receiver that is woken at each change of [`Health::readiness`].
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Sets a gauge and wakes subscribers. Called with the latches locked, so that the last change sets the gauge last.
    fn change(&self, gauge: &Gauge, value: f64) {
        gauge.set(value);
        self.changed.send_replace(());
    }
}

/// The reason of maintenance.
const DRAINED_BY: &str = "drained by an operator: `settled resume` has it take tasks again";

/// Returns the whole seconds between two times; 0 if the clock went back.
fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    SignedDuration::from_secs(0).max(to.duration_since(from)).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

    fn health() -> (Arc<Health>, PrometheusHandle) {
        let recorder = PrometheusBuilder::new().build_recorder();
        let metrics = Arc::new(metrics::with_local_recorder(&recorder, || Metrics::register(1)));
        (Health::new(metrics), recorder.handle())
    }

    #[test]
    fn a_dependency_sets_its_gauge_and_wakes_subscribers() {
        let (health, exporter) = health();
        let mut changes = health.subscribe();
        assert!(exporter.render().contains(r#"settled_dependency_up{dependency="postgres"} 0"#));

        health.set_up(Dependency::Postgres);
        assert!(changes.has_changed().expect("health is there"));
        changes.mark_unchanged();
        health.set_up(Dependency::Postgres);
        assert!(!changes.has_changed().expect("health is there"), "nothing changed");
        assert!(exporter.render().contains(r#"settled_dependency_up{dependency="postgres"} 1"#));

        health.drain();
        assert!(changes.has_changed().expect("health is there"));
        changes.mark_unchanged();
        health.drain();
        assert!(!changes.has_changed().expect("health is there"), "it has begun before");

        health.set_down(Dependency::Postgres, "refused");
        assert!(exporter.render().contains(r#"settled_dependency_up{dependency="postgres"} 0"#));
    }

    #[test]
    fn pauses_and_blocks_set_their_gauges() {
        let (health, exporter) = health();
        health.pause("read-only");
        health.block("memory alarm");
        assert!(health.is_paused());
        let text = exporter.render();
        assert!(text.contains("settled_paused 1") && text.contains("settled_broker_blocked 1"), "{text}");
        health.resume();
        health.unblock();
        let text = exporter.render();
        assert!(text.contains("settled_paused 0") && text.contains("settled_broker_blocked 0"), "{text}");
    }
}
