//! The admin server, as probes and scrapers see it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use settled::admin::AdminServer;
use settled::telemetry::exporter::Exporter;
use settled_pipeline::health::{Dependency, Health};
use settled_pipeline::metrics::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Served {
    address: SocketAddr,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

async fn served(liveness_timeout: Duration) -> Served {
    let exporter = Exporter::install();
    let metrics = Arc::new(Metrics::register(1));
    exporter.watch_process(Arc::clone(&metrics));
    let health = Health::new(Arc::clone(&metrics));
    let server = AdminServer::bind("127.0.0.1:0".parse().expect("an address")).await.expect("a free port");
    let address = server.local_addr();
    let stop = CancellationToken::new();
    let task = tokio::spawn(server.serve(Arc::clone(&health), exporter, liveness_timeout.into(), stop.clone()));
    Served { address, health, metrics, stop, task }
}

impl Served {
    async fn request(&self, method: &str, path: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).await.expect("connects");
        let request = format!("{method} {path} HTTP/1.1\r\nHost: settled\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut response = String::new();
        stream.read_to_string(&mut response).await.expect("answered");
        let (head, body) = response.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, head.to_ascii_lowercase(), body.to_owned())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let (status, head, body) = self.request("GET", path).await;
        assert!(head.contains("content-type: application/json"), "{head}");
        (status, serde_json::from_str(&body).expect("JSON"))
    }

    fn all_up(&self) {
        for &dependency in Dependency::ALL {
            self.health.set_up(dependency);
        }
    }
}

#[tokio::test]
async fn readyz_follows_every_dependency_the_pause_and_the_drain() {
    let served = served(Duration::from_secs(30)).await;
    let (status, report) = served.get("/readyz").await;
    assert_eq!((status, &report["status"]), (503, &Value::from("waiting")));
    assert_eq!(report["dependencies"][0]["name"], "postgres");
    assert_eq!(report["dependencies"][0]["reason"], "not connected yet");

    served.all_up();
    let (status, report) = served.get("/readyz").await;
    assert_eq!((status, &report["ready"]), (200, &Value::from(true)));
    assert_eq!(report["dependencies"].as_array().map(Vec::len), Some(3));
    assert!(report["dependencies"][0].get("reason").is_none(), "{report}");
    assert!(report["dependencies"][0]["since"].is_string(), "{report}");

    served.health.set_down(Dependency::BrokerIntake, "connection refused");
    let (status, report) = served.get("/readyz").await;
    assert_eq!((status, &report["dependencies"][1]["reason"]), (503, &Value::from("connection refused")));

    served.all_up();
    served.health.pause("PostgreSQL: no space left on device");
    let (status, report) = served.get("/readyz").await;
    assert_eq!((status, &report["status"]), (503, &Value::from("paused")));
    assert_eq!(report["paused"]["reason"], "PostgreSQL: no space left on device");

    served.health.resume();
    served.health.drain();
    let (status, report) = served.get("/readyz").await;
    assert_eq!((status, &report["status"]), (503, &Value::from("draining")));
}

#[tokio::test]
async fn livez_fails_only_when_work_does_not_move() {
    let served = served(Duration::from_millis(40)).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(served.get("/livez").await.0, 200, "idle, and nothing up: still live");

    served.health.progress().entered(2);
    tokio::time::sleep(Duration::from_millis(60)).await;
    let (status, report) = served.get("/livez").await;
    assert_eq!((status, &report["in_flight"]), (503, &Value::from(2)));

    served.health.progress().settled(2);
    assert_eq!(served.get("/livez").await.0, 200);
}

#[tokio::test]
async fn metrics_are_text_for_prometheus() {
    let served = served(Duration::from_secs(30)).await;
    served.metrics.transaction_seconds.record(0.000_08);
    let (status, head, body) = served.request("GET", "/metrics").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    for metric in [
        "settled_transaction_seconds_bucket{le=\"0.0001\"}",
        "settled_build_info{version=",
        "process_resident_memory_bytes ",
        "process_open_fds ",
    ] {
        assert!(body.contains(metric), "{metric}:\n{body}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_answered_with_what_is() {
    let served = served(Duration::from_secs(30)).await;
    let (status, report) = served.get("/healthz").await;
    assert_eq!((status, &report["endpoints"][1]), (404, &Value::from("/readyz")));
    let (status, head, _) = served.request("POST", "/livez").await;
    assert!(status == 405 && head.contains("allow: get"), "{status} {head}");
}

#[tokio::test]
async fn a_taken_address_is_reported_with_the_setting_to_change() {
    let served = served(Duration::from_secs(30)).await;
    let error = AdminServer::bind(served.address).await.err().expect("taken");
    assert!(error.to_string().starts_with(&format!("admin.listen = \"{}\": can't listen", served.address)), "{error}");
}

#[tokio::test]
async fn it_stops_when_told_whatever_clients_do() {
    let served = served(Duration::from_secs(30)).await;
    let mut halfway = TcpStream::connect(served.address).await.expect("connects");
    halfway.write_all(b"GET /livez HT").await.expect("sent");
    tokio::time::sleep(Duration::from_millis(20)).await;
    let asked = Instant::now();
    served.stop.cancel();
    served.task.await.expect("no panic").expect("no error");
    assert!(asked.elapsed() < Duration::from_secs(2));
    assert!(TcpStream::connect(served.address).await.is_err(), "it doesn't listen any more");
}
