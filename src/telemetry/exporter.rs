//! The Prometheus recorder: buckets, installation, upkeep and rendering.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use parking_lot::Mutex;
use settled_pipeline::metrics::{BATCH_SIZE_NAME, Metrics};
use tokio_util::sync::CancellationToken;

use super::process;

/// Upper bounds of every histogram of seconds: 50 µs to 60 s.
const SECONDS_BUCKETS: [f64; 19] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0, 60.0,
];

/// Upper bounds of the batch size, in tasks.
const BATCH_BUCKETS: [f64; 12] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0];

/// How often observations are moved from the histograms' buffers into their buckets. Without it
/// the buffers grow for ever; at 50,000 observations a second this keeps each under a megabyte.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(2);

/// A process can have one recorder only, so tests in one process share it.
static INSTALLED: OnceLock<PrometheusHandle> = OnceLock::new();

/// Renders the metrics in Prometheus' text format.
pub struct Exporter {
    handle: PrometheusHandle,
    /// Run before every scrape, to set gauges.
    on_scrape: Mutex<Vec<Box<dyn Fn() + Send + Sync>>>,
}

impl Exporter {
    /// Installs the process's recorder unless it is installed already. Call before [`Metrics::register`].
    pub fn install() -> Arc<Self> {
        let handle = INSTALLED.get_or_init(|| {
            let recorder = recorder();
            let handle = recorder.handle();
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::error!("another metrics recorder is installed: /metrics will be empty");
            }
            handle
        });
        Arc::new(Self::new(handle.clone()))
    }

    fn new(handle: PrometheusHandle) -> Self {
        Self { handle, on_scrape: Mutex::new(Vec::new()) }
    }

    /// Calls `set_gauges` before every scrape. It must not block.
    pub fn on_scrape(&self, set_gauges: impl Fn() + Send + Sync + 'static) {
        self.on_scrape.lock().push(Box::new(set_gauges));
    }

    /// Updates the metrics about the process (CPU, memory, file descriptors) before every scrape.
    pub fn watch_process(&self, metrics: Arc<Metrics>) {
        process::set_start_time(&metrics);
        self.on_scrape(move || process::update(&metrics));
    }

    pub fn render(&self) -> String {
        for set_gauges in self.on_scrape.lock().iter() {
            set_gauges();
        }
        self.handle.render()
    }

    /// Keeps the recorder's memory bounded until `stop` is canceled. Spawn it once.
    pub async fn upkeep(self: Arc<Self>, stop: CancellationToken) {
        let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
        while stop.run_until_cancelled(interval.tick()).await.is_some() {
            self.handle.run_upkeep();
        }
    }
}

/// Returns a recorder whose histograms have buckets; without buckets they would be exported as summaries.
fn recorder() -> PrometheusRecorder {
    let with_buckets = PrometheusBuilder::new()
        .set_buckets(&SECONDS_BUCKETS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Full(BATCH_SIZE_NAME.to_owned()), &BATCH_BUCKETS));
    with_buckets.expect("buckets are not empty").build_recorder()
}

#[cfg(test)]
mod tests {
    use settled_core::contract::{DeadReason, EventKind, Rejection, TaskType};
    use settled_pipeline::labels::Outcome;
    use settled_pipeline::metrics::{ALL, Kind, observe};

    use super::*;

    fn exported() -> (Exporter, Arc<Metrics>) {
        let recorder = recorder();
        let metrics = metrics::with_local_recorder(&recorder, || {
            let metrics = Metrics::register(2);
            metrics.held_amount("USD").set(0.0);
            metrics.disk_free_ratio("/var").set(0.5);
            Arc::new(metrics)
        });
        (Exporter::new(recorder.handle()), metrics)
    }

    #[test]
    fn every_described_metric_is_exported_and_every_exported_one_is_described() {
        let (exporter, metrics) = exported();
        exporter.watch_process(Arc::clone(&metrics));
        for histogram in [
            &metrics.batch_size,
            &metrics.transaction_seconds,
            &metrics.publish_to_commit_seconds,
            &metrics.receive_to_commit_seconds,
            &metrics.event_confirm_seconds,
        ] {
            histogram.record(1.0);
        }
        let text = exporter.render();
        for description in ALL {
            let kind = match description.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            assert!(text.contains(&format!("# TYPE {} {kind}\n", description.name)), "{}:\n{text}", description.name);
            assert!(text.contains(&format!("# HELP {} {}\n", description.name, description.help)), "{text}");
        }
        assert_eq!(text.matches("# TYPE ").count(), ALL.len(), "{text}");
    }

    #[test]
    fn names_follow_prometheus_conventions() {
        for description in ALL {
            assert_eq!(description.name.ends_with("_total"), description.kind == Kind::Counter, "{}", description.name);
        }
    }

    #[test]
    fn labels_lead_to_their_own_series() {
        let (exporter, metrics) = exported();
        metrics.outcome(Some(TaskType::Transfer), Outcome::Rejected(Rejection::InsufficientFunds)).increment(3);
        metrics.outcome(None, Outcome::DeadLettered(DeadReason::Malformed)).increment(2);
        metrics.outcome(Some(TaskType::OpenAccount), Outcome::Settled).increment(7);
        metrics.events_published(EventKind::PaymentSettled).increment(5);
        metrics.lane_depth(1).set(9.0);
        let text = exporter.render();
        for line in [
            r#"settled_outcomes_total{type="transfer",outcome="rejected",reason="insufficient_funds"} 3"#,
            r#"settled_outcomes_total{type="unknown",outcome="dead_lettered",reason="malformed"} 2"#,
            r#"settled_outcomes_total{type="open_account",outcome="settled",reason="none"} 7"#,
            r#"settled_outcomes_total{type="transfer",outcome="settled",reason="none"} 0"#,
            r#"settled_events_published_total{type="payment.settled"} 5"#,
            r#"settled_lane_depth{lane="1"} 9"#,
            r#"settled_reconnects_total{connection="relay"} 0"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains(r#"type="unknown",outcome="settled""#), "{text}");
    }

    #[test]
    fn histograms_have_buckets_below_a_millisecond() {
        let (exporter, metrics) = exported();
        observe(&metrics.transaction_seconds, Duration::from_micros(80));
        metrics.batch_size.record(150.0);
        let text = exporter.render();
        for line in [
            r#"settled_transaction_seconds_bucket{le="0.00005"} 0"#,
            r#"settled_transaction_seconds_bucket{le="0.0001"} 1"#,
            r#"settled_batch_size_bucket{le="100"} 0"#,
            r#"settled_batch_size_bucket{le="200"} 1"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("quantile"), "{text}");
    }

    #[test]
    fn gauges_are_looked_at_on_scrape() {
        let (exporter, metrics) = exported();
        exporter.on_scrape(move || metrics.ack_lag.set(4.0));
        assert!(exporter.render().contains("settled_ack_lag 4\n"));
    }

    #[test]
    fn installing_twice_is_the_same_recorder() {
        let first = Exporter::install();
        Metrics::register(1).bisections.increment(1);
        assert!(Exporter::install().render().contains("settled_bisections_total"));
        assert!(first.render().contains("settled_bisections_total"));
    }

    #[tokio::test]
    async fn upkeep_ends_when_told() {
        let (exporter, _) = exported();
        let stop = CancellationToken::new();
        let upkeep = tokio::spawn(Arc::new(exporter).upkeep(stop.clone()));
        tokio::task::yield_now().await;
        stop.cancel();
        upkeep.await.expect("ends");
    }
}
