//! What the daemon knows about its own state, for `/livez`, `/readyz`, systemd and the log.
//!
//! *Ready* asks whether tasks can be taken: every dependency answers, intake isn't paused, no drain
//! has begun. *Live* asks whether the process still works: a daemon that waits for a server is
//! live, and restarting it would help nobody.
//!
//! | happens | who says so | ready | live |
//! |---|---|---|---|
//! | a server is away | its supervisor: [`Health::set_down`], [`Progress::tick`] with every probe | no | yes |
//! | nothing can be committed | the store's user: [`Health::pause`], [`Progress::tick`] likewise | no | yes |
//! | the broker blocks publishing | the relay: [`Health::block`] | yes | yes |
//! | SIGTERM | the daemon: [`Health::drain`] | no | yes |
//! | work in hand, nothing done for `liveness_timeout` | nobody: [`Health::live`] finds out | – | no |

mod latches;
mod progress;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use metrics::Gauge;
use parking_lot::Mutex;
use tokio::sync::watch;

pub use self::latches::{Condition, DependencyState, Phase, Readiness};
pub use self::progress::Progress;
pub use crate::telemetry::labels::Dependency;
use crate::telemetry::metrics::Metrics;
use latches::{Down, Latches};

/// The daemon's state. Shared; every change is logged once, counted and told to subscribers.
pub struct Health {
    latches: Mutex<Latches>,
    progress: Progress,
    metrics: Arc<Metrics>,
    changed: watch::Sender<()>,
}

impl Health {
    /// Everything is down, nothing is in flight.
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        for &dependency in Dependency::ALL {
            metrics.dependency_up(dependency).set(0.0);
        }
        Arc::new(Self {
            latches: Mutex::new(Latches::new(Timestamp::now())),
            progress: Progress::new(Instant::now()),
            metrics,
            changed: watch::Sender::new(()),
        })
    }

    /// The dependency answers.
    pub fn set_up(&self, dependency: Dependency) {
        let now = Timestamp::now();
        let mut latches = self.latches.lock();
        let Some(down_since) = latches.set_up(dependency, now) else { return };
        self.change(self.metrics.dependency_up(dependency), 1.0);
        tracing::info!(dependency = dependency.name(), down_seconds = seconds(down_since, now), "dependency is up");
    }

    /// The dependency doesn't answer, for a reason that an operator can act upon.
    pub fn set_down(&self, dependency: Dependency, reason: impl AsRef<str>) {
        let reason = reason.as_ref();
        let mut latches = self.latches.lock();
        let down = latches.set_down(dependency, reason, Timestamp::now());
        if down != Down::Known {
            self.change(self.metrics.dependency_up(dependency), 0.0);
        }
        match down {
            Down::Known => {}
            Down::OtherReason => tracing::debug!(dependency = dependency.name(), reason, "dependency is still down"),
            Down::News => tracing::warn!(dependency = dependency.name(), reason, "dependency is down"),
        }
    }

    /// Intake stops because nothing can be committed.
    pub fn pause(&self, reason: impl AsRef<str>) {
        let reason = reason.as_ref();
        let mut latches = self.latches.lock();
        if latches.pause(reason, Timestamp::now()) {
            self.change(&self.metrics.paused, 1.0);
            tracing::warn!(reason, "intake is paused");
        }
    }

    /// Intake goes on.
    pub fn resume(&self) {
        let mut latches = self.latches.lock();
        if let Some(pause) = latches.resume() {
            self.change(&self.metrics.paused, 0.0);
            tracing::info!(paused_seconds = seconds(pause.since, Timestamp::now()), "intake goes on");
        }
    }

    /// Whether intake is paused.
    pub fn is_paused(&self) -> bool {
        self.latches.lock().is_paused()
    }

    /// The broker takes no events (`connection.blocked`).
    pub fn block(&self, reason: impl AsRef<str>) {
        let reason = reason.as_ref();
        let mut latches = self.latches.lock();
        if latches.block(reason, Timestamp::now()) {
            self.change(&self.metrics.broker_blocked, 1.0);
            tracing::warn!(reason, "the broker blocks publishing: events stay in the outbox");
        }
    }

    /// The broker takes events again, or the blocked connection is gone.
    pub fn unblock(&self) {
        let mut latches = self.latches.lock();
        if let Some(block) = latches.unblock() {
            self.change(&self.metrics.broker_blocked, 0.0);
            tracing::info!(blocked_seconds = seconds(block.since, Timestamp::now()), "the broker takes events again");
        }
    }

    /// The drain begins. It is not ready from here on.
    pub fn drain(&self) {
        if self.latches.lock().drain() {
            self.changed.send_replace(());
            tracing::info!(in_flight = self.progress.in_flight(), "draining");
        }
    }

    /// Whether tasks are taken, and why not.
    pub fn readiness(&self) -> Readiness {
        self.latches.lock().readiness()
    }

    /// What moves, and what is in flight.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Whether nothing is in flight or something got done within the timeout.
    pub fn live(&self, timeout: Duration) -> bool {
        self.progress.live(Instant::now(), timeout)
    }

    /// Told of every change of [`Health::readiness`].
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Called with the latches locked, so that the gauge ends at the last value set.
    fn change(&self, gauge: &Gauge, value: f64) {
        gauge.set(value);
        self.changed.send_replace(());
    }
}

/// Whole seconds between two times.
fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    SignedDuration::from_secs(0).max(to.duration_since(from)).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::exporter::{Exporter, recorder};

    fn health() -> (Arc<Health>, Exporter) {
        let recorder = recorder();
        let metrics = Arc::new(metrics::with_local_recorder(&recorder, || Metrics::register(1)));
        (Health::new(metrics), Exporter::of(recorder.handle()))
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

    #[test]
    fn work_that_does_not_move_is_not_live() {
        let (health, _) = health();
        assert!(health.live(Duration::ZERO));
        health.progress().entered(1);
        std::thread::sleep(Duration::from_millis(5));
        assert!(!health.live(Duration::from_millis(1)));
        health.progress().settled(1);
        assert!(health.live(Duration::ZERO));
    }
}
