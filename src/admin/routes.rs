use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::json;
use settled_pipeline::health::Health;
use settled_pipeline::settings::Live;

use crate::telemetry::exporter::Exporter;

#[derive(Clone)]
pub(super) struct AdminState {
    pub(super) health: Arc<Health>,
    pub(super) exporter: Arc<Exporter>,
    pub(super) liveness_timeout: Live<Duration>,
}

/// Listed in the body of a 404.
const ENDPOINTS: [&str; 3] = ["/livez", "/readyz", "/metrics"];

pub(super) fn router(state: AdminState) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(state)
}

async fn livez(State(state): State<AdminState>) -> Response {
    let progress = state.health.progress();
    let stalled = progress.stalled_for(Instant::now());
    let liveness_timeout = *state.liveness_timeout.get();
    let live = stalled <= liveness_timeout;
    let report = json!({
        "live": live,
        "in_flight": progress.in_flight(),
        "seconds_without_progress": stalled.as_secs_f64(),
        "liveness_timeout_seconds": liveness_timeout.as_secs_f64(),
    });
    (ok_or_unavailable(live), Json(report)).into_response()
}

async fn readyz(State(state): State<AdminState>) -> Response {
    let readiness = state.health.readiness();
    (ok_or_unavailable(readiness.ready), Json(readiness)).into_response()
}

/// On another thread: it takes milliseconds, in which the pipeline's thread would do nothing else.
async fn metrics(State(state): State<AdminState>) -> Response {
    match tokio::task::spawn_blocking(move || state.exporter.render()).await {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
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
