//! The endpoints.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::json;

use crate::health::Health;
use crate::telemetry::exporter::Exporter;

/// What the endpoints look at.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) health: Arc<Health>,
    pub(super) exporter: Arc<Exporter>,
    pub(super) liveness_timeout: Duration,
}

/// The endpoints, as they are listed to those who ask for another.
const ENDPOINTS: [&str; 3] = ["/livez", "/readyz", "/metrics"];

pub(super) fn router(seen: Seen) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(seen)
}

async fn livez(State(seen): State<Seen>) -> Response {
    let progress = seen.health.progress();
    let stalled = progress.stalled_for(Instant::now());
    let live = stalled <= seen.liveness_timeout;
    let report = json!({
        "live": live,
        "in_flight": progress.in_flight(),
        "seconds_without_progress": stalled.as_secs_f64(),
        "liveness_timeout_seconds": seen.liveness_timeout.as_secs_f64(),
    });
    (ok_or_unavailable(live), Json(report)).into_response()
}

async fn readyz(State(seen): State<Seen>) -> Response {
    let readiness = seen.health.readiness();
    (ok_or_unavailable(readiness.ready), Json(readiness)).into_response()
}

async fn metrics(State(seen): State<Seen>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], seen.exporter.render()).into_response()
}

async fn not_found(uri: Uri) -> Response {
    let report = json!({ "error": format!("there is no {}", uri.path()), "endpoints": ENDPOINTS });
    (StatusCode::NOT_FOUND, Json(report)).into_response()
}

async fn method_not_allowed(method: Method) -> Response {
    let report = json!({ "error": format!("{method} is not allowed: everything here is read with GET") });
    (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")], Json(report)).into_response()
}

fn ok_or_unavailable(ok: bool) -> StatusCode {
    if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
