//! The daemon's row in the registry of daemons (`settled instances`): a lease, what it does, and whether an operator has
//! drained it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use settled_pipeline::health::{Health, Phase};
use settled_pipeline::maintenance::Maintenance;
use settled_store::{Activity, PostgresInstances, Registration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::lifecycle::host_name;

/// Interval between two renewals, which is how long a request to drain waits at most.
const INTERVAL: Duration = Duration::from_secs(2);

/// Interval while the daemon is on its way to being drained, which somebody waits for.
const BUSY_INTERVAL: Duration = Duration::from_millis(200);

/// How often the rows of daemons that died long ago are deleted, beside at each start.
const FORGET_EVERY: Duration = Duration::from_secs(3600);

/// Keeps the daemon registered, and follows what its row says.
pub(super) struct Registrar<F> {
    instances: PostgresInstances,
    about: Registration,
    health: Arc<Health>,
    maintenance: Maintenance,
    is_idle: F,
    id: Option<i64>,
}

impl<F: Fn() -> bool> Registrar<F> {
    /// Creates it for a daemon whose admin server listens at `admin`. `is_idle` tells whether everything is finished
    /// that was in hand when the maintenance began.
    pub(super) fn new(
        instances: PostgresInstances,
        admin: SocketAddr,
        health: Arc<Health>,
        maintenance: Maintenance,
        is_idle: F,
    ) -> Self {
        let host = host_name();
        let about = Registration { host, pid: std::process::id(), version: crate::VERSION, admin: admin.to_string() };
        Self { instances, about, health, maintenance, is_idle, id: None }
    }

    /// Runs until stopped, and deletes the row then. While the database is away, the last request stands.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut forgotten = Instant::now();
        while !stop.is_cancelled() {
            self.notice_idleness();
            self.renew().await;
            if forgotten.elapsed() > FORGET_EVERY {
                forgotten = Instant::now();
                let _ = self.instances.forget().await.inspect_err(|error| debug!(%error, "old rows stay"));
            }
            let interval = if self.health.readiness().status == Phase::Draining { BUSY_INTERVAL } else { INTERVAL };
            stop.run_until_cancelled(tokio::time::sleep(interval)).await;
        }
        if let Some(id) = self.id {
            let _ = self.instances.remove(id).await.inspect_err(|error| debug!(%error, "its lease runs out"));
        }
    }

    fn notice_idleness(&self) {
        if (self.is_idle)() {
            self.health.set_drained();
        }
    }

    /// Renews the lease, or registers the daemon. What fails is tried again: no payment depends on it.
    async fn renew(&mut self) {
        let activity = self.activity();
        let renewed = match self.id {
            None => self.instances.register(&self.about, &activity).await.map(|id| {
                self.id = Some(id);
                tracing::info!(id, "registered: `settled instances` lists it");
            }),
            Some(id) => self.instances.renew(id, &activity).await.map(|drain| match drain {
                Some(drain) => self.follow(drain),
                None => {
                    warn!(id, "the daemon's row in the registry is gone: it registers again");
                    self.id = None;
                }
            }),
        };
        let _ = renewed.inspect_err(|error| debug!(%error, "the lease was not renewed"));
    }

    fn follow(&self, drain: bool) {
        self.maintenance.set(drain);
        if drain {
            self.health.begin_maintenance();
        } else {
            self.health.end_maintenance();
        }
    }

    fn activity(&self) -> Activity {
        let readiness = self.health.readiness();
        let reasons = readiness.reasons();
        Activity {
            state: match readiness.status {
                Phase::Ready => "running",
                other => other.name(),
            },
            reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
            in_flight: self.health.progress().in_flight(),
            is_drained: self.maintenance.is_on(),
        }
    }
}
