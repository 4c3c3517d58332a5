//! Reloads the configuration: validates all of it, then changes what can change at run time, or nothing at all.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use settled_amqp::BrokerSettings;
use settled_core::contract::Authority;
use settled_core::ledger::Rules;
use settled_pipeline::labels::ReloadResult;
use settled_pipeline::metrics::Metrics;
use settled_pipeline::reflex::ReflexSettings;
use settled_pipeline::retry::RetrySettings;
use settled_pipeline::settings::Live;
use settled_store::PostgresSettings;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

use crate::config::{Changes, Config, ConfigError, Problem};
use crate::lifecycle::ReloadRequests;
use crate::lifecycle::systemd::Reload;
use crate::telemetry::logging;

/// The settings that the parts of a running daemon share with whoever reloads them.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) authority: Live<Authority>,
    pub(super) rules: Live<Rules>,
    pub(super) retry: Live<RetrySettings>,
    pub(super) liveness_timeout: Live<Duration>,
    pub(super) postgres: Live<PostgresSettings>,
    pub(super) broker: Live<BrokerSettings>,
    pub(super) reflexes: Live<ReflexSettings>,
}

impl Running {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            authority: config.authority().into(),
            rules: config.payments.rules().into(),
            retry: config.retry.clone().into(),
            liveness_timeout: config.admin.liveness_timeout.into(),
            postgres: config.postgres.clone().into(),
            broker: config.broker.clone().into(),
            reflexes: config.reflexes.clone().into(),
        }
    }

    fn set(&self, config: &Config) {
        self.authority.set(config.authority());
        self.rules.set(config.payments.rules());
        self.retry.set(config.retry.clone());
        self.liveness_timeout.set(config.admin.liveness_timeout);
        self.postgres.set(config.postgres.clone());
        self.broker.set(config.broker.clone());
        self.reflexes.set(config.reflexes.clone());
    }
}

/// Reloads the configuration of a running daemon.
pub(super) struct Reloader {
    /// The configuration in effect.
    config: Config,
    running: Running,
    metrics: Arc<Metrics>,
    /// Told of every reload.
    news: mpsc::Sender<Reload>,
}

/// A configuration that was read and found valid, and what it changes.
struct Accepted {
    config: Config,
    changes: Changes,
    filter: EnvFilter,
}

impl Reloader {
    /// Creates a reloader of `config`, which `running` was made of.
    pub(super) fn new(config: Config, running: Running, metrics: Arc<Metrics>, news: mpsc::Sender<Reload>) -> Self {
        let reloader = Self { config, running, metrics, news };
        reloader.count_publishers();
        reloader.set_success(true);
        reloader
    }

    /// Reloads at each request until `drain` is cancelled.
    pub(super) async fn follow(mut self, requests: ReloadRequests, drain: CancellationToken) {
        while drain.run_until_cancelled(requests.requested()).await.is_some() {
            self.tell(Reload::begins()).await;
            self.reload().await;
            self.tell(Reload::Ended).await;
        }
    }

    async fn tell(&self, news: Reload) {
        // Nobody listens any more at the end of a drain.
        let _ = self.news.send(news).await;
    }

    async fn reload(&mut self) {
        let before = self.config.clone();
        // Reading files blocks. The task fails only if the process ends.
        let Ok(read) = tokio::task::spawn_blocking(move || accept(&before)).await else { return };
        match read {
            Ok(Accepted { config, changes, filter }) => {
                self.running.set(&config);
                self.config = config;
                self.count_publishers();
                logging::set_filter(filter);
                self.set_success(true);
                self.metrics.config_reloads(ReloadResult::Success).increment(1);
                log(&changes);
            }
            Err(error) => {
                self.set_success(false);
                self.metrics.config_reloads(ReloadResult::Failure).increment(1);
                for problem in error.problems() {
                    error!(%problem, "the configuration has a problem");
                }
                error!("the configuration was not reloaded: everything stays as it was");
            }
        }
    }

    fn count_publishers(&self) {
        let names = self.config.publishers.iter().map(|publisher| &publisher.name);
        self.metrics.set_publishers(names, self.config.authority.verified);
    }

    fn set_success(&self, success: bool) {
        self.metrics.config_last_reload_successful.set(f64::from(u8::from(success)));
        if success {
            let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.metrics.config_last_reload_success.set(since_epoch.as_secs_f64());
        }
    }
}

/// Reads the configuration again and checks all of it, as `settled check` does, before anything changes.
fn accept(before: &Config) -> Result<Accepted, ConfigError> {
    let new = before.load_again()?;
    new.check_files()?;
    let (config, changes) = before.reloaded(&new)?;
    let filter = logging::filter(&config.log.level).map_err(|error| {
        let (origin, key) = (config.origin("log.level"), "log.level".to_owned());
        let remedy = "write off, error, warn, info, debug or trace".to_owned();
        ConfigError::Problems(vec![Problem { origin, key, message: error.to_string(), remedy }])
    })?;
    Ok(Accepted { config, changes, filter })
}

fn log(Changes { applied, restart }: &Changes) {
    if applied.is_empty() {
        info!("the configuration was reloaded, and nothing has changed");
    } else {
        info!(changed = applied.join(", "), "the configuration was reloaded");
    }
    if !restart.is_empty() {
        warn!(keys = restart.join(", "), "keys of the configuration have changed that need a restart");
    }
}

#[cfg(test)]
mod tests;
