//! A collector: a real endpoint for OTLP over HTTP, which decodes what it is sent.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use prost::Message;
use settled_testkit::harness::eventually;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// Receives spans until it is dropped.
pub(super) struct Collector {
    pub(super) url: String,
    received: Arc<Received>,
    _serving: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Received {
    spans: Mutex<Vec<Span>>,
    resource: Mutex<Vec<KeyValue>>,
    delay: Duration,
}

impl Collector {
    pub(super) async fn start() -> Self {
        Self::with_delay(Duration::ZERO).await
    }

    /// Starts one that answers each request after `delay`.
    pub(super) async fn with_delay(delay: Duration) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.expect("a port"), delay)
    }

    pub(super) fn on(listener: TcpListener, delay: Duration) -> Self {
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let received = Arc::new(Received { delay, ..Received::default() });
        let router = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&received));
        let serving = tokio::spawn(async { axum::serve(listener, router).await.expect("it serves") });
        Self { url, received, _serving: AbortOnDropHandle::new(serving) }
    }

    /// Returns the setting with which a daemon exports to it.
    pub(super) fn setting(&self) -> String {
        format!("traces.endpoint = {:?}", self.url)
    }

    pub(super) fn spans(&self) -> Vec<Span> {
        self.received.spans.lock().clone()
    }

    /// Waits for a span for which `is_it` returns true.
    pub(super) async fn span(&self, what: &str, is_it: impl Fn(&Span) -> bool) -> Span {
        let mut found = None;
        eventually(&format!("a span: {what}"), async || {
            found = self.received.spans.lock().iter().find(|span| is_it(span)).cloned();
            found.is_some()
        })
        .await;
        found.expect("it came")
    }

    /// Waits for the span with this name whose parent is `parent`.
    pub(super) async fn child(&self, parent: &[u8], name: &str) -> Span {
        self.span(name, |span| span.name == name && span.parent_span_id == parent).await
    }

    /// Returns an attribute of the process.
    pub(super) fn resource(&self, key: &str) -> Option<String> {
        text_of(&self.received.resource.lock(), key)
    }
}

async fn take(State(received): State<Arc<Received>>, headers: HeaderMap, body: Bytes) -> Vec<u8> {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let request = ExportTraceServiceRequest::decode(body).expect("a request of OTLP");
    tokio::time::sleep(received.delay).await;
    for of_resource in request.resource_spans {
        *received.resource.lock() = of_resource.resource.expect("a resource").attributes;
        received.spans.lock().extend(of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans));
    }
    ExportTraceServiceResponse::default().encode_to_vec()
}

/// Returns an attribute as text.
pub(super) fn attribute(span: &Span, key: &str) -> Option<String> {
    text_of(&span.attributes, key)
}

fn text_of(attributes: &[KeyValue], key: &str) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{other:?}"),
    }
}
