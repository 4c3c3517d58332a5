//! Exports spans of sampled tasks to a collector of OpenTelemetry, as OTLP over HTTP.
//!
//! It has a thread and a runtime of its own, with which nothing else shares anything but the bounded queue of records. A
//! collector that is away, slow or silent costs the spans and nothing else. Without an endpoint there is no thread.

mod settings;
mod spans;

use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use anyhow::{Context, bail};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, header};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use settled_pipeline::labels::SpanResult;
use settled_pipeline::metrics::Metrics;
use settled_pipeline::traces::{Record, Traces};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::settings::Target;
pub use self::settings::{Endpoint, TraceSettings};
use self::spans::Names;
use crate::config::Config;
use crate::http;

/// Records that wait for the collector. A record has about 300 bytes, that of a batch up to 4 KiB more.
const WAITING: usize = 4096;

/// The most records in a request.
const SENT_TOGETHER: usize = 512;

/// How long a record waits for others, to be sent together.
const LINGER: Duration = Duration::from_millis(200);

/// The pause after a request that failed. Meanwhile records wait, and are dropped when there is no more room.
const PAUSE: Duration = Duration::from_secs(1);

/// Stops the thread that exports.
pub struct TraceExporter {
    stop: CancellationToken,
    ended: oneshot::Receiver<()>,
}

impl TraceExporter {
    /// Starts a thread that exports what is recorded in the returned [`Traces`]. Without an endpoint they are off.
    pub fn start(config: &Config, metrics: &Arc<Metrics>) -> io::Result<(Traces, Option<Self>)> {
        let settings = &config.traces;
        let Some(target) = settings.endpoint.target().cloned() else { return Ok((Traces::default(), None)) };
        let (traces, records) = Traces::queue(WAITING, metrics.spans(SpanResult::Dropped).clone());
        let (stop, (has_ended, ended)) = (CancellationToken::new(), oneshot::channel());
        let names = Names::new(&settings.service_name, &config.broker.queue, &config.events.exchange);
        let (timeout, metrics) = (settings.timeout, Arc::clone(metrics));
        let exporting = Exporting { target, timeout, names, records, metrics, stop: stop.clone(), outage: None };
        let runtime = Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("traces".to_owned()).spawn(move || {
            runtime.block_on(exporting.run());
            // Nobody waits for it any more if the daemon has ended.
            let _ = has_ended.send(());
            runtime.shutdown_background();
        })?;
        Ok((traces, Some(Self { stop, ended })))
    }

    /// Exports what is recorded, and ends.
    pub async fn finish(self) {
        self.stop.cancel();
        let _ = self.ended.await;
    }
}

/// What the thread has.
struct Exporting {
    target: Target,
    timeout: Duration,
    names: Names,
    records: mpsc::Receiver<Record>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    /// Why the last request has failed.
    outage: Option<String>,
}

impl Exporting {
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(SENT_TOGETHER);
        while let Some(Some(first)) = self.stop.clone().run_until_cancelled(self.records.recv()).await {
            batch.push(first);
            self.stop.clone().run_until_cancelled(self.fill(&mut batch)).await;
            if !self.export(&mut batch).await {
                self.stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
            }
        }
        self.records.close();
        while self.records.recv_many(&mut batch, SENT_TOGETHER).await > 0 && self.export(&mut batch).await {}
    }

    /// Adds records for a moment, unless the batch is full before.
    async fn fill(&mut self, batch: &mut Vec<Record>) {
        let more = async {
            while batch.len() < SENT_TOGETHER {
                let room = SENT_TOGETHER - batch.len();
                if self.records.recv_many(batch, room).await == 0 {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(LINGER, more).await;
    }

    /// Sends the records. Returns whether the collector has taken them. They are gone in any case.
    async fn export(&mut self, batch: &mut Vec<Record>) -> bool {
        let count: u64 = batch.iter().map(Record::spans).sum();
        let body = self.names.request(batch.drain(..)).encode_to_vec();
        let sent = tokio::time::timeout(self.timeout, post(&self.target, body)).await;
        let late = || format!("no answer within {:?}", self.timeout);
        let refused = match sent {
            Ok(Ok(refused)) => refused.min(count),
            Ok(Err(error)) => return self.failed(count, format!("{error:#}")),
            Err(_) => return self.failed(count, late()),
        };
        self.metrics.spans(SpanResult::Exported).increment(count - refused);
        self.metrics.spans(SpanResult::Failed).increment(refused);
        if self.outage.take().is_some() {
            info!(collector = self.target.authority(), "the collector takes spans again");
        }
        true
    }

    /// Counts spans that were not taken, and logs the first of several failures.
    fn failed(&mut self, count: u64, reason: String) -> bool {
        self.metrics.spans(SpanResult::Failed).increment(count);
        if self.outage.is_none() {
            let collector = self.target.authority();
            warn!(collector, reason, "spans can't be exported: they are dropped until the collector takes them");
        }
        self.outage = Some(reason);
        false
    }
}

/// Sends a request with spans. Returns how many of them the collector refuses.
async fn post(target: &Target, body: Vec<u8>) -> anyhow::Result<u64> {
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await.context("can't connect")?;
    let request = Request::post(&target.path)
        .header(header::HOST, target.authority())
        .header(header::USER_AGENT, concat!("settled/", env!("CARGO_PKG_VERSION")))
        .header(header::CONTENT_TYPE, "application/x-protobuf")
        .body(Full::new(Bytes::from(body)))?;
    let (status, answer) = http::exchange(stream, request).await?;
    if !status.is_success() {
        bail!("the collector answers {status}");
    }
    // An answer that is not readable says no more than its status.
    let partial = ExportTraceServiceResponse::decode(answer).unwrap_or_default().partial_success;
    Ok(partial.map_or(0, |partial| u64::try_from(partial.rejected_spans).unwrap_or_default()))
}
