//! The admin server, as probes and scrapers see it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use settled::admin::{AdminServer, Limits};
use settled::telemetry::exporter::Exporter;
use settled_pipeline::health::{Dependency, Health};
use settled_pipeline::metrics::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

struct Served {
    address: SocketAddr,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

async fn served(liveness_timeout: Duration) -> Served {
    served_with(liveness_timeout, Limits::default()).await
}

async fn served_with(liveness_timeout: Duration, limits: Limits) -> Served {
    let exporter = Exporter::install();
    let metrics = Arc::new(Metrics::register(1));
    exporter.watch_process(Arc::clone(&metrics));
    let health = Health::new(Arc::clone(&metrics));
    let server = AdminServer::bind("127.0.0.1:0".parse().expect("an address")).await.expect("a free port");
    let server = server.limited_to(limits);
    let address = server.local_addr();
    let stop = CancellationToken::new();
    let task = tokio::spawn(server.serve(Arc::clone(&health), exporter, liveness_timeout, stop.clone()));
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

    /// Connects from an address of the loopback network.
    async fn from(&self, address: [u8; 4]) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((address, 0).into()).expect("an address of this host");
        socket.connect(self.address).await.expect("connects")
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
    served.task.await.expect("no panic");
    assert!(asked.elapsed() < Duration::from_secs(2));
    assert!(TcpStream::connect(served.address).await.is_err(), "it doesn't listen any more");
}

/// Opens `count` connections that send one more line of a header every so often and never the last one. Each is opened
/// again a second after the server has closed it.
fn slow_headers(address: SocketAddr, count: usize) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for _ in 0..count {
        clients.spawn(async move {
            loop {
                let Ok(mut stream) = TcpStream::connect(address).await else { return };
                let mut sent = stream.write_all(b"GET /livez HTTP/1.1\r\nHost: settled\r\n").await;
                while sent.is_ok() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    sent = stream.write_all(b"X-Slow: 1\r\n").await;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
    }
    clients
}

#[tokio::test]
async fn a_health_check_is_answered_while_others_hold_all_connections_with_slow_headers() {
    let served = served(Duration::from_secs(30)).await;
    let _slow = slow_headers(served.address, 100);
    // Long enough for all of them to be connected.
    tokio::time::sleep(Duration::from_millis(300)).await;
    for _ in 0..10 {
        let answer = timeout(Duration::from_secs(5), served.get("/livez")).await.expect("an answer at once");
        assert_eq!(answer.0, 200);
    }
}

/// Short deadlines, for tests that wait for them.
const HASTY: Limits = Limits {
    connections: 64,
    per_address: 16,
    request: Duration::from_millis(300),
    response: Duration::from_millis(300),
};

/// Waits until the server closes the connection, and returns what it has sent.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut response = Vec::new();
    // A reset is an end, too.
    let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut response)).await.expect("the connection ends");
    String::from_utf8_lossy(&response).into_owned()
}

#[tokio::test]
async fn headers_have_a_deadline_however_often_another_line_comes() {
    let served = served_with(Duration::from_secs(30), HASTY).await;
    let silent = TcpStream::connect(served.address).await.expect("connects");
    let slow = TcpStream::connect(served.address).await.expect("connects");
    let (mut answer, mut lines) = slow.into_split();
    lines.write_all(b"GET /livez HTTP/1.1\r\nHost: settled\r\n").await.expect("sent");
    let drip = tokio::spawn(async move {
        while lines.write_all(b"X-Slow: 1\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    timeout(Duration::from_secs(20), drip).await.expect("the connection ends").expect("no panic");
    let mut rest = Vec::new();
    let _ = answer.read_to_end(&mut rest).await;
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
    until_closed(&mut { silent }).await;
}

#[tokio::test]
async fn a_body_is_not_waited_for() {
    let served = served(Duration::from_secs(30)).await;
    for (method, status) in [("POST", "405"), ("GET", "200")] {
        let mut stream = TcpStream::connect(served.address).await.expect("connects");
        let head = format!("{method} /livez HTTP/1.1\r\nHost: settled\r\nContent-Length: 1000000\r\n\r\nx");
        stream.write_all(head.as_bytes()).await.expect("sent");
        let response = until_closed(&mut stream).await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{response}");
    }
}

#[tokio::test]
async fn a_response_has_a_deadline_however_slowly_it_is_read() {
    let served = served_with(Duration::from_secs(30), HASTY).await;
    let stream = TcpStream::connect(served.address).await.expect("connects");
    let (mut responses, mut requests) = stream.into_split();
    // Far more than the buffers of both sockets hold.
    let asked = tokio::spawn(async move {
        while requests.write_all(b"GET /metrics HTTP/1.1\r\nHost: settled\r\n\r\n").await.is_ok() {}
    });
    // Something is read all the time.
    let reading = async {
        loop {
            let _ = responses.read_u8().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        ended = timeout(Duration::from_secs(30), asked) => ended.expect("the connection ends").expect("no panic"),
        () = reading => {}
    }
}

#[tokio::test]
async fn one_client_can_have_some_of_the_connections_and_closes_nobody_elses() {
    let served = served(Duration::from_secs(30)).await;
    let request = b"GET /livez HTTP/1.1\r\nHost: settled\r\n";
    let mut other = served.from([127, 0, 0, 2]).await;
    other.write_all(request).await.expect("sent");
    let _slow = slow_headers(served.address, 100);
    tokio::time::sleep(Duration::from_millis(300)).await;
    other.write_all(b"Connection: close\r\n\r\n").await.expect("sent");
    assert!(until_closed(&mut other).await.starts_with("HTTP/1.1 200"), "it was closed for the sake of others");

    // One each of many clients, and still there is a place.
    let mut crowd = Vec::new();
    for host in 3..=102 {
        let mut stream = served.from([127, 0, 0, host]).await;
        stream.write_all(request).await.expect("sent");
        crowd.push(stream);
    }
    assert_eq!(served.get("/livez").await.0, 200);
    let last = crowd.last_mut().expect("many");
    last.write_all(b"Connection: close\r\n\r\n").await.expect("sent");
    assert!(until_closed(last).await.starts_with("HTTP/1.1 200"));
    until_closed(crowd.first_mut().expect("many")).await;
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another() {
    let served = served(Duration::from_secs(30)).await;
    let mut stream = TcpStream::connect(served.address).await.expect("connects");
    for _ in 0..3 {
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: settled\r\n\r\n").await.expect("sent");
        let mut response = [0; 12];
        stream.read_exact(&mut response).await.expect("answered");
        assert_eq!(&response, b"HTTP/1.1 503");
        // What is left of it is read with the next.
        let mut rest = vec![0; 64 * 1024];
        let _ = stream.read(&mut rest).await.expect("the rest");
    }
}
